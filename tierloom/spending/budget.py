"""What a run has spent, and may still: never more than its caps, whoever asks at the same time, or dies.

Before a request is sent, an upper bound of what it may cost is set aside; when its answer is there, what was billed
takes the place of the bound. What is never heard of again (its worker was killed, the connection broke) stays counted
at its bound: it may have been billed.
"""

import math
from pathlib import Path

import msgspec

from tierloom.spending.shared_value import SharedValue
from tierloom.spending.terms import Spending


class Spent(msgspec.Struct):
    """Tokens and picodollars that are billed, or set aside.

    `stretch` is, by model, how far a bill ever exceeded its bound: a model that counts tokens otherwise than its
    checkpoint says is believed, and its bounds are stretched so.
    """

    tokens: int = 0
    picodollars: int = 0
    stretch: dict[str, float] = {}


class Budget:
    """One model's side of what a run may spend. Safe to use from several threads."""

    def __init__(self, spending: Spending) -> None:
        self._spending = spending
        self._stretch = 1.0
        path = Path(spending.folder) / "spent.json" if spending.folder else None
        self._shared = SharedValue(Spent, path)

    def stretched(self, bound: int) -> int:
        """The tokens to hold for what costs at most `bound` by the checkpoint's own count."""
        return math.ceil(bound * self._stretch)

    def set_aside(self, tokens: int) -> bool:
        """Count so many tokens as spent, unless a cap forbids it."""
        with self._shared.changing() as spent:
            self._stretch = spent.stretch.get(self._spending.model, 1.0)
            if allowed := self._allows(spent, tokens):
                self._count(spent, tokens)
            return allowed

    def settle(self, bound: int, held: int, billed: int) -> None:
        """What at most `bound` tokens were expected of, and `held` were set aside for, was billed with `billed`."""
        with self._shared.changing() as spent:
            self._count(spent, billed - held)
            if billed > bound * self._stretch > 0:
                self._stretch = spent.stretch[self._spending.model] = billed / bound

    def spent(self) -> Spent:
        """What is billed or set aside by now, by all workers of this machine."""
        with self._shared.changing() as spent:
            return msgspec.structs.replace(spent)

    def close(self) -> None:
        self._shared.close()

    def _allows(self, spent: Spent, tokens: int) -> bool:
        most, most_dollars = self._spending.max_tokens, self._spending.max_picodollars
        dollars = spent.picodollars + tokens * self._spending.picodollars_per_token
        return (most is None or spent.tokens + tokens <= most) and (most_dollars is None or dollars <= most_dollars)

    def _count(self, spent: Spent, tokens: int) -> None:
        spent.tokens += tokens
        spent.picodollars += tokens * self._spending.picodollars_per_token
