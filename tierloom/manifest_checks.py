"""Reading a manifest as strictly as it was written: what does not fit together is refused by name."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from tierloom import names
from tierloom.errors import CheckpointMismatch, Malformed
from tierloom.manifest import FORMAT, IndexShard, Manifest, VectorShard
from tierloom.sealed import unseal
from tierloom.serving_checks import serving_problems
from tierloom.stored_object import StoredObject


def checked_manifest(data: bytes, version: int) -> Manifest:
    """The manifest stored as `version`.

    Raises `Malformed`, `Corrupt`, `FormatTooNew` or `CheckpointMismatch`, each naming the member at fault.
    """
    name = names.manifest(version)
    manifest = unseal(data, Manifest, name, FORMAT)
    if manifest.version != version:
        raise Malformed(f"{name}: states version {manifest.version}")
    _refuse_unsafe_paths(manifest, name)
    _refuse_two_contents(manifest, name)
    _refuse_broken_chain(manifest, name)
    _refuse_twin_generations(manifest, name)
    for generation in manifest.generations:
        for refuse in _CHECKS:
            refuse(generation, name)
    return manifest


def _refuse_unsafe_paths(manifest: Manifest, name: str) -> None:
    for stored in manifest.objects():
        if not names.is_safe(stored.path):
            raise Malformed(f"{name}: path {stored.path!r} is not a plain relative name")


def _refuse_paths_of_other_kinds(manifest: Manifest, name: str) -> None:
    """What is said to be a shard must not be a channel, say: each kind has its own place."""
    for place, objects in _places(manifest):
        for stored in objects:
            if not stored.path.startswith(place):
                raise Malformed(f"{name}: path {stored.path!r} does not lie in {place}")


def _places(manifest: Manifest) -> Iterator[tuple[str, Iterable[StoredObject]]]:
    shards, indexes = manifest.vector_shards, manifest.index_shards
    yield names.VECTOR_SHARDS, shards
    yield names.DELETES, (shard.deletes for shard in shards if shard.deletes)
    for index in indexes:
        yield f"{names.INDEXES}{index.tier}/", (index, *((index.aliases,) if index.aliases else ()))
    yield names.DEAD_LETTERS, manifest.dead_letters
    yield names.TOMBSTONES, manifest.tombstones
    yield names.SEEN_FILES, manifest.files
    gate = manifest.gate
    yield names.GATES, (filter(None, (gate.sample, gate.answers)) if gate else ())


def _refuse_two_contents(manifest: Manifest, name: str) -> None:
    """An object has one length and one hash, however often it is named."""
    stated: dict[str, tuple[int, str]] = {}
    for stored in manifest.objects():
        if stated.setdefault(stored.path, (stored.bytes, stored.sha256)) != (stored.bytes, stored.sha256):
            raise Malformed(f"{name}: states two contents of {stored.path}")


def _refuse_more_than_fits(manifest: Manifest, name: str) -> None:
    """Whoever makes room for rows before the file is opened must not be told more than the file can hold."""
    held = [(shard, shard.rows) for shard in manifest.vector_shards]
    indexed = [(shard, shard.codes) for shard in manifest.index_shards]
    for stored, rows in (*held, *indexed):
        if rows > stored.bytes:
            raise Malformed(f"{name}: {stored.path} cannot hold {rows} rows in {stored.bytes} bytes")
    for index in manifest.index_shards:
        if index.aliases and index.aliases.bytes != 16 * index.aliases.pairs:
            raise Malformed(f"{name}: {index.aliases.path}: {index.aliases.bytes} bytes of {index.aliases.pairs} pairs")


def _refuse_mixed_checkpoints(manifest: Manifest, name: str) -> None:
    own = manifest.checkpoint
    shards: tuple[VectorShard | IndexShard, ...] = (*manifest.vector_shards, *manifest.index_shards)
    for shard in shards:
        if shard.checkpoint != own:
            raise CheckpointMismatch(f"{name}: {shard.path} was made by checkpoint {shard.checkpoint}, not by {own}")


def _refuse_uncovered_shards(manifest: Manifest, name: str) -> None:
    """Each vector shard must be there once, and in each tier exactly once."""
    stored = sorted(shard.path for shard in manifest.vector_shards)
    if twice := _repeated(stored):
        raise Malformed(f"{name}: names the vector shards {twice[:3]} more than once")
    for tier in manifest.collection.tiers:
        indexed = sorted(path for shard in manifest.index_shards_of(tier.name) for path in shard.vector_shards)
        if indexed != stored:
            odd = sorted(set(stored) ^ set(indexed)) or _repeated(indexed)
            raise Malformed(f"{name}: tier {tier.name} does not cover each vector shard exactly once: {odd[:3]}")


def _repeated(ordered: list[str]) -> list[str]:
    return [path for path, following in pairwise(ordered) if path == following]


def _refuse_unfit_counts(manifest: Manifest, name: str) -> None:
    """Dead rows must be rows of their shard, and an index shard must hold each row once, as a code or an alias."""
    for shard in manifest.vector_shards:
        if shard.live_rows < 0:
            raise Malformed(f"{name}: {shard.path} has {shard.rows} rows, of which {shard.rows - shard.live_rows} dead")
    rows = {shard.path: shard.rows for shard in manifest.vector_shards}
    for index in manifest.index_shards:
        held = index.codes + (index.aliases.pairs if index.aliases else 0)
        stored = sum(rows[path] for path in index.vector_shards)
        if held != stored:
            raise Malformed(f"{name}: {index.path} holds {held} rows, its vector shards {stored}")


def _refuse_odd_tiers(manifest: Manifest, name: str) -> None:
    """An index shard must be of a tier of the collection, in its dimensions and by its metric."""
    tiers = manifest.collection.tiers
    if twice := _repeated(sorted(tier.name for tier in tiers)):
        raise Malformed(f"{name}: names the tiers {twice[:3]} more than once")
    if ragged := [tier.name for tier in tiers if tier.kind == "binary" and tier.dimensions % 8]:
        raise Malformed(f"{name}: the dimensions of the binary tiers {ragged[:3]} are no multiple of 8")
    coded = {tier.name: (tier.dimensions, tier.metric) for tier in tiers}
    for index in manifest.index_shards:
        parameters = index.parameters
        if (parameters.dimensions, parameters.metric) != coded.get(index.tier):
            raise Malformed(
                f"{name}: {index.path} has {parameters.dimensions} dimensions by {parameters.metric} in tier "
                f"{index.tier!r}; the collection's tiers have {coded}"
            )


def _refuse_unfit_serving(manifest: Manifest, name: str) -> None:
    """Profiles must be of tiers that there are, and routes must lead to profiles."""
    for problem in serving_problems(manifest.collection):
        raise Malformed(f"{name}: serving: {problem}")


def _refuse_broken_chain(manifest: Manifest, name: str) -> None:
    """Every version but the first has a parent."""
    if (manifest.parent is None) != (manifest.version == 0):
        raise Malformed(f"{name}: states parent {manifest.parent}")


def _refuse_twin_generations(manifest: Manifest, name: str) -> None:
    """Vectors of one checkpoint may be compared, so there is no telling apart two generations of it."""
    if manifest.other and manifest.other.checkpoint == manifest.checkpoint:
        raise Malformed(f"{name}: both generations are of checkpoint {manifest.checkpoint}")


# Of each generation.
_CHECKS: Final = (
    _refuse_odd_tiers,
    _refuse_paths_of_other_kinds,
    _refuse_more_than_fits,
    _refuse_mixed_checkpoints,
    _refuse_uncovered_shards,
    _refuse_unfit_counts,
    _refuse_unfit_serving,
)
