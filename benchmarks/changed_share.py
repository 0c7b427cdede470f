"""A corpus comes again, and 1 % of its documents have another text: what that costs, against the first ingest.

All documents lie in one JSONL file, which is written anew, so that every one of them is read and compared; a file that
did not change would not even be opened. Every chunk of a changed document is new. The embedder is free.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import corpus
from benchmarks.free_embedder import embedding_for_free
from benchmarks.measuring import show_claim, sizes
from pipelines.beam_options import split_arguments
from pipelines.running import Work, make_job, run
from tierloom.manifest import RunRecord
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from transforms.base import base_of
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one ingest did, and its seconds."""

    record: RunRecord
    seconds: float


def ingest(source: Path, store: Store) -> Ingested:
    """What `tierloom ingest` does."""
    began = time.perf_counter()
    job = make_job(store.url, "ingest", Fields())
    plan = plan_splits([str(source)], Fields(), seen=base_of(job).seen)
    ran = run(job, Work(plan.splits), split_arguments([])[1])
    return Ingested(ran.report.record, time.perf_counter() - began)


def change(source: Path, every: int) -> None:
    """Give one document in `every` another text, and a higher sequence."""
    changed = source.with_suffix(".changed")
    with source.open() as before, changed.open("w") as after:
        for number, line in enumerate(before):
            after.write(line if number % every else _changed(line))
    changed.replace(source)


def _changed(line: str) -> str:
    record = json.loads(line)
    paragraphs = [f"Changed: {paragraph[9:]}" for paragraph in record["text"].split("\n\n")]
    changed = {"sequence": record["sequence"] + (1 << 40), "text": "\n\n".join(paragraphs)}
    return json.dumps(record | changed) + "\n"


def main() -> None:
    size = sizes(__doc__, {"documents": 100_000, "every": 100}, {"documents": 10_000, "every": 100})
    show_claim(f"one in {size.every} of {size.documents:,} documents changed")
    with TemporaryDirectory(prefix="tierloom-") as folder, embedding_for_free(corpus.vectors(100_000)):
        store = LocalStore(Path(folder) / "store")
        corpus.create(store, corpus.checkpoint())
        source = corpus.write_documents(Path(folder) / "documents.jsonl", size.documents * corpus.CHUNKS_PER_DOCUMENT)
        full = ingest(source, store)
        change(source, size.every)
        again = ingest(source, store)
    _show("first ingest", full)
    _show("again", again)
    chunks = again.record.embedded_chunks / full.record.embedded_chunks
    print(f"  share         {chunks:10.2%} of the chunks that the model is asked for (target: at most 1.02 %)")
    print(
        f"  share         {again.seconds / full.seconds:10.2%} of the time              (target: at most 8 %)",
        flush=True,
    )


def _show(name: str, ingested: Ingested) -> None:
    record = ingested.record
    print(
        f"  {name:<12}  {ingested.seconds:10.2f} s  {record.embedded_chunks:>9,} chunks embedded, "
        f"{record.added:,} documents added, {record.changed:,} changed"
    )


if __name__ == "__main__":
    main()
