"""What a batch was billed, as its lines tell: what they do not tell counts at its bound, unless it surely was free."""

from collections.abc import Callable
from typing import Final

from tierloom.embedders.answers import Answer
from tierloom.embedders.batch_lines import AnsweredLine
from tierloom.embedders.retrying import Fault

# Of an answer that was given, and that nobody can use.
_MAY_BE_BILLED: Final = frozenset({Fault.MALFORMED, Fault.NO_CANARY, Fault.WRONG_DIMENSIONS})


class BatchBill:
    """The lines of one batch, summed up; a request is known by its inputs, the probe by None. What expired or failed is
    free at the provider, and so is what has no line."""

    def __init__(self) -> None:
        self._stated: dict[range | None, int] = {}
        self._unstated: set[range | None] = set()
        self._unread = False

    def take(self, line: AnsweredLine | None) -> None:
        """Note what a line says; None is one that cannot be read."""
        if line is None:
            self._unread = True
        elif isinstance(line.outcome, Answer) and line.outcome.tokens is not None:
            self._stated[line.inputs] = line.outcome.tokens
        elif isinstance(line.outcome, Answer) or line.outcome.fault in _MAY_BE_BILLED:
            self._unstated.add(line.inputs)

    def at_most(self, bound_of: Callable[[range | None], int], whole: int) -> int:
        """The tokens billed, given bounds of those of a request, and of the whole: which counts where a line cannot be
        read."""
        stated = sum(self._stated.values())
        guessed = whole if self._unread else sum(map(bound_of, self._unstated - self._stated.keys()))
        return max(stated, min(stated + guessed, whole))
