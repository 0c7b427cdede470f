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
from tierloom.shards.text_groups import TextGroups
from tierloom.shards.writer import Rows, ShardWriter, writing
from tierloom.stores.store import Store
from tierloom.storing import describe_vector_shard, store_vector_shard


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Shards of one checkpoint to merge, and their dead rows: a serialized roaring bitmap each. `anew`: a merge of
    one shard without dead rows makes another one too, of which nothing but the rows is the same."""

    shards: tuple[VectorShard, ...]
    dead: tuple[bytes, ...]
    anew: bool = False

    @property
    def digest(self) -> str:
        return digest_of("merge", [shard.path for shard in self.shards], [bitmap.hex() for bitmap in self.dead])

    @property
    def changes_nothing(self) -> bool:
        return len(self.shards) == 1 and self.dead[0] == NOBODY and not self.anew


NOBODY = deletion_vector.to_bytes(())


def merge_vector_shards(task: MergeTask, store: Store) -> VectorShard | None:
    """Store one shard with the live rows of all, sorted by (key, ordinal); None when nothing lives.

    A merge of one shard without dead rows is that shard, unless it is to be made anew; one that is stored already is
    reused. Memory: one row group of each shard. Raises `CheckpointMismatch` when they are of two.
    """
    common_checkpoint(task.shards)
    if task.changes_nothing:
        return task.shards[0]
    name = names.vector_shard(task.digest)
    with TemporaryDirectory(dir=store.scratch(), prefix="merge-") as folder:
        if store.renew(name):
            return describe_vector_shard(name, store, Path(folder))
        return _merged(task, name, store, Path(folder))


def merged_rows(task: MergeTask, files: ObjectFiles) -> tuple[NDArray[np.int64], ...]:
    """Where the rows of a merge went: int64 (rows,) for each of its shards, the row in the merged shard, or -1 for
    one that was dead."""
    shards = [files.shard(shard) for shard in task.shards]
    order = _order(shards, task.dead)
    went = tuple(np.full(shard.rows, -1, dtype=np.int64) for shard in shards)
    for at, rows in enumerate(went):
        here = np.flatnonzero(order.shard == at)
        rows[order.row[here]] = here
    return went


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


def _merged(task: MergeTask, name: str, store: Store, folder: Path) -> VectorShard | None:
    files = ObjectFiles(store, folder)
    shards = [files.shard(shard) for shard in task.shards]
    order = _order(shards, task.dead)
    if not len(order.row):
        return None
    path = folder / "merged.parquet"
    with writing(path, shards[0].schema) as writer:
        _copy(shards, order, writer)
    return store_vector_shard(path, writer.sha256, name, store, folder)


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
    texts = [TextGroups(shard) for shard in shards]
    for start in range(0, len(order.row), ROW_GROUP_ROWS):
        end = start + ROW_GROUP_ROWS
        writer.append(_rows(shards, texts, _Order(order.shard[start:end], order.row[start:end])))


def _rows(shards: Sequence[ShardColumns], texts: Sequence[TextGroups], part: _Order) -> Rows:
    """One row group of the merged shard."""
    by_shard = np.lexsort((part.row, part.shard))
    place = np.argsort(by_shard)
    taken = [(at, part.row[by_shard][part.shard[by_shard] == at]) for at in np.unique(part.shard).tolist()]
    described = pa.concat_tables([texts[at].read(rows) for at, rows in taken]).take(pa.array(place)).combine_chunks()
    fixed: dict[str, NDArray[Any]] = {
        name: np.concatenate([shards[at].gather(name, rows) for at, rows in taken])[place]
        for name in shards[0].schema.widths
    }
    return Rows(**fixed, **{name: described[name] for name in VARIABLE})
