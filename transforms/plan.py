"""Counting what an ingest would take: the same steps up to the model, and nothing is stored or sent."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics

from tierloom import names
from tierloom.canary_room import pack_with_canaries
from tierloom.checkpoint import Checkpoint
from tierloom.dead_letter import DeadLetter
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from transforms.base import Base, base_if_any, base_of
from transforms.compare import Deletions
from transforms.elements import ChunkBlock, DocumentBlock, Tally
from transforms.job import Job
from transforms.progress import Progress
from transforms.reuse import with_known_vectors
from transforms.timing import stopwatch

NAMESPACE = "tierloom.plan"


@dataclass(frozen=True, slots=True)
class Counted:
    """Of some chunks: how many would be `embedded`, in how many `requests` and for how many `tokens`; how many `copied`
    from live rows, or `found` in shards that an interrupted run had finished. The requests carry so many `canaries`
    besides. `input_bytes` is the JSON of what would be sent but for these, `text_bytes` the text of all that would be
    stored."""

    chunks: int = 0
    embedded: int = 0
    copied: int = 0
    found: int = 0
    tokens: int = 0
    requests: int = 0
    canaries: int = 0
    input_bytes: int = 0
    text_bytes: int = 0


def count_block(
    block: ChunkBlock, missing: Sequence[int], found: bool, checkpoint: Checkpoint, at_once: int
) -> Counted:
    """What a block comes to, of which these positions have no vector yet. A request holds `at_once` tokens at most;
    those of its canary are among them, and are not counted otherwise."""
    asked = [block.chunks[at] for at in missing]
    tokens = [chunk.tokens for chunk in asked]
    size = len(block.chunks)
    packed = pack_with_canaries(tokens, checkpoint, at_once)
    return Counted(
        chunks=size,
        embedded=len(asked),
        copied=0 if found else size - len(asked),
        found=size if found else 0,
        tokens=sum(tokens),
        requests=packed.requests,
        canaries=0 if checkpoint.space.in_process else packed.canaries,
        input_bytes=sum(len(msgspec.json.encode(chunk.model_input)) for chunk in asked),
        text_bytes=sum(_stored(chunk.text, chunk.metadata, chunk.heading, chunk.document_id) for chunk in block.chunks),
    )


def _stored(*texts: str) -> int:
    return sum(len(text.encode(errors="replace")) for text in texts)


def count_chunks(block: ChunkBlock, job: Job, base: Base | None, store: Store, at_once: int) -> Counted:
    """What a block comes to, given what is stored already. Without a `base` no vector is known."""
    schema, checkpoint = job.schema, job.checkpoint
    digest = block.digest(schema.checkpoint, schema.prefix_dimensions)
    if store.size(names.vector_shard(digest)) is not None:
        return count_block(block, (), True, checkpoint, at_once)
    if base is None:
        return count_block(block, range(len(block.chunks)), False, checkpoint, at_once)
    missing = with_known_vectors(block, digest, base, schema).missing
    return count_block(block, missing.tolist(), False, checkpoint, at_once)


class CountDoFn(beam.DoFn):
    """ChunkBlock -> nothing; its counts are counters of the run, which every runner brings back. The generation
    need not be there yet."""

    def __init__(self, job: Job, at_once: int) -> None:
        """`at_once` are the most tokens of a request."""
        self._job = job
        self._at_once = at_once

    def setup(self) -> None:
        self._store = open_store(self._job.store)
        self._progress = Progress(self._job.progress)

    def start_bundle(self) -> None:
        self._base = base_if_any(self._job)

    def process(self, block: ChunkBlock) -> Iterator[None]:
        with stopwatch("reuse"):
            counted = count_chunks(block, self._job, self._base, self._store, self._at_once)
        add_to_counters({counter_of(name, self._job): amount for name, amount in asdict(counted).items()})
        self._progress.add(done=counted.chunks, copied=counted.copied, found=counted.found)
        yield from ()


class CountEventsDoFn(beam.DoFn):
    """A Tally, a DeadLetter or Deletions -> nothing; counted as `CountDoFn` does."""

    def process(self, one: Tally | DeadLetter | Deletions) -> Iterator[None]:
        if isinstance(one, Tally):
            add_to_counters(asdict(one))
        elif isinstance(one, DeadLetter):
            add_to_counters({"dead_letters": 1})
        else:
            add_to_counters({"deletions": len(one)})
        yield from ()


class CountDocumentsDoFn(beam.DoFn):
    """DocumentBlock -> the same, counting which documents are new to the base, and which changed."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def start_bundle(self) -> None:
        self._base = base_of(self._job)

    def process(self, block: DocumentBlock) -> Iterator[DocumentBlock]:
        known = self._base.sequences({document.document_id for document in block.documents})
        changed = sum(document.document_id in known for document in block.documents)
        add_to_counters({"changed_documents": changed, "new_documents": len(block.documents) - changed})
        yield block


def counter_of(name: str, job: Job) -> str:
    """What the counter of a member of `Counted` is called, for one generation."""
    return f"{job.fingerprint} {name}"


def add_to_counters(amounts: dict[str, int]) -> None:
    """Add to the counters of the plan."""
    for name, amount in amounts.items():
        Metrics.counter(NAMESPACE, name).inc(amount)
