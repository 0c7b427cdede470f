"""Comparing the two generations of a version: the same queries are asked of each, with vectors of its own."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np

from index_builder.comparing.comparison import Comparison
from index_builder.comparing.overlap import chunks, documents, judged, overlap
from index_builder.comparing.shared_sample import shared_sample
from index_builder.comparing.side import Side
from index_builder.estimates import advantage, estimate
from index_builder.gate.setting import sample_of_queries
from tierloom.errors import InputError
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import generation_not_pulled, read_mirror
from tierloom.object_files import ObjectFiles
from tierloom.opening import cache_of
from tierloom.queries import JudgedQuery
from tierloom.snapshot import Snapshot
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint

QUERIES: Final = 200


def compare(
    store: Store, manifest: Manifest, queries: Sequence[JudgedQuery] = (), sample: int = QUERIES, seed: int = 0
) -> Comparison:
    """Both generations of a version on these questions, which each embeds with its own model; or on `sample` chunks
    that both have, each left out of its own answers: they are asked by the vectors that are stored, nothing is paid.

    Raises:
        InputError: the version has one generation, or nothing in common; a query is a vector; a mirror has not both.
        EmbedderError, MissingExtra: a model cannot be asked.
    """
    if manifest.other is None:
        raise InputError(
            f"version {manifest.version} of {store.url} has one generation, that of checkpoint {manifest.checkpoint}; "
            f"begin another: tierloom reembed {store.url} --model ..."
        )
    _refuse_lacking_mirror(manifest, store)
    _refuse_vectors(queries)
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(store, generation)) for generation in manifest.generations]
        first, second = _asked(opened, queries) if queries else _held_out(opened, sample, seed)
        return _compared(first, second, manifest.version, seed, _cut_alike(opened))


def _refuse_lacking_mirror(manifest: Manifest, store: Store) -> None:
    """A mirror has both generations only where it may be taken back across a flip."""
    mirror = read_mirror(store)
    for checkpoint in manifest.checkpoints if mirror else ():
        if mirror and mirror.of(manifest.version, checkpoint) is None:
            raise generation_not_pulled(mirror, store.url, manifest.version, checkpoint)


def _refuse_vectors(queries: Sequence[JudgedQuery]) -> None:
    for at, query in enumerate(queries, start=1):
        if not isinstance(query.asked, str):
            raise InputError(
                f"query {at} is a vector, which is of one checkpoint; generations are compared on questions, that each "
                "embeds with its own model"
            )


def _opened(store: Store, generation: Manifest) -> Snapshot:
    files = ObjectFiles(store, cache_of(store))
    return Snapshot(generation, read_checkpoint(store, generation.checkpoint), files)


def _asked(opened: Sequence[Snapshot], queries: Sequence[JudgedQuery]) -> list[Side]:
    sides = []
    for snapshot in opened:
        began = time.perf_counter()
        vectors = snapshot.query_vectors([query.asked for query in queries])
        seconds = (time.perf_counter() - began) / len(queries)
        sides.append(Side(snapshot, sample_of_queries(list(queries), np.stack(vectors)), round(seconds, 9)))
    return sides


def _held_out(opened: Sequence[Snapshot], count: int, seed: int) -> list[Side]:
    first, second = (snapshot.rows.shards for snapshot in opened)
    sample = shared_sample(first, second, count, seed)
    return [Side(snapshot, sample) for snapshot in opened]


def _cut_alike(opened: Sequence[Snapshot]) -> bool:
    """Whether chunks of both generations are the same pieces of their documents."""
    first, second = (one.manifest.collection.chunking.as_cut_by(one.checkpoint) for one in opened)
    return first == second


def _compared(first: Side, second: Side, version: int, seed: int, cut_alike: bool) -> Comparison:
    asked = np.flatnonzero(first.present & second.present)
    ahead = judged(second, asked) - judged(first, asked)
    return Comparison(
        version=version,
        source=first.sample.source,
        queries=len(asked),
        seed=seed,
        first=first.compared(),
        second=second.compared(),
        documents=estimate(overlap(first, second, asked, documents)),
        chunks=estimate(overlap(first, second, asked, chunks)) if cut_alike else None,
        ndcg=advantage(ahead[:, 0]) if len(ahead) else None,
        hit_rate=advantage(ahead[:, 1]) if len(ahead) else None,
    )
