from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_builder.merge import NOBODY, MergeTask, merge_vector_shards, merged_rows, plan_merges
from tests.small_shards import SCHEMA, Row, random_rows, store_rows, store_shard
from tierloom import names
from tierloom.document import document_key
from tierloom.errors import CheckpointMismatch, Corrupt
from tierloom.manifest import VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards import deletion_vector
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE, ShardSchema
from tierloom.shards.writer import Rows
from tierloom.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def open_shard(store: LocalStore, shard: VectorShard) -> MappedShard:
    return MappedShard(store.fetch(shard.path, store.root))


def rows_in(shard: MappedShard) -> list[tuple[Any, ...]]:
    """Every row with every column, the fixed-width ones as their bytes."""
    fixed = [[row.tobytes() for row in shard.column(name)] for name in shard.schema.widths]
    texts = [shard.read_all()[name].to_pylist() for name in VARIABLE]
    return list(zip(*fixed, *texts, strict=True))


def sorted_rows(count: int, seed: int) -> Rows:
    """Arbitrary rows in the order of a shard, with keys of which many are equal."""
    rows = random_rows(count, seed=seed)
    rows.key[:] %= 50
    order = np.lexsort((rows.ordinal, rows.key))
    return Rows(
        **{field.name: getattr(rows, field.name).take(order, **_axis(rows, field.name)) for field in fields(rows)}
    )


def _axis(rows: Rows, name: str) -> dict[str, int]:
    return {"axis": 0} if isinstance(getattr(rows, name), np.ndarray) else {}


def merge_task(shards: list[VectorShard], dead: list[list[int]]) -> MergeTask:
    return MergeTask(tuple(shards), tuple(deletion_vector.to_bytes(rows) for rows in dead))


@pytest.fixture
def task(store: LocalStore) -> MergeTask:
    """Three shards, one of several row groups, with dead rows in two of them."""
    sizes = (2 * ROW_GROUP_ROWS + 7, 5, 900)
    shards = [store_rows(store, sorted_rows(size, seed)) for seed, size in enumerate(sizes)]
    return merge_task(shards, [list(range(0, sizes[0], 3)), [], [0, 899]])


def test_a_merge_holds_the_live_rows_of_all_sorted(store: LocalStore, task: MergeTask) -> None:
    merged = merge_vector_shards(task, store)
    assert merged is not None
    expected = Counter[tuple[Any, ...]]()
    for stored, bitmap in zip(task.shards, task.dead, strict=True):
        dead = set(deletion_vector.from_bytes(bitmap, "").tolist())
        expected.update(row for at, row in enumerate(rows_in(open_shard(store, stored))) if at not in dead)
    shard = open_shard(store, merged)
    assert Counter(rows_in(shard)) == expected
    order = list(zip(shard.column("key").tolist(), shard.column("ordinal").tolist(), strict=True))
    assert order == sorted(order)
    assert (merged.rows, merged.deletes, merged.checkpoint) == (len(order), None, SCHEMA.checkpoint)
    assert merged.rows > ROW_GROUP_ROWS


def test_each_row_is_found_again_in_the_merged_shard(store: LocalStore, task: MergeTask) -> None:
    merged = merge_vector_shards(task, store)
    assert merged is not None
    rows = rows_in(open_shard(store, merged))
    reached: list[int] = []
    for stored, bitmap, went in zip(task.shards, task.dead, merged_rows(task, ObjectFiles(store)), strict=True):
        dead = set(deletion_vector.from_bytes(bitmap, "").tolist())
        assert {row for row, place in enumerate(went) if place == -1} == dead
        before = rows_in(open_shard(store, stored))
        assert all(before[row] == rows[place] for row, place in enumerate(went) if place != -1)
        reached += [place for place in went.tolist() if place != -1]
    assert sorted(reached) == list(range(merged.rows))


def test_a_merge_that_is_found_is_renewed(store: LocalStore, task: MergeTask) -> None:
    merged = merge_vector_shards(task, store)
    assert merged is not None
    listed = next(iter(store.list(merged.path)))
    assert merge_vector_shards(task, store) == merged
    assert not store.remove(listed)


def test_texts_of_shards_in_no_order_stay_with_their_vectors(store: LocalStore) -> None:
    """A shard that breaks the rule is copied row by row all the same."""
    shards = [store_rows(store, random_rows(size, seed=seed)) for seed, size in enumerate((3000, 2500))]
    merged = merge_vector_shards(merge_task(shards, [[], [5]]), store)
    assert merged is not None
    expected = Counter(rows_in(open_shard(store, shards[0])))
    expected.update(row for at, row in enumerate(rows_in(open_shard(store, shards[1]))) if at != 5)
    assert Counter(rows_in(open_shard(store, merged))) == expected


def test_the_same_merge_has_the_same_name_and_bytes(tmp_path: Path, store: LocalStore, task: MergeTask) -> None:
    other = LocalStore(tmp_path / "other")
    for shard in task.shards:
        other.create(shard.path, store.read(shard.path))
    merged = merge_vector_shards(task, store)
    assert merged is not None
    assert merge_vector_shards(task, other) == merged
    assert store.read(merged.path) == other.read(merged.path)


def test_a_merge_that_is_stored_already_is_not_done_again(store: LocalStore, task: MergeTask) -> None:
    merged = merge_vector_shards(task, store)
    for shard in task.shards:
        (store.root / shard.path).unlink()
    assert merge_vector_shards(task, store) == merged


def test_one_shard_without_dead_rows_stays_what_it_is(store: LocalStore) -> None:
    shard = store_shard(store, [Row("a")])
    assert merge_vector_shards(merge_task([shard], [[]]), store) is shard
    assert [listed.name for listed in store.list("shards/")] == [shard.path]


def test_one_shard_with_dead_rows_is_written_without_them(store: LocalStore) -> None:
    shard = store_shard(store, [Row("a", 0), Row("a", 1), Row("a", 2)])
    merged = merge_vector_shards(merge_task([shard], [[1]]), store)
    assert merged is not None
    assert merged.path != shard.path
    assert open_shard(store, merged).column("ordinal").tolist() == [0, 2]


def test_nothing_is_left_of_the_dead(store: LocalStore) -> None:
    shards = [store_shard(store, [Row("a")]), store_shard(store, [Row("b"), Row("c")])]
    assert merge_vector_shards(merge_task(shards, [[0], [0, 1]]), store) is None
    assert len(list(store.list("shards/"))) == 2


def test_a_shard_that_died_whole_adds_nothing(store: LocalStore) -> None:
    shards = [store_shard(store, [Row("a")]), store_shard(store, [Row("b")])]
    merged = merge_vector_shards(merge_task(shards, [[0], []]), store)
    assert merged is not None
    assert open_shard(store, merged).read_all()["document_id"].to_pylist() == ["b"]


def test_other_dead_rows_are_another_merge(task: MergeTask) -> None:
    fewer = MergeTask(task.shards, (task.dead[0], NOBODY, NOBODY))
    turned = MergeTask(task.shards[::-1], task.dead[::-1])
    assert len({task.digest, fewer.digest, turned.digest}) == 3


def test_shards_of_two_checkpoints_are_never_merged(store: LocalStore) -> None:
    other = ShardSchema("0" * 32, SCHEMA.dimensions, SCHEMA.prefix_dimensions)
    shards = [store_shard(store, [Row("a")]), store_shard(store, [Row("b")], other)]
    with pytest.raises(CheckpointMismatch, match="0" * 32):
        merge_vector_shards(merge_task(shards, [[], []]), store)


def test_a_damaged_input_is_never_copied(store: LocalStore, task: MergeTask) -> None:
    path = store.root / task.shards[1].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=task.shards[1].path):
        merge_vector_shards(task, store)
    assert store.size(names.vector_shard(task.digest)) is None


def test_no_scratch_file_is_left(store: LocalStore, task: MergeTask) -> None:
    merge_vector_shards(task, store)
    assert list(store.scratch().iterdir()) == []


def test_merges_take_consecutive_shards_up_to_their_size(store: LocalStore) -> None:
    shards = [
        store_shard(store, [Row(f"{at}", ordinal) for ordinal in range(rows)])
        for at, rows in enumerate((3, 4, 9, 1, 1))
    ]
    dead = [np.array(rows, dtype=np.int64) for rows in ([], [0, 1], [], [], [0])]
    tasks = plan_merges(shards, dead, max_rows=5)
    assert [[shards.index(shard) for shard in task.shards] for task in tasks] == [[0, 1], [2], [3, 4]]
    assert tasks[0].dead == (NOBODY, deletion_vector.to_bytes([0, 1]))
    assert [task.changes_nothing for task in tasks] == [False, True, False]
    assert plan_merges([], [], max_rows=5) == []


def test_keys_that_collide_are_merged_by_ordinal(store: LocalStore) -> None:
    def same_key(document_id: str) -> int:
        return document_key("any")

    shards = [store_shard(store, [Row(name, at) for at in range(3)], key_of=same_key) for name in "ab"]
    merged = merge_vector_shards(merge_task(shards, [[], []]), store)
    assert merged is not None
    shard = open_shard(store, merged)
    assert shard.column("ordinal").tolist() == [0, 0, 1, 1, 2, 2]
    assert shard.read_all()["document_id"].to_pylist() == ["a", "b"] * 3
