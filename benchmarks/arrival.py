"""From arrival to searchable: documents come at a steady rate, each timed until the version that holds it is there.

The stream says when each document was there by the clock alone, so that one that must wait while the loop is busy is
counted with all of its wait. Compaction runs behind, as it does behind `tierloom stream`; the embedder is free.
"""

import argparse
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks import corpus
from benchmarks.free_embedder import embedding_for_free
from benchmarks.measuring import show_claim, sizes
from pipelines.running import make_job
from pipelines.streaming.live_line import LiveLine
from pipelines.streaming.loop import Pace, StreamLoop
from tierloom.document import Document, Origin
from tierloom.seen_files import SeenFile
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head
from transforms.reading.records import Fields
from transforms.streams.stream import Batch, Change

_PARTS = 6


class SteadyStream:
    """So many documents a second, for so many seconds; one in `again` is a change of an earlier one."""

    source = "steady"

    def __init__(self, texts: Sequence[str], rate: float, seconds: float, again: int = 10) -> None:
        self._texts, self._rate, self._again = texts, rate, again
        self._total = round(rate * seconds)
        self._began = 0.0
        self._taken = 0
        self.seconds: list[float] = []

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        self._began = time.time()

    def take(self, limit: int, seconds: float) -> Batch | None:
        if self._taken == self._total:
            return None
        if not self._waiting():
            time.sleep(min(seconds, max(0.0, self._arrival(self._taken) - time.time())))
        end = self._taken + min(limit, self._waiting())
        changes = tuple(Change(self._document(number), self._arrival(number)) for number in range(self._taken, end))
        self._taken = end
        return Batch(changes, {"0": end})

    def behind(self) -> int:
        return self._waiting()

    def published(self, batch: Batch) -> None:
        """Note how long each change took."""
        now = time.time()
        self.seconds += [now - change.arrived for change in batch.changes]

    def close(self) -> None:
        """Nothing is held."""

    def _arrival(self, number: int) -> float:
        return self._began + number / self._rate

    def _waiting(self) -> int:
        due = int((time.time() - self._began) * self._rate) + 1
        return max(0, min(due, self._total) - self._taken)

    def _document(self, number: int) -> Document:
        name = number if number % self._again else number // 2
        text = f"{number}\n\n" + self._texts[number % len(self._texts)]
        return Document(f"document-{name}", number, text, "{}", Origin("steady", number))


def published_seconds(size: argparse.Namespace, folder: Path) -> list[float]:
    """For each change, in the order of arrival, the seconds until it was published."""
    store = LocalStore(folder / "store")
    corpus.create(store, corpus.checkpoint())
    texts = [_text_of(line) for line in corpus.write_documents(folder / "texts.jsonl", 4000).open()]
    stream = SteadyStream(texts, size.rate / corpus.CHUNKS_PER_DOCUMENT, size.seconds)
    loop = StreamLoop(make_job(store.url, "stream", Fields()), stream, Pace(), LiveLine(), threading.Event())
    loop.run()
    head = read_head(store)
    shards = f"{len(head.vector_shards)} vector shards, {len(head.index_shards)} index shards"
    print(f"  {head.live_chunks:,} live chunks in version {head.version:,}: {shards}")
    return stream.seconds


def main() -> None:
    size = sizes(__doc__, {"rate": 500, "seconds": 600}, {"rate": 500, "seconds": 60})
    vectors = corpus.vectors(50_000)
    show_claim(f"arrival to searchable: {size.rate} chunks/s x {corpus.DIMENSIONS} dimensions for {size.seconds} s")
    with TemporaryDirectory(prefix="tierloom-") as folder, embedding_for_free(vectors):
        seconds = published_seconds(size, Path(folder))
    for part, some in enumerate(np.array_split(np.array(seconds), _PARTS), start=1):
        _show(f"part {part} of {_PARTS}", some)
    _show("all", np.array(seconds))
    print("  (target: p50 at most 2 s, p99 at most 6 s, and not growing)", flush=True)


def _show(name: str, seconds: NDArray[np.float64]) -> None:
    p50, p99 = np.percentile(seconds, (50, 99))
    print(f"  {name:<12}  p50 {p50:6.2f} s   p99 {p99:6.2f} s   most {seconds.max():6.2f} s")


def _text_of(line: str) -> str:
    text: str = json.loads(line)["text"]
    return text


if __name__ == "__main__":
    main()
