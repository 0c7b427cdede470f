"""Where a version came from, as nodes and edges that can be drawn: many shards are gathered by their size."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from index_builder.reporting.facts import Facts
from tierloom.manifest import IndexShard, Manifest, VectorShard
from tierloom.names import LATEST

S = TypeVar("S", VectorShard, IndexShard)

# More shards than these are gathered.
VECTOR_NODES: Final = 12
INDEX_NODES: Final = 4


@dataclass(frozen=True, slots=True)
class Node:
    """One or several shards of the same kind: their rows and bytes together. `least` and `most` are the rows of the
    smallest and the largest of them."""

    paths: tuple[str, ...]
    rows: int
    bytes: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class TierNodes:
    """The index shards of a tier, and from how many rows of which vector node each is made: (vector, index, rows)."""

    tier: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """checkpoint -> vector shards -> index shards of each tier -> version -> channels, of one generation. `channels`
    are those of each version that one names or that is the newest, newest first."""

    vectors: tuple[Node, ...]
    tiers: tuple[TierNodes, ...]
    channels: tuple[tuple[int, tuple[str, ...]], ...]


def lineage(facts: Facts) -> Lineage:
    """Of the newest version, as the generation in front has it: at most `VECTOR_NODES` nodes of vector shards, and
    `INDEX_NODES` a tier."""
    head = facts.head
    vectors = by_size(head.vector_shards, lambda shard: shard.rows, VECTOR_NODES)
    tiers = tuple(_tier_nodes(tier.name, head, vectors) for tier in head.collection.tiers)
    return Lineage(vectors, tiers, _channels(facts))


def by_size(shards: Sequence[S], rows_of: Callable[[S], int], most: int) -> tuple[Node, ...]:
    """Each shard by itself, largest first; more than `most` of them in groups of like size.

    A group holds what lies between two powers of a base: the smallest power of two for which the groups are few enough.
    """
    ordered = sorted(shards, key=lambda shard: (-rows_of(shard), shard.path))
    if len(ordered) <= most:
        return tuple(_node([shard], rows_of) for shard in ordered)
    for step in range(1, 34):
        groups: defaultdict[int, list[S]] = defaultdict(list)
        for shard in ordered:
            groups[(rows_of(shard).bit_length() - 1) // step].append(shard)
        if len(groups) <= most:
            break
    return tuple(_node(group, rows_of) for group in groups.values())


def _node(shards: Sequence[S], rows_of: Callable[[S], int]) -> Node:
    rows = [rows_of(shard) for shard in shards]
    return Node(
        paths=tuple(shard.path for shard in shards),
        rows=sum(rows),
        bytes=sum(shard.bytes for shard in shards),
        least=min(rows),
        most=max(rows),
    )


def _tier_nodes(tier: str, head: Manifest, vectors: Sequence[Node]) -> TierNodes:
    shards = head.index_shards_of(tier)
    nodes = by_size(shards, _indexed_rows, INDEX_NODES)
    rows = {shard.path: shard.rows for shard in head.vector_shards}
    vector_of, index_of = _places(vectors), _places(nodes)
    edges: Counter[tuple[int, int]] = Counter()
    for shard in shards:
        for path in shard.vector_shards:
            edges[vector_of[path], index_of[shard.path]] += rows[path]
    return TierNodes(tier, nodes, tuple((source, target, rows) for (source, target), rows in sorted(edges.items())))


def _indexed_rows(shard: IndexShard) -> int:
    return shard.codes + (shard.aliases.pairs if shard.aliases else 0)


def _places(nodes: Iterable[Node]) -> dict[str, int]:
    return {path: at for at, node in enumerate(nodes) for path in node.paths}


def _channels(facts: Facts) -> tuple[tuple[int, tuple[str, ...]], ...]:
    newest = [LATEST] if facts.is_front else []
    named: defaultdict[int, list[str]] = defaultdict(list, {facts.head.version: newest})
    for channel in facts.serving:
        named[channel.version].append(channel.name)
    return tuple((version, tuple(names)) for version, names in sorted(named.items(), reverse=True))
