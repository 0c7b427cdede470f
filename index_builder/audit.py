"""Checking every object that a version names: what `tierloom verify` does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from index_builder.verify import verify_index_shard
from tierloom import names
from tierloom.canaries import sealed_canaries
from tierloom.channel import read_channel
from tierloom.errors import TierloomError
from tierloom.letters import read_letters
from tierloom.manifest import Manifest, VectorShard
from tierloom.mirroring.mirror import Mirror, read_mirror
from tierloom.mirroring.wanted import wanted
from tierloom.object_files import ObjectFiles
from tierloom.shards.columns import ShardColumns
from tierloom.shards.deletion_vector import alive
from tierloom.shards.schema import ROW_GROUP_ROWS
from tierloom.shards.vector_checks import checked_vectors
from tierloom.stored_object import StoredObject
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_checkpoint, read_manifest


@dataclass(frozen=True, slots=True)
class Findings:
    """What was looked at, and a sentence for each thing that is wrong."""

    version: int
    objects: int
    bytes: int
    problems: tuple[str, ...]


def audit(store: Store, version: int | None = None) -> Findings:
    """Check one version (default: the newest) and everything that it names.

    Raises `TierloomError` when the manifest itself cannot be read: then there is nothing to check against.
    """
    manifest = read_manifest(store, head_version(store) if version is None else version)
    checkpoints = len(manifest.generations)
    with TemporaryDirectory(prefix="tierloom-verify-") as folder:
        files = ObjectFiles(store, Path(folder))
        if (mirror := read_mirror(store)) is not None:
            checkpoints = sum(held.version == manifest.version for held in mirror.held)
            objects, problems = _audit_mirror(manifest, mirror, store, files)
        else:
            objects, problems = manifest.objects(), tuple(_problems(manifest, store, files))
    return Findings(manifest.version, len(objects) + 1 + checkpoints, sum(stored.bytes for stored in objects), problems)


def _audit_mirror(
    manifest: Manifest, mirror: Mirror, store: Store, files: ObjectFiles
) -> tuple[tuple[StoredObject, ...], tuple[str, ...]]:
    """What a mirror holds of a version, and what is wrong with it: only that it is as it was published."""
    here = [held for held in mirror.held if held.version == manifest.version]
    wants = [wanted(manifest.of(held.checkpoint), held.tiers) for held in here]
    checks: list[Callable[[], object]] = [
        *(partial(read_checkpoint, store, held.checkpoint) for held in here),
        partial(read_channel, store, mirror.channel),
        *(partial(files.shard, shard) for want in wants for shard in want.shards),
        *(partial(files.path, stored) for want in wants for stored in want.others),
    ]
    objects = tuple(stored for want in wants for stored in want.objects)
    return objects, tuple(problem for check in checks for problem in _found(check))


def _problems(manifest: Manifest, store: Store, files: ObjectFiles) -> Iterator[str]:
    for generation in manifest.generations:
        yield from _found(partial(read_checkpoint, store, generation.checkpoint))
        yield from _found(partial(sealed_canaries, store, generation.checkpoint))
    yield from _found(partial(read_channel, store, names.LATEST))
    damaged: set[str] = set()
    for stored in manifest.objects():
        found = list(_found(partial(files.path, stored)))
        damaged |= {stored.path} if found else set()
        yield from found
    for generation in manifest.generations:
        for needed, check in _checks(generation, files):
            # What is damaged is told already, once: more than that cannot be known of it.
            if damaged.isdisjoint(needed):
                yield from _found(check)
        if not generation.documents.adds_up:
            yield f"{names.manifest(manifest.version)}: documents do not add up: {generation.documents}"


def _checks(manifest: Manifest, files: ObjectFiles) -> Iterator[tuple[set[str], Callable[[], object]]]:
    """What to look at in objects whose bytes are as stated, and which objects that takes."""
    stored = {shard.path: shard for shard in manifest.vector_shards}
    for shard in manifest.vector_shards:
        yield _paths(shard, shard.deletes), partial(_check_vector_shard, shard, manifest, files)
    for index in manifest.index_shards:
        covered = [stored[path] for path in index.vector_shards]
        yield _paths(index, index.aliases, *covered), partial(verify_index_shard, index, covered, files)
    for part in manifest.dead_letters:
        yield _paths(part), partial(read_letters, [part], files)


def _paths(*objects: StoredObject | None) -> set[str]:
    return {stored.path for stored in objects if stored}


def _found(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except (TierloomError, OSError) as error:
        yield str(error)


def _check_vector_shard(stored: VectorShard, manifest: Manifest, files: ObjectFiles) -> None:
    shard = files.shard(stored)
    alive(stored, files)
    if shard.schema.prefix_dimensions != manifest.collection.prefix_dimensions:
        raise TierloomError(f"{stored.path}: prefixes of {shard.schema.prefix_dimensions} dimensions")
    _check_order(stored, shard)
    for start in range(0, shard.rows, ROW_GROUP_ROWS):
        checked_vectors(shard, np.arange(start, min(start + ROW_GROUP_ROWS, shard.rows)))


def _check_order(stored: VectorShard, shard: ShardColumns) -> None:
    keys = shard.column("key")
    if (keys[1:] < keys[:-1]).any():
        raise TierloomError(f"{stored.path}: its rows are not sorted by key")
