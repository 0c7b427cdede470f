"""Gathering inputs until they fill a batch: requests go to a file as they come, so that no text is held in memory."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from random import randrange
from typing import Final

from tierloom.canaries import MOST_TEXTS, Canaries, canary_inputs
from tierloom.canary_room import Packed, canary_bound, pack_with_canaries
from tierloom.checkpoint import Checkpoint
from tierloom.digest import digest_of
from tierloom.embedders.batch_lines import MAX_BYTES, MAX_INPUTS, SentCanary, request_line
from tierloom.embedders.packing import pack

PROBE: Final = "hello"
# Of the file, kept free for the probe.
_PROBE_BYTES: Final = 4096
# Its bytes, and the marks that some models put around a text.
PROBE_TOKENS: Final = len(PROBE) + 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input that has to be sent: its content hash, its text, and a bound of its tokens."""

    content: bytes
    text: str
    tokens: int

    def tokens_at(self, attempt: int) -> int:
        """What it may cost to send it for so many a time: then a probe goes along, perhaps for it alone."""
        return self.tokens + (PROBE_TOKENS if attempt > 1 else 0)


@dataclass(slots=True)
class Gathering:
    """Requests of a batch to be, in the file at `path`. `contents` are the hashes of their inputs, in order, each with
    a bound of its tokens; `shards` wait for them; `tokens` bounds what all of it costs, with the `canaries` that go
    along."""

    path: Path
    attempt: int
    contents: dict[bytes, int] = field(default_factory=dict)
    shards: set[str] = field(default_factory=set)
    canaries: int = 0
    tokens: int = 0
    bytes: int = 0

    def digest(self, checkpoint: str) -> str:
        """Names the batch by what goes into it."""
        return digest_of("batch", checkpoint, self.attempt, b"".join(self.contents).hex())


class Gatherer:
    """Packs requests into batches within the limits of the API. `tokens_at_most` bounds a batch besides, unless it is
    of one request.

    Inputs that were sent before go apart from those that were not, with a probe beside them.
    """

    def __init__(self, checkpoint: Checkpoint, folder: Path, canaries: Callable[[], Canaries] | None = None) -> None:
        """With `canaries`, which are read when they are due, a request that has room for one carries it."""
        self._checkpoint, self._limits, self._folder = checkpoint, checkpoint.limits, folder
        self._read_canaries = canaries
        self._turns = count(randrange(MOST_TEXTS))
        self._open: dict[int, Gathering] = {}
        self._full: deque[Gathering] = deque()
        self._made = 0
        self.tokens_at_most: float = float("inf")

    def add(self, shard: str, attempt: int, wanted: Sequence[Wanted], alone: bool = False) -> None:
        """Gather inputs that a vector shard waits for: in as few requests as there can be, or each `alone` in one."""
        packed = self._packed([one.tokens for one in wanted], alone)
        for part, carrying in zip(packed.ranges, packed.carrying, strict=True):
            self._add_request(shard, attempt, wanted[part.start : part.stop], carrying)

    @property
    def full(self) -> bool:
        """Whether a batch is full: it should be sent before more is gathered."""
        return bool(self._full)

    def next(self) -> Gathering | None:
        """The batch to be sent next: a full one, if there is one. It stays until it is `taken`."""
        if not self._full and self._open:
            self._close(min(self._open))
        return self._full[0] if self._full else None

    def taken(self) -> None:
        """The next batch is gathered no more."""
        self._full.popleft().path.unlink(missing_ok=True)

    def holds(self, content: bytes) -> bool:
        """Whether an input is gathered, and not yet sent."""
        return any(content in gathering.contents for gathering in (*self._full, *self._open.values()))

    def bound_of(self, attempt: int, wanted: Sequence[Wanted], alone: bool) -> int:
        """The tokens that it takes to send these inputs for so many a time, at most."""
        packed = self._packed([one.tokens for one in wanted], alone)
        return sum(one.tokens_at(attempt) for one in wanted) + sum(packed.carrying) * canary_bound(self._checkpoint)

    def instead(self, shard: str, other: str | None) -> None:
        """The vector shard `other`, if any, takes the place of one that will not be made."""
        for gathering in (*self._full, *self._open.values()):
            if shard in gathering.shards:
                gathering.shards = gathering.shards - {shard} | ({other} if other else set())

    def _packed(self, tokens: Sequence[int], alone: bool) -> Packed:
        if self._read_canaries:
            return pack_with_canaries(tokens, self._checkpoint, self._limits.tokens_per_request, alone)
        most = 1 if alone else self._limits.inputs_per_request
        ranges = pack(tokens, most, self._limits.tokens_per_request)
        return Packed(ranges, [False] * len(ranges))

    def _add_request(self, shard: str, attempt: int, wanted: Sequence[Wanted], carrying: bool) -> None:
        gathering = self._open.get(attempt) or self._begin(attempt)
        canary = self._next_canary() if carrying else None
        line, tokens = self._line(gathering, wanted, canary), sum(one.tokens_at(attempt) for one in wanted)
        tokens += canary_bound(self._checkpoint) if canary else 0
        inputs = len(wanted) + (canary is not None)
        if gathering.contents and not self._fits(gathering, inputs, len(line), tokens):
            self._close(attempt)
            gathering = self._begin(attempt)
            line = self._line(gathering, wanted, canary)
        _append(gathering, line)
        gathering.contents.update((one.content, one.tokens) for one in wanted)
        gathering.canaries += canary is not None
        gathering.shards.add(shard)
        gathering.tokens += tokens

    def _line(self, gathering: Gathering, wanted: Sequence[Wanted], canary: SentCanary | None) -> bytes:
        start = len(gathering.contents)
        asked = range(start, start + len(wanted))
        return request_line(asked, self._checkpoint, [one.text for one in wanted], canary)

    def _next_canary(self) -> SentCanary:
        place = next(self._turns) % len(self._canaries)
        return SentCanary(place, self._canaries[place])

    @cached_property
    def _canaries(self) -> list[str]:
        canaries = self._read_canaries() if self._read_canaries else None
        return canary_inputs(self._checkpoint.space, canaries.texts) if canaries else []

    def _fits(self, gathering: Gathering, inputs: int, line: int, tokens: int) -> bool:
        return (
            len(gathering.contents) + gathering.canaries + inputs <= MAX_INPUTS
            and gathering.bytes + line <= MAX_BYTES - _PROBE_BYTES
            and gathering.tokens + tokens <= self.tokens_at_most
        )

    def _begin(self, attempt: int) -> Gathering:
        self._made += 1
        gathering = Gathering(self._folder / f"batch-{self._made}.jsonl", attempt)
        self._open[attempt] = gathering
        return gathering

    def _close(self, attempt: int) -> None:
        gathering = self._open.pop(attempt)
        if attempt > 1:
            _append(gathering, request_line(None, self._checkpoint, [PROBE]))
        self._full.append(gathering)


def _append(gathering: Gathering, line: bytes) -> None:
    with gathering.path.open("ab") as file:
        file.write(line)
    gathering.bytes += len(line)
