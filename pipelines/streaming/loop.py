"""The loop of a stream: gather what has come, publish it as one version, tell the source."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pipelines.checking_model import check_models_first
from pipelines.streaming.arrivals import Arrivals
from pipelines.streaming.gathering import Gatherer, bounds_of
from pipelines.streaming.live_line import LiveLine, stream_line
from pipelines.streaming.patience import patiently, said_when_slow
from pipelines.streaming.totals import Totals
from pipelines.streaming.upkeep import Upkeep
from tierloom.document import Document
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.run_report import RunReport
from tierloom.seen_files import read_seen_files
from tierloom.stores.opening import open_store
from tierloom.versions import read_head
from transforms.job import Job
from transforms.micro_batch import MicroBatches
from transforms.publishing.outcome import CursorMove
from transforms.streams.stream import Batch, ChangeStream


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stream is taken: `max_batch` changes at most are published together, batches are at least `interval`
    seconds apart, and what is out of reach is waited for `patience` seconds. `once`: only until it has caught up."""

    max_batch: int = 2000
    interval: float = 1.0
    patience: float = 300.0
    from_beginning: bool = False
    once: bool = False


class StreamLoop:
    """Publishes one stream into one collection until it ends, or is to stop. For one thread."""

    def __init__(
        self,
        job: Job,
        stream: ChangeStream,
        pace: Pace,
        line: LiveLine,
        stop: threading.Event,
        watch: Callable[[Totals], None] = lambda totals: None,
    ) -> None:
        """`watch` is shown the totals in every turn."""
        self._watch = watch
        self._job = replace(job, base=None)
        self._stream = stream
        self._pace = pace
        self._line = line
        self._stop = stop
        self._store = open_store(job.store)
        self._arrivals = Arrivals()
        self._totals = Totals()
        self._checked = False
        self._gatherer = Gatherer(stream, bounds_of(job.collection, pace.max_batch, pace.interval), stop.is_set)

    def run(self) -> Totals:
        """Raises what ended it, if it was not its source or `stop`; all that was published stays so."""
        head = read_head(self._store)
        self._totals.version = head.version
        self._last_came = time.monotonic()
        self._positions = self._take_up(head)
        with ExitStack() as held:
            held.callback(self._stream.close)
            self._batches = MicroBatches(self._job)
            held.callback(self._batches.close)
            self._upkeep = held.enter_context(Upkeep(self._store, self._line.say))
            while self._turn():
                self._show()
        return self._totals.with_latency(self._arrivals.latency())

    def _show(self) -> None:
        behind = self._stream.behind()
        line = stream_line(self._totals.version, behind, self._arrivals)
        self._line.show(line, version=self._totals.version, changes=self._arrivals.changes, behind=behind)
        self._watch(self._totals)

    def _take_up(self, head: Manifest) -> Mapping[str, int] | None:
        """Open the stream where the last one left it; that place."""
        held = head.cursor_of(self._stream.source)
        seen = read_seen_files(head.files, ObjectFiles(self._store))
        if self._pace.from_beginning:
            # Read again, though they did not change; what is gone, and which sequences were given, stays known.
            self._stream.open(None, {name: replace(file, modified_ns=0) for name, file in seen.items()})
        else:
            self._stream.open(held.positions if held else None, seen)
            if held:
                self._line.say(f"going on where {held.holder} left {held.source} at {held.moved}")
        return held.positions if held else None

    def _turn(self) -> bool:
        """Publish what has come; whether to go on."""
        gathered = self._gatherer.next()
        batch = gathered.batch
        something = bool(batch.changes or batch.files)
        if something:
            self._publish(batch)
        self._upkeep.look(published=something)
        caught_up = self._pace.once and self._has_caught_up(something)
        return not (gathered.ended or caught_up or self._totals.left_documents or self._stop.is_set())

    def _has_caught_up(self, something: bool) -> bool:
        """Whether nothing waits; of a source that cannot tell, whether nothing came for a while."""
        now = time.monotonic()
        if something:
            self._last_came = now
            return False
        behind = self._stream.behind()
        return behind == 0 or (behind is None and now - self._last_came >= _QUIET_SECONDS)

    def _publish(self, batch: Batch) -> None:
        work = partial(self._batches.publish, batch, uuid.uuid4().hex, self._move(batch))
        with said_when_slow(self._line.say):
            self._check_model(batch)
            report: RunReport = patiently(work, self._pace.patience, self._stop, self._line.say)
        self._totals.add(report)
        if report.record.left_documents:
            # What of the batch is published is known when it comes again; the source keeps all of it.
            return
        self._positions = self._positions if batch.positions is None else batch.positions
        self._stream.published(batch)
        chunks = report.record.embedded_chunks + report.record.copied_chunks + report.record.found_chunks
        self._arrivals.add([change.arrived for change in batch.changes], chunks)

    def _check_model(self, batch: Batch) -> None:
        """Before the first documents: a stream to which nothing comes pays for nothing."""
        if self._checked or not any(isinstance(change.event, Document) for change in batch.changes):
            return
        check = partial(check_models_first, self._job, self._line.say)
        checked: Job = patiently(check, self._pace.patience, self._stop, self._line.say)
        self._totals.canary_tokens += sum(tokens for _, tokens in checked.canary_tokens)
        self._checked = True

    def _move(self, batch: Batch) -> CursorMove | None:
        if batch.positions is None:
            return None
        return CursorMove(self._stream.source, self._positions, batch.positions, _HOLDER)


# Longer than a service takes to bring what it has.
_QUIET_SECONDS: Final = 5.0
_HOLDER: Final = f"{socket.gethostname()}, process {os.getpid()}"
