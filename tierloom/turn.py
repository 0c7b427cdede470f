"""Turns: what runs on a schedule is done by one process at a time, however often it is started.

A lease (`tierloom.lease`) keeps a version, and anybody may hold one; a turn is of a deed, and one holds it. Each deed
has one object, changed by compare-and-swap only and never removed, with an end that its holder moves on. Once the end
has passed, another may take the turn over, and each holder has a higher number than all before. That number is a
fence: whoever publishes or removes something asks before whether the turn still is his, so that a holder who was
stopped, or whose machine slept, does nothing more when he wakes and another has begun.

What readers see never hangs on it: two writers at once are safe without (`tierloom.commit`), only twice the work.
"""

import contextlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.errors import Corrupt, Malformed, RevisionMismatch, TurnHeld, TurnLost
from tierloom.lease import CLOCK_SKEW
from tierloom.living import ProcessMark, is_gone
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Revision, Store

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Term:
    """How long a turn is held without being renewed, and how long after that nobody takes it over: the clocks of two
    machines may differ by so much."""

    duration: timedelta = timedelta(minutes=2)
    skew: timedelta = CLOCK_SKEW


TERM: Final = Term()


class TurnRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored of a turn: who holds it, or held it last. `since` and `expires` are seconds since 1970; `number`
    rises with every holder, `serial` with every renewal, and `token` is the holder's own."""

    deed: str
    number: Count
    holder: str
    token: str
    since: float
    expires: float
    serial: Count = 0
    ended: bool = False
    process: ProcessMark | None = None
    format: Literal[1] = FORMAT

    def is_free(self, now: float, skew: timedelta) -> bool:
        """Whether another may take it at `now`."""
        if self.ended or self.expires + skew.total_seconds() < now:
            return True
        return self.process is not None and is_gone(self.process)


@dataclass(frozen=True, slots=True)
class Fence:
    """One holding of a turn: what must still be true before anything is published or removed. A plain value, which a
    worker on another machine can ask as well."""

    deed: str
    number: int
    token: str


def take_turn(
    store: Store, deed: str, holder: str, now: float, term: Term = TERM, process: ProcessMark | None = None
) -> Fence:
    """Take the turn of a deed. Raises `TurnHeld` when another has it, and says who and since when."""
    token = secrets.token_hex(16)
    while True:
        seen = read_turn(store, deed)
        last, revision = seen or (None, None)
        if last is not None and last.token == token:
            # It was ours already, and only the answer was lost.
            return Fence(deed, last.number, token)
        if last is not None and not last.is_free(now, term.skew):
            raise TurnHeld(_held(store, last, term))
        number = last.number + 1 if last else 1
        expires = now + term.duration.total_seconds()
        mine = TurnRecord(deed, number, holder, token, now, expires, process=process)
        with contextlib.suppress(RevisionMismatch):
            store.swap(names.turn(deed), seal(mine), revision)
            return Fence(deed, number, token)


def renew_turn(store: Store, fence: Fence, now: float, term: Term = TERM) -> float:
    """Hold a turn for longer; until when, in seconds since 1970. Raises `TurnLost` when another has taken it."""
    while True:
        record, revision = _own(store, fence)
        moved = msgspec.structs.replace(
            record, expires=max(record.expires, now + term.duration.total_seconds()), serial=record.serial + 1
        )
        with contextlib.suppress(RevisionMismatch):
            store.swap(names.turn(fence.deed), seal(moved), revision)
            return moved.expires


def check_turn(store: Store, fence: Fence, now: float, term: Term = TERM) -> None:
    """Make sure that a turn is held, and for long enough to do one thing. Raises `TurnLost` when another has it.

    One that ran out is taken up again if nobody took it meanwhile: then nobody did the same work.
    """
    record, _ = _own(store, fence)
    if record.expires - now < term.duration.total_seconds() / 2:
        renew_turn(store, fence, now, term)


def end_turn(store: Store, fence: Fence) -> None:
    """Let go of a turn, if it still is held."""
    with contextlib.suppress(TurnLost):
        while True:
            record, revision = _own(store, fence)
            with contextlib.suppress(RevisionMismatch):
                store.swap(names.turn(fence.deed), seal(msgspec.structs.replace(record, ended=True)), revision)
                return


def read_turn(store: Store, deed: str) -> tuple[TurnRecord, Revision] | None:
    """Who holds a turn or held it last; None if nobody ever did. Raises `Corrupt` or `Malformed`."""
    name = names.turn(deed)
    if (seen := store.read_revision(name)) is None:
        return None
    try:
        return unseal(seen[0], TurnRecord, name, FORMAT), seen[1]
    except (Corrupt, Malformed) as error:
        raise type(error)(f"{store.url}: {error}; if nobody is at {deed}, remove this object") from error


def _own(store: Store, fence: Fence) -> tuple[TurnRecord, Revision]:
    seen = read_turn(store, fence.deed)
    if seen is None:
        raise TurnLost(f"{store.url}: {names.turn(fence.deed)} is gone, and with it the turn; run it again")
    record, _ = seen
    if record.token != fence.token:
        raise TurnLost(
            f"{store.url}: {record.holder} has taken over {fence.deed} at {told(record.since)}, because this process "
            "did not renew its turn in time (it was stopped, or its machine slept); nothing more is published or "
            "removed by it, and nothing is lost"
        )
    if record.ended:
        raise TurnLost(f"{store.url}: the turn to {fence.deed} has been let go of; run it again")
    return seen


def _held(store: Store, record: TurnRecord, term: Term) -> str:
    over = told(record.expires + term.skew.total_seconds())
    return (
        f"{store.url}: {record.holder} is at {record.deed} since {told(record.since)}; nothing was done. Wait for it "
        f"with --wait 1h, or run it later; if that process has died, it is taken over after {over}"
    )


def told(seconds: float) -> str:
    """A moment, in seconds since 1970, as people read it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
