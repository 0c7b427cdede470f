"""Merging vector shards: many small ones become one, without their dead rows, without a model.

Compaction, adding a tier and erasing a document are this function with other arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom import names
from tierloom.digest import digest_of
from tierloom.manifest import VectorShard, common_checkpoint
from tierloom.object_files import ObjectFiles
from tierloom.shards import deletion_vector
from tierloom.shards.columns import ShardColumns
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE
from tierloom.shards.writer import Rows, ShardWriter, writing
from tierloom.stores.store import Store
from tierloom.storing import describe_vector_shard, store_vector_shard


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Shards of one checkpoint to merge, and their dead rows: a serialized roaring bitmap each."""

    shards: tuple[VectorShard, ...]
    dead: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return digest_of("merge", [shard.path for shard in self.shards], [bitmap.hex() for bitmap in self.dead])

    @property
    def changes_nothing(self) -> bool:
        return len(self.shards) == 1 and self.dead[0] == NOBODY


NOBODY = deletion_vector.to_bytes(())


def merge_vector_shards(task: MergeTask, store: Store) -> VectorShard | None:
    """Store one shard with the live rows of all, sorted by (key, ordinal); None when nothing lives.

    A merge of one shard without dead rows is that shard; one that is stored already is reused. Memory: the
    texts of the rows, and one row group of the vectors. Raises `CheckpointMismatch` when they are of two.
    """
    common_checkpoint(task.shards)
    if task.changes_nothing:
        return task.shards[0]
    with TemporaryDirectory(dir=store.scratch(), prefix="merge-") as folder:
        files = ObjectFiles(store, Path(folder))
        name = names.vector_shard(task.digest)
        if store.size(name) is None:
            shards = [files.shard(shard) for shard in task.shards]
            order = _order(shards, task.dead)
            if not len(order.row):
                return None
            path = Path(folder) / "merged.parquet"
            with writing(path, shards[0].schema) as writer:
                _copy(shards, order, writer)
            return store_vector_shard(path, writer.sha256, name, store, Path(folder))
        return describe_vector_shard(name, store, Path(folder))


def plan_merges(shards: Sequence[VectorShard], dead: Sequence[NDArray[np.int64]], max_rows: int) -> list[MergeTask]:
    """Merges of consecutive shards into ones of at most `max_rows` live rows each."""
    groups: list[list[int]] = []
    filled = 0
    for position, shard in enumerate(shards):
        live = shard.rows - len(dead[position])
        if groups and filled + live <= max_rows:
            groups[-1].append(position)
        else:
            groups.append([position])
            filled = 0
        filled += live
    return [_task([shards[at] for at in group], [dead[at] for at in group]) for group in groups]


def _task(shards: Sequence[VectorShard], dead: Sequence[NDArray[np.int64]]) -> MergeTask:
    return MergeTask(tuple(shards), tuple(deletion_vector.to_bytes(rows.tolist()) for rows in dead))


@dataclass(frozen=True, slots=True)
class _Order:
    """Where each output row comes from: position of its shard and row in it, both (n,)."""

    shard: NDArray[np.int64]
    row: NDArray[np.int64]


def _order(shards: Sequence[ShardColumns], dead: Sequence[bytes]) -> _Order:
    live = [
        np.setdiff1d(np.arange(shard.rows), deletion_vector.from_bytes(bitmap, shard.name), assume_unique=True)
        for shard, bitmap in zip(shards, dead, strict=True)
    ]
    keys = np.concatenate([shard.column("key")[rows] for shard, rows in zip(shards, live, strict=True)])
    ordinals = np.concatenate([shard.column("ordinal")[rows] for shard, rows in zip(shards, live, strict=True)])
    order = np.lexsort((ordinals, keys))
    positions = np.repeat(np.arange(len(shards)), [len(rows) for rows in live])
    return _Order(positions[order], np.concatenate(live)[order])


def _copy(shards: Sequence[ShardColumns], order: _Order, writer: ShardWriter) -> None:
    texts = pa.concat_tables([shard.read_all(VARIABLE) for shard in shards])
    begins = np.concatenate([[0], np.cumsum([shard.rows for shard in shards])[:-1]])
    for start in range(0, len(order.row), ROW_GROUP_ROWS):
        part = _Order(order.shard[start : start + ROW_GROUP_ROWS], order.row[start : start + ROW_GROUP_ROWS])
        described = texts.take(pa.array(begins[part.shard] + part.row)).combine_chunks()
        writer.append(_rows(shards, part, described))


def _rows(shards: Sequence[ShardColumns], part: _Order, described: pa.Table) -> Rows:
    schema = shards[0].schema
    fixed = {name: _gathered(shards, part, name) for name in schema.widths}
    return Rows(**fixed, **{name: described[name] for name in VARIABLE})


def _gathered(shards: Sequence[ShardColumns], part: _Order, name: str) -> NDArray[Any]:
    order = np.argsort(part.shard, kind="stable")
    gathered = [shards[at].gather(name, part.row[part.shard == at]) for at in np.unique(part.shard)]
    joined = np.concatenate(gathered)
    out = np.empty_like(joined)
    out[order] = joined
    return out
