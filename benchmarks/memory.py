"""Peak memory of the worker that ingests, for a small and a large corpus: bounded by the shards, not by the corpus.

Each ingest runs in a process of its own, on one worker, until its index builds would begin (those run in processes of
their own, bounded by the rows of an index shard). The embedder draws vectors as it is asked, so that none are held.
Shards are small enough that even the small corpus fills several.

Resident memory counts the pages of mapped files, which the system takes back whenever it needs them; anonymous
memory is what the worker really holds. Both are sampled from /proc/self/status; the peak of the resident is VmHWM.
"""

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec

from benchmarks import corpus
from benchmarks.ingest_free import pipeline_before_builds
from benchmarks.measuring import show_claim, sizes
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Sizes
from tierloom.embedders.embedder import Embedded
from tierloom.stores.local import LocalStore

_SECONDS = 0.02
_MEGABYTE = 1e6


class Peaks(msgspec.Struct):
    """Bytes: before the ingest, and the most while it ran."""

    anonymous_before: int
    anonymous: int
    resident: int


class DrawingEmbedder:
    """Answers with vectors drawn as they are asked for."""

    def __init__(self) -> None:
        self._asked = 0

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`."""
        self._asked += 1
        return Embedded(corpus.vectors(len(inputs), seed=self._asked), {}, 0)

    def close(self) -> None:
        """Nothing is held open."""


class Watch:
    """Samples the anonymous memory of this process until it is stopped."""

    def __init__(self) -> None:
        self.peak = self.before = memory("RssAnon")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> Peaks:
        self._stopped.set()
        self._thread.join()
        return Peaks(self.before, self.peak, memory("VmHWM"))

    def _sample(self) -> None:
        while not self._stopped.wait(_SECONDS):
            self.peak = max(self.peak, memory("RssAnon"))


def memory(kind: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no line {kind}")


def ingest_here(chunks: int, shard_rows: int) -> Peaks:
    """Ingest a corpus in this process."""

    def open_drawing(_checkpoint: Checkpoint, *_: object) -> DrawingEmbedder:
        return DrawingEmbedder()

    with TemporaryDirectory(prefix="tierloom-") as folder:
        source = corpus.write_documents(Path(folder) / "documents.jsonl", chunks)
        store = LocalStore(Path(folder) / "store")
        corpus.create(store, corpus.checkpoint(), Sizes(vector_shard_rows=shard_rows))
        with patch("transforms.embed.open_embedder", open_drawing):
            watch = Watch()
            pipeline_before_builds(source, store)
            return watch.stop()


def ingest_apart(chunks: int, shard_rows: int) -> Peaks:
    """Ingest a corpus in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--here", str(chunks), str(shard_rows)]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return msgspec.json.decode(ran.stdout, type=Peaks)


def show_peaks(chunks: int, peaks: Peaks) -> None:
    grown = peaks.anonymous - peaks.anonymous_before
    print(
        f"  {chunks:>9,} chunks   anonymous {peaks.anonymous / _MEGABYTE:8,.1f} MB, of which the ingest "
        f"{grown / _MEGABYTE:8,.1f} MB   resident with mapped files {peaks.resident / _MEGABYTE:8,.1f} MB",
        flush=True,
    )


def main() -> None:
    size = sizes(
        __doc__,
        {"small": 50_000, "large": 400_000, "shard_rows": 32_768},
        {"small": 20_000, "large": 80_000, "shard_rows": 8_192},
    )
    show_claim(f"peak memory of a worker, shards of {size.shard_rows:,} rows x {corpus.DIMENSIONS} dimensions")
    small, large = ingest_apart(size.small, size.shard_rows), ingest_apart(size.large, size.shard_rows)
    show_peaks(size.small, small)
    show_peaks(size.large, large)
    ratio = (large.anonymous - large.anonymous_before) / (small.anonymous - small.anonymous_before)
    print(f"  {size.large / size.small:.1f} times the corpus took {ratio:.2f} times the memory", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        sys.stdout.buffer.write(msgspec.json.encode(ingest_here(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
