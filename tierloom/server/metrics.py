"""What Prometheus reads: see docs/server.md for the table."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from tierloom.answer import Answer

# From a tenth of a millisecond, for a shortlist, to the ten seconds that a request may take.
_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_VERSIONS: Final = 4
_NO_ANSWER: Final = ("", "", "", "")


class Metrics:
    """The figures of one server. Labels are bounded: a class without a route is `other`, and of the versions the
    latest four that answered are kept."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._queries = self._counter(
            "queries", "Queries by what served them", ("class", "profile", "tier", "version", "outcome")
        )
        self._steps = self._histogram("step_seconds", "Time of each step of a query", ("step",))
        self._requests = self._counter("requests", "Requests by path and status", ("path", "status"))
        self._request_seconds = self._histogram("request_seconds", "From a request to the end of its answer", ("path",))
        self.in_flight = self._gauge("requests_in_flight", "Requests under way")
        self.moves = self._counter("channel_moves", "Times that another version was taken up")
        self.following_errors = self._counter("following_errors", "Looks at the channel that failed")
        self.overlap = self._gauge(
            "canary_overlap", "Mean share of the exact answers that a profile found lately", ("profile",)
        )
        self.comparisons = self._counter("canary_comparisons", "Queries compared with exact search", ("profile",))
        self._guard = threading.Lock()
        self._of_version: OrderedDict[int, set[tuple[str, ...]]] = OrderedDict()

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when it is read."""
        self._gauge(name, help_).set_function(value)

    def answered(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            served = (_class_of(answer), answer.profile, answer.tier, str(answer.version), "ok")
            with self._guard:
                self._note(answer.version, served)
                self._queries.labels(*served).inc()
            for step, seconds in answer.seconds.items():
                self._steps.labels(step).observe(seconds)

    def unanswered(self, outcome: str) -> None:
        self._queries.labels(*_NO_ANSWER, outcome).inc()

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def _note(self, version: int, labels: tuple[str, ...]) -> None:
        """Forget the version that has not answered for the longest time, when there are too many."""
        self._of_version.setdefault(version, set()).add(labels)
        self._of_version.move_to_end(version)
        if len(self._of_version) > _VERSIONS:
            for old in self._of_version.popitem(last=False)[1]:
                self._queries.remove(*old)

    def _counter(self, name: str, help_: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"tierloom_{name}", help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"tierloom_{name}", help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(f"tierloom_{name}", help_, labels, buckets=_BUCKETS, registry=self.registry)


def _class_of(answer: Answer) -> str:
    if answer.query_class is None:
        return ""
    return answer.query_class if answer.routed else "other"
