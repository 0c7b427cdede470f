"""Ingest with a free embedder, against a straight script that does the same work without Beam.

The script calls the same functions in a loop, in one process: read, chunk, embed, quantize, write vector shards, merge.
It keeps none of the promises that cost the pipeline something: it compares with no live version, names nothing
by its content, keeps no counts, settles nothing, and started again it would begin anew.

Index builds are the same native code on both sides and take minutes, so both end where those would begin, unless
`--builds 1` is given: then both build, verify and publish three tiers, with as many processes.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks import corpus
from benchmarks.free_embedder import FreeEmbedder, embedding_for_free
from benchmarks.measuring import in_turn, show, sizes
from index_builder.build import IndexTask, build_index_shard, plan_index_tasks
from index_builder.merge import merge_vector_shards, plan_merges
from index_builder.verify import verify_index_shard
from pipelines.beam_options import split_arguments
from pipelines.running import Work, make_job, run
from tierloom.commit import commit
from tierloom.document import Chunk, Document
from tierloom.manifest import IndexShard, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.quantizer import quantize, to_unit_float16
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from transforms.chunk import Chunker, chunk_blocks
from transforms.elements import Place, QuantizedBlock, VectorBlock
from transforms.job import Job
from transforms.read import read_split
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits
from transforms.write import write_vector_shard

Ingesting = Callable[[Path, Store], float]


class ReachedBuilds(Exception):
    """Raised in the place of the first index build, to end the run there."""


def _end_here(task: IndexTask) -> Iterator[tuple[IndexTask, IndexShard]]:
    raise ReachedBuilds(f"{len(task.vector_shards)} merged shards")


def pipeline(source: Path, store: Store) -> float:
    """Seconds of what `tierloom ingest` does."""
    began = time.perf_counter()
    job = make_job(store.url, "ingest", Fields())
    run(job, Work(plan_splits([str(source)], Fields()).splits), split_arguments([])[1])
    return time.perf_counter() - began


def pipeline_before_builds(source: Path, store: Store) -> float:
    """Seconds until `tierloom ingest` would build its first index shard."""
    began = time.perf_counter()
    with patch("pipelines.ingest.BuildIndexShardDoFn", lambda _job: _end_here):
        try:
            pipeline(source, store)
        except Exception as error:  # Beam wraps it in what it likes
            if ReachedBuilds.__name__ not in repr(error):
                raise
    return time.perf_counter() - began


def straight(source: Path, store: Store, vectors: NDArray[np.float32], builds: bool) -> float:
    """Seconds of the same work in a loop."""
    began = time.perf_counter()
    job = make_job(store.url, "ingest", Fields())
    merged = _vector_shards(job, source, store, FreeEmbedder(vectors))
    if builds:
        indexes = _index_shards(job, merged, store)
        made = {"vector_shards": tuple(merged), "index_shards": tuple(indexes)}
        commit(store, lambda head: replace(head, version=head.version + 1, **made))
    return time.perf_counter() - began


def _vector_shards(job: Job, source: Path, store: Store, embedder: FreeEmbedder) -> list[VectorShard]:
    chunker = Chunker(job.checkpoint, job.collection.chunking)
    small = []
    for number, split in enumerate(plan_splits([str(source)], Fields()).splits):
        cut = (chunker.cut(document) for document in _documents(read_split(split)))
        for part, chunks in enumerate(chunk_blocks(cut, job.collection.sizes.small_shard_rows)):
            small.append(_write(Place(number, part), chunks, job, store, embedder))
    nobody = [np.empty(0, np.int64)] * len(small)
    tasks = plan_merges(small, nobody, job.collection.sizes.vector_shard_rows)
    return [shard for task in tasks if (shard := merge_vector_shards(task, store))]


def _documents(read: Iterable[object]) -> Iterator[Document]:
    return (one for one in read if isinstance(one, Document))


def _write(place: Place, chunks: tuple[Chunk, ...], job: Job, store: Store, embedder: FreeEmbedder) -> VectorShard:
    answer = embedder.embed([chunk.model_input for chunk in chunks], [chunk.tokens for chunk in chunks])
    vectors = to_unit_float16(answer.vectors)
    block = VectorBlock(place, f"{place.split:020d}{place.block:020d}", chunks, vectors, np.empty(0, np.int64))
    quantized = QuantizedBlock(block, (), quantize(vectors, job.collection.prefix_dimensions))
    return write_vector_shard(quantized, job.schema, store).shard


def _index_shards(job: Job, shards: Sequence[VectorShard], store: Store) -> list[IndexShard]:
    tasks = plan_index_tasks(job.collection.tiers, shards, job.collection.sizes.index_shard_rows)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        built = list(pool.map(partial(build_index_shard, store=store), reversed(tasks)))
    for task, index in zip(reversed(tasks), built, strict=True):
        verify_index_shard(index, task.vector_shards, ObjectFiles(store))
    return built


def _timed(ingesting: Ingesting, source: Path, folder: str) -> float:
    with TemporaryDirectory(dir=folder) as root:
        store = LocalStore(Path(root))
        corpus.create(store, corpus.checkpoint())
        return ingesting(source, store)


def main() -> None:
    size = sizes(__doc__, {"chunks": 200_000, "runs": 3, "builds": 0}, {"chunks": 40_000, "runs": 1, "builds": 0})
    vectors = corpus.vectors(size.chunks)
    ours = pipeline if size.builds else pipeline_before_builds
    script = partial(straight, vectors=vectors, builds=bool(size.builds))
    with TemporaryDirectory(prefix="tierloom-") as folder, embedding_for_free(vectors):
        source = corpus.write_documents(Path(folder) / "documents.jsonl", size.chunks)
        timings = in_turn(partial(_timed, ours, source, folder), partial(_timed, script, source, folder), size.runs)
    what = "with index builds" if size.builds else "without index builds"
    claim = f"ingest with a free embedder, {what}: {size.chunks:,} chunks x {corpus.DIMENSIONS} dimensions"
    show(claim, ("tierloom ingest", "straight script"), timings, size.chunks, "chunks", 0.6)


if __name__ == "__main__":
    main()
