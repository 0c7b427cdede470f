"""Samples of live rows: of live ones only, each once, evenly, and the same for the same seed."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from index_builder.sampling import sample_live
from tests.small_shards import Row, collection_of, first_manifest, store_shard, with_dead
from tierloom.errors import InputError
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.stores.local import LocalStore


def version_of(store: LocalStore, sizes: list[int], dead: dict[int, list[int]]) -> Manifest:
    """A manifest of shards of so many rows, some of which are dead; each text says where it is."""
    shards = []
    for shard, size in enumerate(sizes):
        rows = [Row(f"{shard}/{at}", text=f"text {shard}/{at}", heading=f"heading {shard}") for at in range(size)]
        shards.append(
            with_dead(store, store_shard(store, rows), dead[shard]) if shard in dead else store_shard(store, rows)
        )
    return msgspec.structs.replace(first_manifest(collection_of()), vector_shards=tuple(shards))


def test_a_sample_of_everything_is_every_live_row(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    manifest = version_of(store, [5, 1, 7], {0: [1, 3], 1: [0]})
    sample = sample_live(manifest, ObjectFiles(store), 1000)
    assert len(sample.texts()) == len({text for _, text in sample.texts()}) == 10
    assert sample.gather("vector").shape == (10, 32)
    assert sample.gather("prefix").dtype == np.int8
    for live, rows in sample.parts:
        assert live.alive[rows].all()


def test_texts_and_vectors_are_of_the_same_rows(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    manifest = version_of(store, [40, 40, 40], {})
    sample = sample_live(manifest, ObjectFiles(store), 25, seed=3)
    at = 0
    for live, rows in sample.parts:
        for row in rows:
            (described,) = live.shard.read(("heading", "text"), np.array([row])).to_pylist()
            assert sample.texts()[at] == (described["heading"], described["text"])
            assert np.array_equal(sample.gather("vector")[at], live.shard.gather("vector", np.array([row]))[0])
            at += 1
    assert at == 25


def test_the_seed_chooses_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    manifest = version_of(store, [30] * 12, {})
    drawn = [sample_live(manifest, ObjectFiles(store), 20, seed).texts() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_row_is_as_likely(tmp_path: Path) -> None:
    """Shards of 10 and 40 rows: of 300 samples of 5, a fifth comes from the first. (Deviation: .0103.)"""
    store = LocalStore(tmp_path)
    manifest = version_of(store, [10, 40], {})
    files = ObjectFiles(store)
    firsts = [
        heading == "heading 0" for seed in range(300) for heading, _ in sample_live(manifest, files, 5, seed).texts()
    ]
    assert abs(np.mean(firsts) - 0.2) < 0.05


def test_a_small_sample_opens_few_shards(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    manifest = version_of(store, [3] * 30, {})
    sample = sample_live(manifest, ObjectFiles(store), 6)
    assert sum(len(rows) for _, rows in sample.parts) == 6
    assert len(sample.parts) <= 8


def test_nothing_live_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for manifest in (version_of(store, [], {}), version_of(store, [1], {0: [0]})):
        with pytest.raises(InputError, match="no live chunk"):
            sample_live(manifest, ObjectFiles(store), 10)
