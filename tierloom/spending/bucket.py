"""Keeping to the requests and tokens of a minute, across all workers of a machine: two token buckets and a pause.

A bucket holds a tenth of a minute's limit and is filled so that no minute, wherever it begins, sees more than the
limit. What an endpoint says of itself steers it: a Retry-After pauses every worker, not only the one that was told; so
does a header that says that nothing remains.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from tierloom.spending.shared_value import SharedValue
from tierloom.spending.terms import Spending

MINUTE: Final = 60.0
_BURST: Final = 10
_SHORTEST_WAIT: Final = 0.001
# What is asked for beyond that is tried: a run that goes on is told again.
_LONGEST_PAUSE: Final = 600.0
# A limit of a day may reset in hours, though some of it comes back sooner.
_LONGEST_RESET: Final = 60.0

_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Kind = Literal["requests", "tokens"]
_KINDS: Final[tuple[Kind, ...]] = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit per minute, as a bucket: what it holds when it is full, and what flows in each second."""

    per_minute: int

    @property
    def capacity(self) -> int:
        return max(1, self.per_minute // _BURST)

    @property
    def per_second(self) -> float:
        # In less than a minute less than one more than the rest flows in: so many whole ones at most.
        return (self.per_minute - self.capacity + 1) / MINUTE


class Levels(msgspec.Struct):
    """What the buckets hold (negative: in debt), as of `at`; nobody asks before `paused_until`. Times are seconds of
    the clock that all processes of a machine share. `at` is None until somebody asked."""

    requests: float = 0.0
    tokens: float = 0.0
    at: float | None = None
    paused_until: float = 0.0


class Bucket:
    """The rates of one model on one machine. Safe to use from several threads."""

    def __init__(self, spending: Spending, clock: Callable[[], float] = time.monotonic) -> None:
        limits = (spending.requests_per_minute, spending.tokens_per_minute)
        self._rates = {kind: Rate(limit) for kind, limit in zip(_KINDS, limits, strict=True) if limit is not None}
        self._clock = clock
        self._shared = SharedValue(Levels, _path(spending))

    @property
    def tokens_at_once(self) -> int | None:
        """The most that a request may hold to keep to the limit; a single input that is larger is sent all the same,
        and paid off before the next one."""
        return self._rates["tokens"].capacity if "tokens" in self._rates else None

    def take(self, tokens: int) -> float:
        """Take a request of so many tokens, and return 0; or take nothing, and return the seconds to wait before asking
        again."""
        with self._shared.changing() as levels:
            now = self._fill(levels)
            if now < levels.paused_until:
                return levels.paused_until - now
            needed = {"requests": 1, "tokens": tokens}
            wait = max((self._until(levels, kind, needed[kind]) for kind in self._rates), default=0.0)
            if wait <= 0:
                levels.requests -= 1
                levels.tokens -= tokens
                return 0.0
            return max(wait, _SHORTEST_WAIT)

    def give_back(self, tokens: int) -> None:
        """So many tokens were taken for a request, and not used by it."""
        with self._shared.changing() as levels:
            self._fill(levels)
            levels.tokens += tokens
            self._fill(levels)

    def heed(self, headers: Mapping[str, str], retry_after: float | None) -> None:
        """Do as an answer says: its rate-limit headers, and the seconds that it wants nobody to ask for."""
        resets = [(_remaining(headers, kind), _reset(headers, kind), kind) for kind in _KINDS]
        if retry_after is None and all(remaining is None for remaining, _, _ in resets):
            return
        with self._shared.changing() as levels:
            now = self._fill(levels)
            if retry_after is not None:
                self._pause(levels, now + min(retry_after, _LONGEST_PAUSE))
            for remaining, reset, kind in resets:
                if remaining is not None:
                    setattr(levels, kind, min(getattr(levels, kind), remaining))
                if remaining == 0 and reset is not None:
                    self._pause(levels, now + min(reset, _LONGEST_RESET))

    def close(self) -> None:
        self._shared.close()

    def _fill(self, levels: Levels) -> float:
        """Let flow in what came since; the time now."""
        now = self._clock()
        for kind, rate in self._rates.items():
            level = rate.capacity if levels.at is None else getattr(levels, kind) + rate.per_second * (now - levels.at)
            setattr(levels, kind, min(level, rate.capacity))
        levels.at = now
        return now

    def _until(self, levels: Levels, kind: Kind, needed: int) -> float:
        rate = self._rates[kind]
        short: float = min(needed, rate.capacity) - getattr(levels, kind)
        return short / rate.per_second

    @staticmethod
    def _pause(levels: Levels, until: float) -> None:
        levels.paused_until = max(levels.paused_until, until)


def _path(spending: Spending) -> Path | None:
    return Path(spending.folder) / f"rates-{spending.model}.json" if spending.folder else None


def _remaining(headers: Mapping[str, str], kind: Kind) -> int | None:
    stated = headers.get(f"x-ratelimit-remaining-{kind}", "").strip()
    return max(0, int(stated)) if re.fullmatch(r"-?\d{1,15}", stated) else None


def _reset(headers: Mapping[str, str], kind: Kind) -> float | None:
    """Seconds, from a number of them or a duration such as `6m0s` or `120ms`."""
    stated = headers.get(f"x-ratelimit-reset-{kind}", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d+)?", stated):
        return float(stated)
    if not _DURATION.fullmatch(stated):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(stated))
