"""Keeping several elements of a bundle in flight while the pipeline reads and writes others."""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms.timing import stopwatch

Pending = tuple[Any, Future[Any], Any, Any]


class OverlappingDoFn(beam.DoFn):
    """A DoFn whose work runs in an executor, ahead of the pipeline.

    Elements in flight weigh `depth` at most, or there is only one: for more, the oldest is waited for. Whatever takes
    an output has done so when the next element is handed to the executor.

    Time spent waiting for results counts as that of `step`. Results leave in the order of the elements, with
    their timestamps and windows; a bundle ends when all of its elements have left. A failure fails the bundle.
    """

    step: str
    depth = 1
    executor: Executor

    def weight(self, _element: Any) -> int:
        """What an element counts against `depth`."""
        return 1

    def executor_for(self, _element: Any) -> Executor:
        """Where an element's work runs."""
        return self.executor

    @abstractmethod
    def work(self, element: Any) -> Callable[[], Any]:
        """What to run for an element, as a callable that the executor can take."""

    @abstractmethod
    def outputs(self, element: Any, result: Any) -> Iterator[Any]:
        """The outputs (or tagged outputs) of an element's result; called on the pipeline's own thread."""

    def start_bundle(self) -> None:
        self._pending: deque[Pending] = deque()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        while self._pending and self._in_flight() + self.weight(element) > self.depth:
            yield from self._leave()
        self._pending.append((element, self.executor_for(element).submit(self.work(element)), timestamp, window))
        # What is ready leaves at once: a result that waits here would be lost if the worker died.
        while self._pending and self._pending[0][1].done():
            yield from self._leave()

    def finish_bundle(self) -> Iterator[Any]:
        while self._pending:
            yield from self._leave()

    def _in_flight(self) -> int:
        return sum(self.weight(element) for element, *_ in self._pending)

    def _leave(self) -> Iterator[Any]:
        element, future, timestamp, window = self._pending.popleft()
        with stopwatch(self.step):
            result = future.result()
        for output in self.outputs(element, result):
            yield windowed(output, timestamp, window)


def windowed(output: Any, timestamp: Any, window: Any) -> Any:
    """An output, tagged or not, at the time and in the window of the element that it comes of."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, WindowedValue(output.value, timestamp, (window,)))
    return WindowedValue(output, timestamp, (window,))
