"""When a failed request is sent again."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.embedders.retrying import FINAL, Fault, Patience, RequestFailed, retry_after, retrying

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Failing:
    """Fails `failures` times, then answers."""

    def __init__(self, fault: Fault, failures: int = 1000, asked: float | None = None) -> None:
        self.calls = 0
        self._fault, self._failures, self._asked = fault, failures, asked

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise RequestFailed(self._fault, "no", self._asked)
        return "answer"


def run(failing: Failing, patience: Patience, brief: frozenset[Fault] = frozenset()) -> list[float]:
    slept: list[float] = []
    with pytest.raises(RequestFailed):
        retrying(patience, brief, threading.Event(), slept.append)(failing)
    return slept


@pytest.mark.parametrize("fault", sorted(Fault))
def test_each_fault_has_its_number_of_attempts(fault: Fault) -> None:
    for brief, allowed in ((frozenset[Fault](), 7), (frozenset(Fault), 2)):
        failing = Failing(fault)
        run(failing, Patience(attempts=7, brief_attempts=2), brief)
        assert failing.calls == (1 if fault in FINAL else allowed)


def test_an_answer_ends_the_loop() -> None:
    failing, slept = Failing(Fault.BUSY, failures=2), list[float]()
    assert retrying(Patience(), frozenset(), threading.Event(), slept.append)(failing) == "answer"
    assert len(slept) == 2


def test_waits_grow_with_jitter_up_to_the_longest() -> None:
    patience = Patience(attempts=40, total_seconds=1e9, first_wait=0.5, longest_wait=4.0)
    slept = run(Failing(Fault.FAILING), patience)
    ceilings = [min(4.0, 0.5 * 2**attempt) for attempt in range(39)]
    assert all(0 <= waited <= ceiling for waited, ceiling in zip(slept, ceilings, strict=True))
    assert len(set(slept)) > 30


def test_what_the_endpoint_asks_for_is_waited_and_little_more() -> None:
    slept = run(Failing(Fault.BUSY, asked=7.0), Patience(attempts=5))
    assert len(slept) == 4
    assert all(7.0 <= waited <= 7.5 for waited in slept)


def test_a_wait_beyond_the_total_ends_it_at_once() -> None:
    failing = Failing(Fault.BUSY, asked=3600.0)
    assert run(failing, Patience(total_seconds=600.0)) == []
    assert failing.calls == 1


def test_a_set_event_ends_the_waits() -> None:
    over = threading.Event()
    over.set()
    failing = Failing(Fault.BUSY, asked=100.0)
    with pytest.raises(RequestFailed):
        retrying(Patience(attempts=3), frozenset(), over, None)(failing)
    assert failing.calls == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_each_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@given(st.integers(0, 10**6))
def test_dates_and_seconds_agree(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after({"retry-after": date}, NOW) == retry_after({"retry-after": str(seconds)}, NOW)
