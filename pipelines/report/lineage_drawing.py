"""Where the boxes and the ribbons of a lineage stand, in pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from index_builder.reporting.facts import Facts
from index_builder.reporting.lineage import Lineage, Node, TierNodes
from pipelines.commands.tables import count, size

WIDTH: Final = 1040
_TOP: Final = 34
_HEIGHT: Final = 42
_GAP: Final = 8
_APART: Final = 12
# The ribbon of all rows that there are.
_MOST_RIBBON: Final = 15.0
_COLUMNS: Final = {
    "checkpoint": (1, 168),
    "vector shards": (232, 168),
    "index shards": (464, 168),
    "version": (696, 150),
    "channels": (899, 140),
}
# More versions than these, and more channels of one, are only counted.
_VERSIONS: Final = 8
_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True)
class Box:
    """`series` is the number of the tier's colour; None for a box of no tier."""

    x: float
    y: float
    width: float
    title: str
    note: str = ""
    series: int | None = None
    faint: bool = False
    height: float = _HEIGHT

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A curve from the right side of a box to the left side of another."""

    source: Box
    target: Box
    width: float
    series: int | None = None

    @property
    def path(self) -> str:
        x, y = self.source.x + self.source.width, self.source.middle
        to_x, to_y = self.target.x, self.target.middle
        half = (x + to_x) / 2
        return f"M{x:g} {y:g}C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """`headings` are the names of the columns, and where each begins."""

    boxes: tuple[Box, ...]
    ribbons: tuple[Ribbon, ...]
    headings: tuple[tuple[str, float], ...]
    height: float
    width: float = WIDTH


@dataclass(frozen=True, slots=True)
class _Label:
    """A box that has no place yet; one that stands `apart` begins a new group."""

    title: str
    note: str = ""
    series: int | None = None
    apart: bool = False
    faint: bool = False


def draw(lineage: Lineage, facts: Facts) -> Drawing:
    """Five columns from left to right, each in the middle of the height."""
    space = facts.checkpoint.space
    labels = (
        [_Label(space.model, f"{space.dimensions:,} dimensions")],
        [_vector_label(node) for node in lineage.vectors],
        [_index_label(tier, at, place) for at, tier in enumerate(lineage.tiers) for place in range(len(tier.nodes))],
        [_version_label(version, facts.head.version) for version, _ in _shown(lineage)],
        [label for version, names in _shown(lineage) for label in _channel_labels(names, version, facts.head.version)],
    )
    height = max(map(_height, labels))
    columns = [_column(*place, column, height) for place, column in zip(_COLUMNS.values(), labels, strict=True)]
    return Drawing(
        boxes=tuple(box for column in columns for box in column),
        ribbons=tuple(_ribbons(lineage, _newest(lineage, facts), *columns)),
        headings=tuple((name, x) for name, (x, _) in _COLUMNS.items()),
        height=_TOP + height + 2,
    )


def _shown(lineage: Lineage) -> tuple[tuple[int, tuple[str, ...]], ...]:
    return lineage.channels[:_VERSIONS]


def _vector_label(node: Node) -> _Label:
    if len(node.paths) == 1:
        return _Label(count(node.rows, "row"), size(node.bytes))
    return _Label(count(len(node.paths), "shard"), f"{node.rows:,} rows, {size(node.bytes)}")


def _index_label(tier: TierNodes, at: int, place: int) -> _Label:
    node = tier.nodes[place]
    rows, shards = count(node.rows, "row"), len(node.paths)
    note = f"{rows}, {size(node.bytes)}" if shards == 1 else f"{shards:,} shards, {rows}"
    return _Label(f"tier {tier.tier}", note, at, apart=not place and at > 0)


def _version_label(version: int, newest: int) -> _Label:
    return _Label(f"version {version:,}", "newest" if version == newest else "older", faint=version != newest)


def _channel_labels(names: Sequence[str], version: int, newest: int) -> list[_Label]:
    shown = (
        list(names) if len(names) <= _CHANNELS else [*names[: _CHANNELS - 1], f"{len(names) - _CHANNELS + 1:,} more"]
    )
    return [
        _Label(name, apart=not place and version != newest, faint=version != newest) for place, name in enumerate(shown)
    ]


def _height(labels: Sequence[_Label]) -> float:
    return sum(_HEIGHT + _GAP + _APART * label.apart for label in labels) - _GAP


def _column(x: float, width: float, labels: Sequence[_Label], height: float) -> list[Box]:
    y = _TOP + (height - _height(labels)) / 2
    boxes = []
    for label in labels:
        y += _APART * label.apart
        boxes.append(Box(x, y, width, label.title, label.note, label.series, label.faint))
        y += _HEIGHT + _GAP
    return boxes


def _ribbons(
    lineage: Lineage,
    newest: int,
    checkpoint: list[Box],
    vectors: list[Box],
    indexes: list[Box],
    versions: list[Box],
    channels: list[Box],
) -> Iterator[Ribbon]:
    """As wide as the rows are many that they stand for."""
    every = sum(node.rows for node in lineage.vectors)
    of_rows = partial(_width, every=every)
    for node, box in zip(lineage.vectors, vectors, strict=True):
        yield Ribbon(checkpoint[0], box, of_rows(node.rows))
    first = 0
    for at, tier in enumerate(lineage.tiers):
        for source, target, rows in tier.edges:
            yield Ribbon(vectors[source], indexes[first + target], of_rows(rows), at)
        for node, box in zip(tier.nodes, indexes[first:], strict=False):
            yield Ribbon(box, versions[newest], of_rows(node.rows), at)
        first += len(tier.nodes)
    rest = iter(channels)
    for (_, names), box in zip(_shown(lineage), versions, strict=True):
        yield from (Ribbon(box, target, 2) for target in islice(rest, min(len(names), _CHANNELS)))


def _newest(lineage: Lineage, facts: Facts) -> int:
    """The place of the newest version."""
    return next(at for at, (version, _) in enumerate(lineage.channels) if version == facts.head.version)


def _width(rows: int, every: int) -> float:
    return max(1.0, round(_MOST_RIBBON * rows / every, 1))
