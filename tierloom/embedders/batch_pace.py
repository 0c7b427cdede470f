"""How often batches are looked at, and how much is submitted at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

# Refusals in a row for more tokens than the account may have in its queue.
_REFUSALS: Final = 100


@dataclass(frozen=True, slots=True)
class Looks:
    """Seconds between two looks at the batches under way: ever longer until something happens."""

    first: float = 5.0
    growth: float = 1.3
    longest: float = 60.0


class Rounds:
    """When it is time to look."""

    def __init__(self, looks: Looks, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._looks, self._clock, self._sleep = looks, clock, sleep
        self._interval = looks.first
        self._next = 0.0

    @property
    def due(self) -> bool:
        return self._clock() >= self._next

    def wait(self) -> None:
        """Wait until it is time."""
        self._sleep(max(0.0, self._next - self._clock()))
        self._next = 0.0

    def looked(self, anew: bool) -> None:
        """Set the time of the next look: soon if `anew`, else after a longer interval than the last."""
        longer = min(self._interval * self._looks.growth, self._looks.longest)
        self._interval = self._looks.first if anew else longer
        self._next = self._clock() + self._interval


class Queue:
    """How much an account has room for. Providers bound the tokens in the queue of a model, and tell it only by
    refusing: then less is submitted, and more again as soon as a batch gets through."""

    def __init__(self, batches: int, least_tokens: int) -> None:
        """At most so many `batches`; no batch is made smaller than `least_tokens`."""
        self._batches, self._least = batches, least_tokens
        self._at_once: float = float("inf")
        self._refusals = 0
        self.tokens_at_most: float = float("inf")

    @property
    def moves(self) -> bool:
        """Whether nothing was refused since the last batch got through."""
        return not self._refusals

    @property
    def stuck(self) -> bool:
        """Whether there is no more sense in trying."""
        return self._refusals >= _REFUSALS

    def has_room(self, under_way: Sequence[int], tokens: int) -> bool:
        """Whether a batch of so many tokens may be submitted beside others of so many."""
        return len(under_way) < self._batches and (not under_way or sum(under_way) + tokens <= self._at_once)

    def refused(self, under_way: Sequence[int], tokens: int) -> None:
        """A batch of so many tokens was refused beside others of so many."""
        self._refusals += 1
        if under_way:
            self._at_once = min(self._at_once, sum(under_way))
        else:
            # Too much by itself, or others of the account fill its queue.
            self.tokens_at_most = min(self.tokens_at_most, max(tokens // 2, self._least))

    def moved(self) -> None:
        """A batch got through."""
        self._refusals = 0
        self._at_once *= 2
        self.tokens_at_most *= 2
