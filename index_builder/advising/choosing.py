"""Which of the measured options are worth having, and which one to take."""

from collections.abc import Sequence
from dataclasses import dataclass

from index_builder.advising.measuring import Option
from tierloom.gate import SHORTLISTS


def pareto_front(options: Sequence[Option]) -> list[bool]:
    """Of each option, whether none of the others is at least as good in bytes, time and recall, and better in one."""
    return [not any(_dominates(other, option) for other in options) for option in options]


def _dominates(one: Option, other: Option) -> bool:
    costs, others = _costs(one), _costs(other)
    return costs != others and all(a <= b for a, b in zip(costs, others, strict=True))


def _costs(option: Option) -> tuple[float, float, float]:
    return option.bytes_per_vector, option.milliseconds, -option.recall.mean


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a tier: recall of at least `floor`, and at most `memory` bytes where that is not None."""

    floor: float
    memory: int | None = None


def choose(options: Sequence[Option], wish: Wish, sample: int, rows: int, stored: int) -> Option | None:
    """The option to take for `rows` vectors, measured on a `sample` of them; None when none is within the budget.

    Only those with at most `stored` dimensions can be had. Those that reach the floor with the low end of their
    interval come first: with a budget the fastest of them, without one the smallest. If none does, it is
    the one that finds most. Where the sample is only a part, those come before that a gate would pass even if
    shortlists had to grow as the rows do.
    """
    fitting = [
        option
        for option in options
        if option.tier.dimensions <= stored and (wish.memory is None or option.bytes_per_vector * rows <= wish.memory)
    ]
    reaching = [option for option in fitting if option.recall.low >= wish.floor]
    safe = [option for option in reaching if largest_shortlist(option, sample, rows) <= SHORTLISTS[-1]]
    if sound := safe or reaching:
        return min(sound, key=_by_size if wish.memory is None else _by_time)
    return max(fitting, key=lambda option: (option.recall.mean, -option.milliseconds), default=None)


def largest_shortlist(option: Option, sample: int, rows: int) -> int:
    """What the shortlist may have to be among all rows: each candidate has more rivals, at most as many times more."""
    return -(-option.shortlist * max(rows, sample) // sample)


def _by_time(option: Option) -> tuple[float, float]:
    return option.milliseconds, option.bytes_per_vector


def _by_size(option: Option) -> tuple[float, float]:
    return option.bytes_per_vector, option.milliseconds
