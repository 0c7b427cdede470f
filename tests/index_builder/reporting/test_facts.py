"""The facts of a report are those of the manifests and channels."""

from pathlib import Path

import pytest

from index_builder.reporting.facts import full_row_bytes, gather
from tests.made_reports import empty, grown, sharded, single, steps
from tests.made_versions import retire, store_versions
from tierloom.channel import Served
from tierloom.stores.local import LocalStore
from tierloom.versions import read_manifest


def test_every_version_is_there_ascending_with_the_numbers_of_its_manifest(tmp_path: Path) -> None:
    store = grown(tmp_path)

    facts = gather(store)

    assert [version.version for version in facts.versions] == list(range(13))
    for version in facts.versions:
        manifest = read_manifest(store, version.version)
        assert (version.run, version.gate, version.created) == (manifest.run, manifest.gate, manifest.created)
        assert (version.live_chunks, version.live_documents) == (manifest.live_chunks, manifest.documents.live)
    assert facts.head == read_manifest(store, 12)


@pytest.mark.parametrize("last", [1, 5, 13, 100])
def test_only_the_newest_versions_that_were_asked_for(tmp_path: Path, last: int) -> None:
    assert [version.version for version in gather(grown(tmp_path), last).versions] == list(range(13))[-last:]


def test_retired_versions_are_left_out(tmp_path: Path) -> None:
    store = grown(tmp_path)
    retire(store, 1, 2, 3, 6)

    assert [version.version for version in gather(store).versions] == [0, 4, 5, 7, 8, 9, 10, 11, 12]


def test_a_version_that_a_channel_names_is_known_though_it_is_older_than_the_last(tmp_path: Path) -> None:
    facts = gather(grown(tmp_path), last=1)

    assert {channel.name: channel.version for channel in facts.channels} == {"prod": 9, "canary": 12}
    checkpoint = facts.head.checkpoint
    assert sorted(facts.pointed) == [(9, checkpoint), (12, checkpoint)]
    assert facts.pointed[Served(9, checkpoint)].run.added == 109


def test_a_tier_takes_the_bytes_of_its_index_shards(tmp_path: Path) -> None:
    store = sharded(tmp_path)
    facts = gather(store)

    for tier in facts.tiers:
        shards = [shard for shard in read_manifest(store, 1).index_shards if shard.tier == tier.tier.name]
        assert tier.index_shards == len(shards) == 13
        assert tier.bytes == sum(shard.bytes for shard in shards)
        assert tier.rows == facts.head.live_chunks


@pytest.mark.parametrize(("dimensions", "file_bytes"), [(64, 212.6), (128, 276.6), (256, 404.6)])
def test_the_formula_of_a_full_index_is_that_of_measured_files(dimensions: int, file_bytes: float) -> None:
    # Files of int8 vectors of so many dimensions, M = 16; a float32 takes the room of four.
    assert full_row_bytes(dimensions // 4, 16) == pytest.approx(file_bytes, abs=0.1)


def test_the_full_index_and_the_full_vectors_are_of_the_live_chunks(tmp_path: Path) -> None:
    facts = gather(single(tmp_path))

    assert facts.full_vector_bytes == facts.head.live_chunks * 768 * 2
    assert facts.full_index_bytes == round(facts.head.live_chunks * full_row_bytes(768, 16))


def test_the_share_of_the_gate_is_of_the_time_between_versions_that_follow_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store_versions(store, steps(4))
    retire(store, 2)

    # A minute apart; of version 3 it is not known when the one before it came.
    assert gather(store).gate_share == pytest.approx((1.001 + 1.004) / 120)


def test_an_empty_collection_has_facts(tmp_path: Path) -> None:
    facts = gather(empty(tmp_path))

    assert (facts.full_index_bytes, facts.full_vector_bytes, facts.gate_share, facts.measured) == (0, 0, None, ())
    assert facts.floor == 0.95
