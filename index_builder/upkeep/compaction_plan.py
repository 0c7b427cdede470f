"""What to compact: a pure function of a manifest. Each of its generations is compacted by itself.

Vector shards that share their index shards are a group; publishing adds one. Groups of about one size are made
into one when there are enough of them (size-tiered), up to the size of an index shard; so their number is
logarithmic in the rows that came in small, and a row is rewritten a logarithmic number of times (O'Neil et al.,
The Log-Structured Merge-Tree, 1996). A shard of which too much is dead is rewritten whatever its size, and so are
many small shards that were published together.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tierloom.collection import Sizes
from tierloom.manifest import Generation, Manifest, VectorShard, common_checkpoint


@dataclass(frozen=True, slots=True)
class Rules:
    """When to compact: `fan_out` groups of one size make a larger one; a shard is rewritten when more than
    `dead_share` of its rows is dead.

    With a larger `fan_out` rows are rewritten less often, and a query asks more index shards. Only groups whose live
    rows are in `group_rows` are looked at: two compactions at once, one of small groups and one of large ones, do not
    meet, and small ones need not wait for minutes until a large one is done. No round has more than `round_rows`,
    unless one group alone does: where many small groups have piled up, the first of them need not wait for the last.
    """

    fan_out: int = 8
    dead_share: float = 0.2
    group_rows: range = range(1 << 40)
    round_rows: int = 1 << 40

    def __post_init__(self) -> None:
        if self.fan_out < 2 or not 0 < self.dead_share < 1:
            raise ValueError(f"fan_out {self.fan_out} must be at least 2, dead_share {self.dead_share} within 0..1")


@dataclass(frozen=True, slots=True)
class Group:
    """Vector shards that have their index shards together: what can only be rewritten whole."""

    vector_shards: tuple[VectorShard, ...]

    @property
    def live_rows(self) -> int:
        return sum(shard.live_rows for shard in self.vector_shards)


@dataclass(frozen=True, slots=True)
class Round:
    """Groups of one generation that become one. Their shards in `rewritten` are merged, the others stay what they
    are."""

    groups: tuple[Group, ...]
    rewritten: frozenset[str]

    @property
    def checkpoint(self) -> str:
        """The fingerprint of the checkpoint whose generation it is of."""
        return common_checkpoint(self.vector_shards)

    @property
    def vector_shards(self) -> tuple[VectorShard, ...]:
        return tuple(shard for group in self.groups for shard in group.vector_shards)

    @property
    def live_rows(self) -> int:
        return sum(group.live_rows for group in self.groups)


def plan_rounds(manifest: Manifest, rules: Rules) -> list[Round]:
    """What is due in every generation, the smallest round first: each round stands on its own."""
    rounds = [round_ for generation in manifest.generations for round_ in _rounds_of(generation, rules)]
    return sorted(rounds, key=lambda round_: round_.live_rows)


def _rounds_of(generation: Generation, rules: Rules) -> list[Round]:
    sizes = generation.collection.sizes
    groups = [group for group in groups_of(generation) if group.live_rows in rules.group_rows]
    crowded = [bin_ for level in _crowded(groups, rules, sizes) for bin_ in _bins(level, rules, sizes) if len(bin_) > 1]
    placed = {group for bin_ in crowded for group in bin_}
    alone = [group for group in groups if group not in placed and _is_due_alone(group, rules, sizes)]
    return [_round(bin_, rules, sizes) for bin_ in (*crowded, *_bins(alone, rules, sizes))]


def groups_of(generation: Generation) -> list[Group]:
    """The groups of a generation, in the order of their first vector shards.

    Where tiers group the shards differently, all that hang together are one group.
    """
    leader = {shard.path: shard.path for shard in generation.vector_shards}
    for index in generation.index_shards:
        first = _leader_of(index.vector_shards[0], leader)
        for path in index.vector_shards[1:]:
            leader[_leader_of(path, leader)] = first
    members: defaultdict[str, list[VectorShard]] = defaultdict(list)
    for shard in generation.vector_shards:
        members[_leader_of(shard.path, leader)].append(shard)
    return [Group(tuple(shards)) for shards in members.values()]


def _leader_of(path: str, leader: dict[str, str]) -> str:
    while leader[path] != path:
        path = leader[path]
    return path


def _crowded(groups: Iterable[Group], rules: Rules, sizes: Sizes) -> Iterator[list[Group]]:
    """The groups of each level that has too many. One of more than half an index shard is full, and of none."""
    levels: defaultdict[int, list[Group]] = defaultdict(list)
    for group in groups:
        if group.live_rows <= sizes.index_shard_rows // 2:
            levels[_level(group.live_rows, rules.fan_out)].append(group)
    return (level for level in levels.values() if len(level) >= rules.fan_out)


def _level(rows: int, fan_out: int) -> int:
    """The whole part of the logarithm of `rows` to the base `fan_out`; 0 for no rows."""
    level = 0
    while rows >= fan_out:
        rows //= fan_out
        level += 1
    return level


def _bins(groups: Sequence[Group], rules: Rules, sizes: Sizes) -> list[list[Group]]:
    """Neighbours together, as many as fit into an index shard and a round."""
    most = min(sizes.index_shard_rows, rules.round_rows)
    bins: list[list[Group]] = []
    filled = 0
    for group in groups:
        rows = _rows_after(group, rules, sizes)
        if bins and filled + rows <= most:
            bins[-1].append(group)
        else:
            bins.append([group])
            filled = 0
        filled += rows
    return bins


def _rows_after(group: Group, rules: Rules, sizes: Sizes) -> int:
    """The rows, dead ones too, that a group has in an index shard once it has been rewritten."""
    kept = [shard for shard in group.vector_shards if not _is_rewritten(shard, rules, sizes)]
    return group.live_rows + sum(shard.rows - shard.live_rows for shard in kept)


def _round(groups: Sequence[Group], rules: Rules, sizes: Sizes) -> Round:
    shards = [shard for group in groups for shard in group.vector_shards]
    return Round(tuple(groups), frozenset(shard.path for shard in shards if _is_rewritten(shard, rules, sizes)))


def _is_due_alone(group: Group, rules: Rules, sizes: Sizes) -> bool:
    """Whether too much of one of its shards is dead, or many small ones were published together."""
    decayed = any(_dead_share(shard) > rules.dead_share for shard in group.vector_shards)
    return decayed or sum(_is_small(shard, sizes) for shard in group.vector_shards) >= rules.fan_out


def _is_rewritten(shard: VectorShard, rules: Rules, sizes: Sizes) -> bool:
    """Small shards grow, and those that would be due before long are taken along: their index is built anyway."""
    return _is_small(shard, sizes) or _dead_share(shard) > rules.dead_share / 2


def _is_small(shard: VectorShard, sizes: Sizes) -> bool:
    return shard.live_rows <= sizes.vector_shard_rows // 2


def _dead_share(shard: VectorShard) -> float:
    return 1 - shard.live_rows / shard.rows
