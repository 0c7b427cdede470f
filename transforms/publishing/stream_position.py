"""How far an unbounded pipeline has published its source, though bundles arrive in any order and more than once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tierloom.manifest import Cursor
from transforms.bundle import BundleOutcome
from transforms.publishing.outcome import CursorMove

Positions = Mapping[str, int]
_Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a pipeline has published: everything of a partition up to its position, and the ranges `beyond` a gap.

    `version` is the newest version when it last looked.
    """

    version: int = 0
    positions: Positions = field(default_factory=dict)
    beyond: Mapping[str, _Ranges] = field(default_factory=dict)

    def with_outcomes(self, outcomes: Iterable[BundleOutcome]) -> "Taken":
        """With what these bundles passed."""
        positions, beyond = dict(self.positions), dict(self.beyond)
        for passed in (one for outcome in outcomes for one in outcome.passed):
            position = positions.get(passed.partition, passed.first)
            ranges = (*beyond.get(passed.partition, ()), (passed.start, passed.stop))
            positions[passed.partition], beyond[passed.partition] = _joined(position, ranges)
        return replace(self, positions=positions, beyond=beyond)


def _joined(position: int, ranges: Sequence[tuple[int, int]]) -> tuple[int, _Ranges]:
    """The position behind all ranges that follow it without a gap, and the other ranges."""
    beyond: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if start <= position:
            position = max(position, stop)
        else:
            beyond.append((start, stop))
    return position, tuple(beyond)


def cursor_move(
    source: str, holder: str, taken_up: Positions, reached: Taken, held: Cursor | None
) -> CursorMove | None:
    """The move of the manifest's cursor from where it is `held` to what is `reached`; None without positions.

    `taken_up` is where the pipeline took up each partition. What itself moved never goes back, should the runner go
    back to its last checkpoint; what others left is replaced, be it further on: all before either position is
    published, unless the topic was made anew and is taken from its beginning.
    """
    if not reached.positions:
        return None
    mine = held.positions if held and held.holder == holder else taken_up
    after = {**mine, **{name: max(at, mine.get(name, at)) for name, at in reached.positions.items()}}
    return CursorMove(source, held.positions if held else None, after, holder)
