"""Time spent in each step, as Beam counters that every runner reports."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.metrics import Metrics

NAMESPACE = "tierloom.microseconds"


@contextmanager
def stopwatch(step: str) -> Iterator[None]:
    """Add the time inside to the counter of `step`."""
    began = time.perf_counter()
    try:
        yield
    finally:
        Metrics.counter(NAMESPACE, step).inc(round(1e6 * (time.perf_counter() - began)))
