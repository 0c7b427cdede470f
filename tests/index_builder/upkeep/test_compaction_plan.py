import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.merge import plan_merges
from index_builder.upkeep.compaction_plan import Group, Round, Rules, groups_of, plan_rounds
from tests.small_shards import CHECKPOINT, collection_of, first_manifest
from tierloom.collection import Sizes
from tierloom.manifest import Deletes, Footer, IndexParameters, IndexShard, Manifest, VectorShard

_SHA = "ab" * 32
_PARAMETERS = IndexParameters(
    dimensions=16, metric="cos", connectivity=16, expansion_add=128, expansion_search=128, usearch="2.26.6"
)


def vector_shard(name: str, rows: int, dead: int = 0) -> VectorShard:
    deletes = Deletes(path=f"deletes/{name}.roaring", bytes=8, sha256=_SHA, rows=dead) if dead else None
    footer = Footer(bytes=8, sha256=_SHA)
    return VectorShard(f"shards/{name}", 9, _SHA, rows, CHECKPOINT.fingerprint, footer, deletes)


def index_shard(tier: str, shards: Sequence[VectorShard]) -> IndexShard:
    paths, rows = tuple(shard.path for shard in shards), sum(shard.rows for shard in shards)
    return IndexShard(f"indexes/{tier}/x", 9, _SHA, tier, rows, CHECKPOINT.fingerprint, paths, _PARAMETERS)


def manifest_of(groups: Iterable[Sequence[VectorShard]], sizes: Sizes) -> Manifest:
    groups = [tuple(group) for group in groups]
    return msgspec.structs.replace(
        first_manifest(msgspec.structs.replace(collection_of(tiers=(16,)), sizes=sizes)),
        vector_shards=tuple(shard for group in groups for shard in group),
        index_shards=tuple(index_shard("16", group) for group in groups),
    )


@dataclass
class Simulated:
    """Compaction of shards that have sizes and nothing else."""

    sizes: Sizes
    rules: Rules
    groups: list[tuple[VectorShard, ...]] = field(default_factory=list)
    made: int = 0
    rows_written: int = 0
    rows_indexed: int = 0

    def publish(self, rows: int, dead: int = 0) -> None:
        self.made += 1
        self.groups.append((vector_shard(str(self.made), rows, dead),))

    @property
    def due(self) -> list[Round]:
        return plan_rounds(manifest_of(self.groups, self.sizes), self.rules)

    def compact(self) -> int:
        """The number of rounds until nothing is due."""
        rounds = 0
        while due := self.due:
            self.carry_out(due[0])
            rounds += 1
        return rounds

    def carry_out(self, round_: Round) -> None:
        shards = [shard for shard in round_.vector_shards if shard.path in round_.rewritten]
        kept = [shard for shard in round_.vector_shards if shard.path not in round_.rewritten]
        dead = [np.arange(shard.rows - shard.live_rows) for shard in shards]
        merges = plan_merges(shards, dead, self.sizes.vector_shard_rows) if shards else []
        for task in merges:
            live = sum(shard.live_rows for shard in task.shards)
            self.made += 1
            if live:
                kept.append(vector_shard(str(self.made), live))
                self.rows_written += 0 if task.changes_nothing else live
        self.rows_indexed += sum(shard.rows for shard in kept)
        replaced = {group.vector_shards for group in round_.groups}
        self.groups = [group for group in self.groups if group not in replaced]
        self.groups += [tuple(kept)] if kept else []


@pytest.mark.parametrize("fan_out", [pytest.param(4, marks=pytest.mark.slow), 8])
def test_micro_batches_leave_a_logarithmic_number_of_index_shards(fan_out: int) -> None:
    """10,000 publishes of 500 rows: 5 million rows."""
    sizes, batch, publishes = Sizes(), 500, 10_000
    simulated = Simulated(sizes, Rules(fan_out=fan_out))
    levels = math.ceil(math.log(sizes.index_shard_rows / batch, fan_out))
    for published in range(1, publishes + 1):
        simulated.publish(batch)
        simulated.compact()
        full = published * batch / (sizes.index_shard_rows / 2)
        assert len(simulated.groups) <= levels * (fan_out - 1) + full + 1
    rows = publishes * batch
    assert sum(shard.live_rows for group in simulated.groups for shard in group) == rows
    # Each row is rewritten once a level until its shard is full, and indexed until its index shard is.
    assert simulated.rows_written <= rows * (math.log(sizes.vector_shard_rows / batch, fan_out) + 1)
    assert simulated.rows_indexed <= rows * levels
    vector_shards = [shard for group in simulated.groups for shard in group]
    assert len(vector_shards) <= rows / (sizes.vector_shard_rows / 2) + len(simulated.groups)


def test_updates_are_compacted_as_they_die() -> None:
    """Each batch kills the rows of documents all over the corpus: no shard stays half dead."""
    simulated = Simulated(Sizes(vector_shard_rows=4096, index_shard_rows=16_384), Rules())
    draw = np.random.default_rng(1)
    for _ in range(400):
        simulated.groups = [tuple(_decayed(shard, draw) for shard in group) for group in simulated.groups]
        simulated.publish(500)
        simulated.compact()
        shards = [shard for group in simulated.groups for shard in group]
        assert all(shard.live_rows >= 0.8 * shard.rows for shard in shards)
    assert len(simulated.groups) <= 7 * 3 + sum(shard.live_rows for shard in shards) / 8192 + 1


def _decayed(shard: VectorShard, draw: np.random.Generator) -> VectorShard:
    """Two in a hundred of its live rows die."""
    dead = shard.rows - shard.live_rows + int(draw.binomial(shard.live_rows, 0.02))
    return vector_shard(shard.path.removeprefix("shards/"), shard.rows, dead)


SHARDS = st.tuples(st.integers(1, 200), st.integers(0, 100)).map(lambda drawn: (drawn[0], drawn[0] * drawn[1] // 100))
GROUPS = st.lists(st.lists(SHARDS, min_size=1, max_size=9), max_size=14)


@settings(max_examples=300, deadline=None)
@given(GROUPS, st.integers(2, 6), st.integers(10, 200), st.integers(1, 4))
def test_whatever_there_is_is_compacted_in_a_few_rounds(
    drawn: list[list[tuple[int, int]]], fan_out: int, vector_rows: int, per_index: int
) -> None:
    sizes = Sizes(vector_shard_rows=vector_rows, index_shard_rows=vector_rows * per_index)
    simulated = Simulated(sizes, Rules(fan_out=fan_out))
    for group in drawn:
        simulated.groups.append(tuple(vector_shard(f"{len(simulated.groups)}-{at}", *s) for at, s in enumerate(group)))
    live = sum(shard.live_rows for group in simulated.groups for shard in group)
    _check_rounds(simulated)
    assert simulated.compact() <= 2 * sum(map(len, drawn)) + 1
    shards = [shard for group in simulated.groups for shard in group]
    assert sum(shard.live_rows for shard in shards) == live
    assert all(shard.live_rows >= 0.8 * shard.rows for shard in shards)
    assert all(_small(group, sizes) < fan_out for group in simulated.groups)


def _small(group: Sequence[VectorShard], sizes: Sizes) -> int:
    return sum(2 * shard.live_rows <= sizes.vector_shard_rows for shard in group)


def _check_rounds(simulated: Simulated) -> None:
    due, sizes = simulated.due, simulated.sizes
    placed = [group for round_ in due for group in round_.groups]
    assert len(placed) == len(set(placed))
    assert {group.vector_shards for group in placed} <= set(simulated.groups)
    assert due == sorted(due, key=lambda round_: round_.live_rows)
    for round_ in due:
        assert round_.rewritten <= {shard.path for shard in round_.vector_shards}
        dead = [_dead_share(shard) for shard in round_.vector_shards if shard.path in round_.rewritten]
        scattered = any(_small(group.vector_shards, sizes) >= simulated.rules.fan_out for group in round_.groups)
        assert any(share > 0.2 for share in dead) or scattered or len(round_.groups) > 1
        if len(round_.groups) > 1:
            assert round_.live_rows <= sizes.index_shard_rows


def _dead_share(shard: VectorShard) -> float:
    return 1 - shard.live_rows / shard.rows


class TestGroups:
    def test_are_the_shards_of_an_index_shard(self) -> None:
        shards = [vector_shard(str(at), 5) for at in range(5)]
        manifest = manifest_of([shards[:2], shards[2:3], shards[3:]], Sizes())
        assert groups_of(manifest) == [Group(tuple(shards[:2])), Group((shards[2],)), Group(tuple(shards[3:]))]

    def test_hang_together_over_tiers_that_group_differently(self) -> None:
        shards = [vector_shard(str(at), 5) for at in range(5)]
        manifest = manifest_of([shards[:2], shards[2:4], shards[4:]], Sizes())
        other = [index_shard("8", shards[:1]), index_shard("8", shards[1:3]), index_shard("8", shards[3:4])]
        odd = msgspec.structs.replace(manifest, index_shards=(*manifest.index_shards, *other))
        assert groups_of(odd) == [Group(tuple(shards[:4])), Group((shards[4],))]

    def test_of_nothing_are_none(self) -> None:
        assert groups_of(manifest_of([], Sizes())) == []
        assert plan_rounds(manifest_of([], Sizes()), Rules()) == []


def test_only_groups_of_the_asked_size_are_looked_at() -> None:
    simulated = Simulated(Sizes(), Rules(fan_out=4))
    for rows in (10, 10, 10, 10, 1000, 1000, 1000, 1000):
        simulated.publish(rows)
    small, large = simulated.due
    for looked_at, round_ in ((range(100), small), (range(100, 1 << 40), large)):
        assert replace(simulated, rules=Rules(fan_out=4, group_rows=looked_at)).due == [round_]
    assert (small.live_rows, large.live_rows) == (40, 4000)


def test_no_round_is_larger_than_it_may_be() -> None:
    simulated = Simulated(Sizes(), Rules(fan_out=4, round_rows=50))
    for rows in [10] * 12:
        simulated.publish(rows)
    assert [round_.live_rows for round_ in simulated.due] == [20, 50, 50]


@pytest.mark.parametrize("wrong", [{"fan_out": 1}, {"dead_share": 0.0}, {"dead_share": 1.0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fan_out"):
        Rules(**wrong)  # type: ignore[arg-type]
