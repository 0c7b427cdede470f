"""Runs without Beam: the real DoFns, driven one after the other, from splits to a published version."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.reembedding import next_ranges, texts_of
from pipelines.running import generation_jobs, make_job
from tests.embedders.batch_server import BatchServer
from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tierloom.canary_check import check_model
from tierloom.checkpoint import Checkpoint, Limits, Space
from tierloom.checkpoint import Endpoint as Address
from tierloom.collection import Chunking, Collection, Sizes, plan_tiers
from tierloom.creating import create_collection
from tierloom.manifest import Manifest
from tierloom.run_report import RunReport
from tierloom.stores.opening import open_store
from tierloom.versions import read_head
from transforms.base import retried_letters
from transforms.build import BuildIndexShardDoFn, PlanIndexesDoFn
from transforms.chunk import ChunkDoFn
from transforms.compare import CompareDoFn
from transforms.dead_letters import StoreLettersDoFn
from transforms.embed import EmbedDoFn
from transforms.embed_by_batch import EmbedByBatchDoFn
from transforms.inline import Aside, InlineStep, aside
from transforms.job import Job
from transforms.merge import MergeDoFn, SettleDoFn
from transforms.publish import GatherDoFn, PublishDoFn
from transforms.publishing.outcome import Made
from transforms.quantize import QuantizeDoFn
from transforms.read import ReadDoFn, split_of_letter
from transforms.reading.records import Fields
from transforms.reading.splits import FilePart, Split
from transforms.rephrase import RephraseDoFn
from transforms.retry import ReadLettersDoFn
from transforms.reuse import ReuseDoFn
from transforms.stored_chunks import StoredChunksDoFn
from transforms.verify import VerifyDoFn
from transforms.write import WriteVectorShardDoFn

MAIN = "main"


def drive(dofn: beam.DoFn, elements: Iterable[Any], *sides: Any) -> Aside:
    """All outputs of a DoFn over one bundle, by tag."""
    step, outputs = InlineStep(dofn), aside()
    with closing(step):
        outputs[MAIN] = list(step.bundle(elements, *sides, others=outputs))
    return outputs


def run_directly(job: Job, splits: Sequence[Split]) -> RunReport:
    """What `pipelines.running.run` does, in this thread."""
    first, *others = generation_jobs(job)
    read = drive(ReadDoFn(first), enumerate(splits))
    compared = drive(CompareDoFn(first), read[MAIN])
    cut = drive(ChunkDoFn(first), compared[MAIN])
    told = {
        "deletions": compared["deletions"],
        "letters": read["letters"] + cut["letters"],
        "tally": read["tally"] + compared["tally"],
        "files": read["files"],
    }
    made = [_made(first, cut[MAIN], told)]
    made += [_made(other, drive(RephraseDoFn(other), cut[MAIN])[MAIN], told) for other in others]
    return _published(first, made)


def reembed_directly(store: str, checkpoint: str) -> RunReport:
    """What `pipelines.reembedding` does for the next part of a generation, in this thread."""
    opened = open_store(store)
    generation = read_head(opened).of(checkpoint)
    source = texts_of(generation)
    ranges = next_ranges(generation, source)
    any_job = replace(make_job(store, "reembed", Fields()), base=generation.version)
    job = any_job.of(generation, opened)
    stored = drive(StoredChunksDoFn(any_job.of(source, opened), job), [(0, ranges)])
    told = {"tally": stored["tally"]}
    return _published(job, [_made(job, stored[MAIN], told, range(ranges[0].start, ranges[-1].stop))])


def _made(job: Job, chunks: Sequence[Any], told: Mapping[str, list[Any]], part: range | None = None) -> Made:
    """What a run makes of one generation, of chunks and of what else it was `told`."""
    again = drive(ReadLettersDoFn(job), [None]) if job.retry else aside()
    reused = drive(ReuseDoFn(job), [*chunks, *again[MAIN]])
    embedded = drive((EmbedByBatchDoFn if job.by_batches else EmbedDoFn)(job), reused[MAIN])
    written = drive(WriteVectorShardDoFn(job), drive(QuantizeDoFn(job), embedded[MAIN])[MAIN])
    letters = told.get("letters", []) + reused["letters"] + embedded["letters"]
    parts = drive(StoreLettersDoFn(job), [letters] if letters else [])[MAIN]
    receipts = written[MAIN] + reused["finished"]
    settled = drive(SettleDoFn(job), [None], receipts, told.get("deletions", []), parts, embedded["left"])
    merged = drive(MergeDoFn(job), settled[MAIN])[MAIN]
    built = drive(BuildIndexShardDoFn(job), drive(PlanIndexesDoFn(job), [None], merged)[MAIN])
    verified = drive(VerifyDoFn(job), built[MAIN])[MAIN]
    tallies = told["tally"] + again["tally"]
    sides = (merged, verified, parts, tallies, told.get("files", []), settled["settled"][0])
    made: Made = drive(GatherDoFn(job, part), [None], *sides)[MAIN][0]
    return made


def _published(job: Job, made: Sequence[Made]) -> RunReport:
    report: RunReport = drive(PublishDoFn(job), [None], made)[MAIN][0]
    return report


def run_retry(store: str, job: Job | None = None) -> RunReport:
    """What `tierloom dead-letters --retry` does."""
    job = job or make_job(store, "retry", Fields(), retry=True)
    return run_directly(job, [split_of_letter(letter) for letter in retried_letters(job) if letter.chunk is None])


class Refusing:
    """A script for an endpoint: a request that holds one of `words` gets a 400."""

    def __init__(self) -> None:
        self.words: set[str] = set()

    def __call__(self, asked: Asked) -> Reply | None:
        if any(word in text for text in asked.inputs for word in self.words):
            return error(400, "cannot embed this")
        return None


def small_collection(
    store: str,
    endpoint: Endpoint | BatchServer,
    block_chunks: int = 100,
    shard_rows: int = 1000,
    tiers: tuple[int, ...] = (8, 16),
) -> Manifest:
    """A collection of a 16-dimensional model at a loopback endpoint, with chunks of one 8-byte word."""
    checkpoint = Checkpoint(
        space=Space("openai", "test-model", "1", 16, (4, 8, 16)),
        limits=Limits(tokens_per_input=4000),
        endpoint=Address(base_url=endpoint.base_url, api_key_env="TIERLOOM_TEST_KEY"),
    )
    collection = Collection(
        checkpoint=checkpoint.fingerprint,
        prefix_dimensions=tiers[-1],
        tiers=plan_tiers(checkpoint, tiers, untrained_prefixes=False),
        chunking=Chunking(max_tokens=8),
        sizes=Sizes(block_chunks=block_chunks, vector_shard_rows=shard_rows, index_shard_rows=4 * shard_rows),
    )
    created = create_collection(open_store(store), checkpoint, collection)
    # As whoever starts a run does.
    check_model(open_store(store), checkpoint)
    return created


def ingest_job(store: str, base: int | None = None) -> Job:
    job = make_job(store, "ingest", Fields())
    return job if base is None else replace(job, base=base)


def head_of(store: str) -> Manifest:
    return read_head(open_store(store))


def record_line(document_id: str, sequence: int, text: str, **metadata: Any) -> str:
    return json.dumps({"id": document_id, "sequence": sequence, "text": text, **metadata}) + "\n"


def deletion_line(document_id: str, sequence: int) -> str:
    return json.dumps({"id": document_id, "sequence": sequence, "deleted": True}) + "\n"


def split_of_lines(path: Path, lines: Sequence[str]) -> Split:
    """A new JSONL file, read as one split."""
    path.write_text("".join(lines))
    size = path.stat().st_size
    return Split((FilePart(str(path), "jsonl", None, 0, size, size, 1),), size)
