"""Ingest with a slow embedder, against what its endpoint alone can give at the same concurrency.

The endpoint is a process of its own on loopback that takes 50 ms for a request. The bare client keeps the same number
of requests of the same texts under way with the `openai` client's own transport, and throws the answers away.
Ours ends where index builds would begin.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import openai

from benchmarks import corpus
from benchmarks.ingest_free import pipeline_before_builds
from benchmarks.measuring import in_turn, show, sizes
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Chunking
from tierloom.stores.local import LocalStore
from transforms.chunk import Chunker
from transforms.read import read_split
from transforms.reading.sources import plan_splits

CONCURRENCY = 8  # what `tierloom ingest` uses unless told otherwise
ENDPOINT = Path(__file__).parents[1] / "tests" / "embedders" / "endpoint.py"


@contextmanager
def endpoint(delay_ms: int) -> Iterator[str]:
    """The base URL of an endpoint that serves until the end of the block."""
    options = ["--dimensions", str(corpus.DIMENSIONS), "--delay-ms", str(delay_ms), "--table", "4096"]
    command = [sys.executable, str(ENDPOINT), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as served:
        if served.stdout is None or served.stdin is None:
            raise AssertionError("both are pipes")
        yield served.stdout.readline().strip()
        served.stdin.close()


def texts_of(source: Path, model: Checkpoint) -> list[str]:
    """What the model is sent for the chunks of a source."""
    chunker = Chunker(model, Chunking(max_tokens=corpus.CHUNK_BYTES))
    read = (document for split in plan_splits([str(source)]).splits for document in read_split(split))
    return [chunk.model_input for document in read for chunk in chunker.cut(document)]  # type: ignore[arg-type]


def ask_barely(texts: Sequence[str], model: Checkpoint) -> float:
    """Seconds that the endpoint takes to answer for all texts."""
    size = model.limits.inputs_per_request
    bodies = [
        msgspec.json.encode({"model": "benchmark", "input": texts[at : at + size], "encoding_format": "base64"})
        for at in range(0, len(texts), size)
    ]
    with openai.OpenAI(api_key="none", base_url=model.endpoint.base_url, max_retries=0) as client:

        def ask(body: bytes) -> None:
            client.post("/embeddings", cast_to=openai.HttpxBinaryResponseContent, content=body)

        began = time.perf_counter()
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            list(pool.map(ask, bodies))
        return time.perf_counter() - began


def ingest(source: Path, model: Checkpoint, folder: str) -> float:
    with TemporaryDirectory(dir=folder) as root:
        store = LocalStore(Path(root))
        corpus.create(store, model)
        return pipeline_before_builds(source, store)


def main() -> None:
    size = sizes(
        __doc__,
        {"chunks": 100_000, "inputs": 16, "delay_ms": 50, "runs": 3},
        {"chunks": 20_000, "inputs": 16, "delay_ms": 50, "runs": 1},
    )
    with TemporaryDirectory(prefix="tierloom-") as folder, endpoint(size.delay_ms) as url:
        model = corpus.checkpoint(url, size.inputs)
        source = corpus.write_documents(Path(folder) / "documents.jsonl", size.chunks)
        texts = texts_of(source, model)
        timings = in_turn(partial(ingest, source, model, folder), partial(ask_barely, texts, model), size.runs)
    claim = (
        f"ingest with a slow embedder: {size.chunks:,} chunks x {corpus.DIMENSIONS} dimensions, "
        f"{CONCURRENCY} requests of {size.inputs} inputs at a time, {size.delay_ms} ms each"
    )
    show(claim, ("tierloom ingest", "endpoint alone"), timings, size.chunks, "chunks", 0.95)


if __name__ == "__main__":
    main()
