"""Putting new vector shards in the place of others, on top of whatever head there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from index_builder.build import plan_index_tasks
from index_builder.build_pool import VerifiedBuilds
from index_builder.merge import MergeTask, merged_rows
from tierloom.column_files import ColumnFiles
from tierloom.errors import Overtaken
from tierloom.manifest import IndexShard, Manifest, VectorShard
from tierloom.shards import deletion_vector
from tierloom.storing import with_dead_rows


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that was carried out; `shard` is None when nothing of it lived."""

    task: MergeTask
    shard: VectorShard | None


class Replacement:
    """The merged shards take the place of their inputs; all get new index shards together with `kept` ones.

    `kept` names the vector shards that share index shards with the inputs and stay what they are.
    """

    def __init__(
        self, merged: Sequence[Merged], kept: Sequence[str], files: ColumnFiles, builds: VerifiedBuilds
    ) -> None:
        self._merged = merged
        self._kept = frozenset(kept)
        self._touched = self._kept.union(shard.path for one in merged for shard in one.task.shards)
        self._files = files
        self._builds = builds

    def on(self, head: Manifest) -> Manifest:
        """The head with its shards replaced: what `commit` wants, but for its version and its run.

        Rows that died in the inputs meanwhile are dead in the merged shards. Index shards are built in every tier
        that the head has, if they are not built yet. Raises `Overtaken` when the head does not have these shards
        any more, or has index shards over them and others.
        """
        stored = {shard.path: shard for shard in head.vector_shards}
        removed = [index for index in head.index_shards if not self._touched.isdisjoint(index.vector_shards)]
        self._refuse_overtaken(stored, removed)
        group = [*self._outputs(stored), *(stored[path] for path in stored if path in self._kept)]
        remaining = [index for index in head.index_shards if self._touched.isdisjoint(index.vector_shards)]
        return msgspec.structs.replace(
            head,
            vector_shards=self._in_their_place(head, group),
            index_shards=(*remaining, *self._index_shards(head, group)),
        )

    def _refuse_overtaken(self, stored: Mapping[str, VectorShard], removed: Sequence[IndexShard]) -> None:
        if gone := sorted(self._touched - stored.keys()):
            raise Overtaken(f"another writer has replaced {', '.join(gone[:3])} in the meantime")
        if odd := [index.path for index in removed if not self._touched.issuperset(index.vector_shards)]:
            raise Overtaken(f"another writer has put other shards into {odd[0]} in the meantime")

    def _outputs(self, stored: Mapping[str, VectorShard]) -> list[VectorShard]:
        return [self._followed(one.task, one.shard, stored) for one in self._merged if one.shard is not None]

    def _followed(self, task: MergeTask, shard: VectorShard, stored: Mapping[str, VectorShard]) -> VectorShard:
        """The merged shard, without the rows that died in its inputs since they were merged."""
        now = [deletion_vector.dead_rows(stored[before.path], self._files) for before in task.shards]
        then = [deletion_vector.from_bytes(bitmap, shard.path) for bitmap in task.dead]
        late = [np.setdiff1d(rows, before, assume_unique=True) for rows, before in zip(now, then, strict=True)]
        if not any(map(len, late)):
            return shard
        went = merged_rows(task, self._files)
        dead = np.concatenate([places[rows] for places, rows in zip(went, late, strict=True)])
        return with_dead_rows(shard, np.sort(dead), self._files.store)

    def _in_their_place(self, head: Manifest, group: Sequence[VectorShard]) -> tuple[VectorShard, ...]:
        """The vector shards of the head with the group where the first of what it replaces was."""
        first = next(at for at, shard in enumerate(head.vector_shards) if shard.path in self._touched)
        behind = [shard for shard in head.vector_shards[first:] if shard.path not in self._touched]
        return (*head.vector_shards[:first], *group, *behind)

    def _index_shards(self, head: Manifest, group: Sequence[VectorShard]) -> tuple[IndexShard, ...]:
        collection = head.collection
        return self._builds.of(plan_index_tasks(collection.tiers, group, collection.sizes.index_shard_rows))
