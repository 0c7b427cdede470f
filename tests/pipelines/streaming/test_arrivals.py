import pytest

from pipelines.streaming.arrivals import WINDOW_SECONDS, Arrivals
from pipelines.streaming.live_line import LiveLine, stream_line


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_seconds_from_arrival_to_searchable() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    assert arrivals.latency() is None
    arrivals.add([clock.now - seconds for seconds in range(101)], chunks=7)
    latency = arrivals.latency()
    assert latency is not None
    assert (latency.p50, latency.p99) == pytest.approx((50.0, 99.0))
    assert (arrivals.changes, arrivals.chunks) == (101, 7)


def test_only_the_last_minutes_count() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    arrivals.add([clock.now - 100.0], chunks=1)
    clock.now += WINDOW_SECONDS + 1
    arrivals.add([clock.now - 2.0], chunks=1)
    latency = arrivals.latency()
    assert latency is not None
    assert latency.p99 == pytest.approx(2.0)
    assert arrivals.changes == 2


def test_a_clock_that_was_set_back_gives_no_negative_seconds() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    arrivals.add([clock.now + 5.0], chunks=1)
    latency = arrivals.latency()
    assert latency is not None
    assert latency.p50 == 0.0


def test_the_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    clock.now += 10.0
    arrivals.add([clock.now], chunks=500)
    assert arrivals.rate() == pytest.approx(50.0)
    clock.now += 300.0
    arrivals.add([clock.now], chunks=600)
    assert arrivals.rate() == pytest.approx(10.0)


def test_the_line_tells_lag_latency_rate_and_version() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    clock.now += 10.0
    arrivals.add([clock.now - 1.0, clock.now - 1.0], chunks=1000)
    line = stream_line(1234, 56, arrivals)
    assert line == "version 1,234; 2 changes, 100 chunks/s; 56 behind; searchable after 1.0 s (p50), 1.0 s (p99)"
    assert "behind" not in stream_line(1, None, arrivals)


def test_without_a_terminal_a_line_is_not_said_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine() as line:
        for number in range(5):
            line.show(f"line {number}")
        line.say("for good")
    assert capsys.readouterr().err == "line 0\nfor good\n"
