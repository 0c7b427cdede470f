"""Compaction: small and half-dead shards become few and whole ones, while others write. No model is asked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from index_builder.build_pool import BuildPool, Stopped, VerifiedBuilds
from index_builder.merge import merge_vector_shards, plan_merges
from index_builder.upkeep.compaction_plan import Round, Rules, plan_rounds
from index_builder.upkeep.publishing import publish_upkeep
from index_builder.upkeep.replacing import Merged, Replacement
from tierloom.collection import Sizes
from tierloom.column_files import ColumnFiles
from tierloom.errors import CheckpointMismatch, NotFound, Overtaken
from tierloom.manifest import IndexShard, Manifest
from tierloom.shards.deletion_vector import dead_rows
from tierloom.stores.store import Store
from tierloom.versions import read_head


@dataclass(frozen=True, slots=True)
class CompactedRound:
    """What a published round did in the generation of a checkpoint (its fingerprint): vector shards merged and written
    (with their bytes), and index shards built."""

    version: int
    checkpoint: str
    shards_merged: int
    bytes_merged: int
    shards_written: int
    bytes_written: int
    index_shards: int
    index_bytes: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """The rounds that were published. `overtaken` says why the last one was given up, if it was: another writer had
    replaced its shards, so there is nothing to be done about it but to look again."""

    rounds: tuple[CompactedRound, ...]
    overtaken: str | None = None


def compact(
    store: Store,
    rules: Rules = Rules(),  # noqa: B008 -- immutable
    *,
    rounds: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    begins: Callable[[Round], None] = lambda _: None,
    apart: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Compacted:
    """Compact every generation of the newest version until nothing is due, or `rounds` were published.

    May run beside any writer, and may be killed at any point: each round is published by itself, and what an
    unpublished one made is garbage, or found again. `stop` is asked between merges and between builds; a round that
    is stopped is not published. `begins` is told of each round that begins. `apart` builds large index shards in
    processes of their own; a process that does nothing else builds them as well itself. `check` is called right before
    a round is published; what it raises ends the compaction.

    Raises `NotACollection`, `StoreError`, and whatever is wrong with the shards.
    """
    done: list[CompactedRound] = []
    with BuildPool(apart) as pool:
        try:
            while len(done) != rounds and not stop() and (due := plan_rounds(head := read_head(store), rules)):
                begins(due[0])
                done.append(_carry_out(due[0], head, store, pool, stop, check))
        except Stopped:
            return Compacted(tuple(done))
        except Overtaken as overtaken:
            return Compacted(tuple(done), str(overtaken))
    return Compacted(tuple(done))


def _carry_out(
    round_: Round,
    head: Manifest,
    store: Store,
    pool: BuildPool,
    stop: Callable[[], bool],
    check: Callable[[], None],
) -> CompactedRound:
    generation = head.of(round_.checkpoint)
    try:
        merged = list(_merges(round_, generation.collection.sizes, store, stop))
    except NotFound as error:
        raise _overtaken_or(error, round_, store) from error
    kept = [shard.path for shard in round_.vector_shards if shard.path not in round_.rewritten]
    builds = VerifiedBuilds(store, pool, stop)
    replacement = Replacement(merged, kept, ColumnFiles(store), builds)
    # Once for the builds, which take long, so that the commit itself is short.
    replacement.on(generation)
    try:
        version = publish_upkeep("compact", replacement.on, store, round_.checkpoint, check).version
    except CheckpointMismatch as error:
        raise _overtaken_or(error, round_, store) from error
    return _described(version, round_.checkpoint, merged, builds.built)


def _merges(round_: Round, sizes: Sizes, store: Store, stop: Callable[[], bool]) -> Iterator[Merged]:
    files = ColumnFiles(store)
    shards = [shard for shard in round_.vector_shards if shard.path in round_.rewritten]
    dead = [dead_rows(shard, files).astype("int64") for shard in shards]
    for task in plan_merges(shards, dead, sizes.vector_shard_rows):
        if stop():
            raise Stopped
        yield Merged(task, merge_vector_shards(task, store))


def _overtaken_or(error: NotFound | CheckpointMismatch, round_: Round, store: Store) -> Exception:
    """Why an input is gone: another writer replaced it, or retired its generation; or the store has lost it."""
    live = {shard.path for generation in read_head(store).generations for shard in generation.vector_shards}
    if all(shard.path in live for shard in round_.vector_shards):
        return error
    return Overtaken(f"another writer has replaced or retired shards in the meantime: {error}")


def _described(version: int, checkpoint: str, merged: list[Merged], indexes: tuple[IndexShard, ...]) -> CompactedRound:
    rewritten = [one for one in merged if not one.task.changes_nothing]
    inputs = [shard for one in rewritten for shard in one.task.shards]
    outputs = [one.shard for one in rewritten if one.shard is not None]
    return CompactedRound(
        version=version,
        checkpoint=checkpoint,
        shards_merged=len(inputs),
        bytes_merged=sum(shard.bytes for shard in inputs),
        shards_written=len(outputs),
        bytes_written=sum(shard.bytes for shard in outputs),
        index_shards=len(indexes),
        index_bytes=sum(index.bytes for index in indexes),
    )
