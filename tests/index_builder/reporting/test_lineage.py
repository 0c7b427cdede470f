"""A lineage shows every shard, by itself or among those of like size, and no row is lost on the way."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.reporting.facts import gather
from index_builder.reporting.lineage import INDEX_NODES, VECTOR_NODES, by_size, lineage
from tests.made_reports import building, flipped, grown, sharded
from tests.made_versions import Step, store_versions, vector_shard
from tierloom.stores.local import LocalStore

ROWS = st.lists(st.integers(1, 1 << 32), max_size=60)


@given(rows=ROWS, most=st.integers(1, 12))
def test_each_shard_is_in_one_node_and_the_nodes_are_few(rows: list[int], most: int) -> None:
    shards = [vector_shard("a" * 32, f"{at}", count) for at, count in enumerate(rows)]

    nodes = by_size(shards, lambda shard: shard.rows, most)

    assert len(nodes) <= most
    assert Counter(path for node in nodes for path in node.paths) == Counter(shard.path for shard in shards)
    rows_of = {shard.path: shard.rows for shard in shards}
    for node in nodes:
        held = [rows_of[path] for path in node.paths]
        assert (node.rows, node.least, node.most) == (sum(held), min(held), max(held))


@given(rows=ROWS.filter(len), most=st.integers(1, 12))
def test_larger_shards_come_first_and_sizes_do_not_overlap(rows: list[int], most: int) -> None:
    shards = [vector_shard("a" * 32, f"{at}", count) for at, count in enumerate(rows)]

    nodes = by_size(shards, lambda shard: shard.rows, most)

    assert all(larger.least >= smaller.most for larger, smaller in pairwise(nodes))


@settings(deadline=None, max_examples=30)
@given(groups=st.lists(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=8), min_size=1, max_size=9))
def test_the_edges_of_a_tier_carry_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    store_versions(store, [Step(groups)])

    drawn = lineage(gather(store))

    assert len(drawn.vectors) <= VECTOR_NODES
    for tier in drawn.tiers:
        assert len(tier.nodes) <= INDEX_NODES
        for at, node in enumerate(drawn.vectors):
            assert sum(rows for source, _, rows in tier.edges if source == at) == node.rows
        for at, node in enumerate(tier.nodes):
            assert sum(rows for _, target, rows in tier.edges if target == at) == node.rows


def test_shards_of_like_size_are_one_node(tmp_path: Path) -> None:
    drawn = lineage(gather(sharded(tmp_path)))

    assert [len(node.paths) for node in drawn.vectors] == [40, 12, 6, 12, 9, 1]


def test_each_generation_has_a_lineage_of_its_own(tmp_path: Path) -> None:
    first, second = (lineage(one) for one in gather(flipped(tmp_path)).generations)

    assert [tier.tier for tier in first.tiers] == ["64", "128", "256-binary"]
    assert [tier.tier for tier in second.tiers] == ["64", "256"]
    assert first.channels == ((4, ("latest",)),)
    assert second.channels == ((4, ("prod",)),)
    assert {path for node in first.vectors for path in node.paths}.isdisjoint(
        path for node in second.vectors for path in node.paths
    )


def test_a_generation_that_nobody_serves_stands_at_the_newest_version(tmp_path: Path) -> None:
    _, second = (lineage(one) for one in gather(building(tmp_path)).generations)

    assert second.channels == ((4, ()),)


def test_channels_stand_at_the_versions_that_they_name(tmp_path: Path) -> None:
    assert lineage(gather(grown(tmp_path))).channels == ((12, ("latest", "canary")), (9, ("prod",)))
