"""Rates per minute: kept to in every minute, made use of, and steered by what an endpoint says."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierloom.spending.bucket import MINUTE, Bucket
from tierloom.spending.terms import Spending

REQUEST_LIMITS = st.none() | st.integers(1, 500)
TOKEN_LIMITS = st.none() | st.integers(10, 100_000)


class Clock:
    """Time as a test tells it."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def taken_at(bucket: Bucket, clock: Clock, tokens: int) -> float:
    """When a request has its turn, if it is waited for."""
    while (seconds := bucket.take(tokens)) > 0:
        clock.now += seconds
    return clock.now


def busiest_minute(taken: list[tuple[float, int]]) -> tuple[int, int]:
    """The most requests, and the most tokens, of any minute that begins with a request."""
    minutes = [[tokens for at, tokens in taken if begin <= at < begin + MINUTE - 1e-6] for begin, _ in taken]
    return max(map(len, minutes)), max(map(sum, minutes))


@settings(deadline=None, max_examples=150)
@given(
    requests=REQUEST_LIMITS,
    tokens=TOKEN_LIMITS,
    asked=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=200),
)
def test_no_minute_sees_more_than_the_limits(
    requests: int | None, tokens: int | None, asked: list[tuple[float, float, float]]
) -> None:
    clock, taken = Clock(), list[tuple[float, int]]()
    bucket = Bucket(Spending(requests_per_minute=requests, tokens_per_minute=tokens), clock)
    for idle, share, used in asked:
        clock.now += idle
        bound = max(1, round(share * (bucket.tokens_at_once or 1000)))
        at = taken_at(bucket, clock, bound)
        billed = round(used * bound)
        bucket.give_back(bound - billed)
        taken.append((at, billed))
    most_requests, most_tokens = busiest_minute(taken)
    assert requests is None or most_requests <= requests
    assert tokens is None or most_tokens <= tokens


@pytest.mark.parametrize(("requests", "tokens"), [(600, None), (None, 60_000), (1, None), (7, 90_000)])
def test_a_run_that_has_much_to_ask_makes_use_of_them(requests: int | None, tokens: int | None) -> None:
    clock = Clock()
    bucket = Bucket(Spending(requests_per_minute=requests, tokens_per_minute=tokens), clock)
    began, count = clock.now, 0
    while clock.now - began < 20 * MINUTE:
        taken_at(bucket, clock, 100)
        count += 1
    most = min(requests or 10**9, (tokens or 10**9) // 100)
    assert 0.85 * most * 20 <= count <= most * 20 + 1


def test_without_limits_nobody_waits() -> None:
    bucket = Bucket(Spending())
    assert [bucket.take(10**9) for _ in range(100)] == [0.0] * 100


def test_workers_of_one_machine_share_a_limit(tmp_path: Path) -> None:
    clock, taken = Clock(), list[tuple[float, int]]()
    spending = Spending(requests_per_minute=60, tokens_per_minute=6000, folder=str(tmp_path / "run"))
    buckets = [Bucket(spending, clock) for _ in range(3)]
    drawn = random.Random(1)
    for _ in range(400):
        tokens = drawn.randint(1, 60)
        taken.append((taken_at(drawn.choice(buckets), clock, tokens), tokens))
    most_requests, most_tokens = busiest_minute(taken)
    assert 50 <= most_requests <= 60
    assert most_tokens <= 6000
    for bucket in buckets:
        bucket.close()


def test_an_input_larger_than_what_goes_at_once_is_paid_off_before_the_next() -> None:
    clock = Clock()
    bucket = Bucket(Spending(tokens_per_minute=1000), clock)
    assert bucket.tokens_at_once == 100
    assert bucket.take(800) == 0
    assert taken_at(bucket, clock, 100) == pytest.approx(5000 + 800 / (901 / 60), abs=0.01)


def test_a_retry_after_pauses_all(tmp_path: Path) -> None:
    clock = Clock()
    told, other = (Bucket(Spending(folder=str(tmp_path)), clock) for _ in range(2))
    assert other.take(1) == 0
    told.heed({}, retry_after=20)
    assert other.take(1) == 20
    told.heed({}, retry_after=5)
    assert other.take(1) == 20
    clock.now += 20
    assert other.take(1) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"remaining-requests": "0", "reset-requests": "12s"}, 12.0),
        ({"remaining-tokens": "0", "reset-tokens": "1m2.5s"}, 60.0),
        ({"remaining-tokens": "0", "reset-tokens": "820ms"}, 0.82),
        ({"remaining-requests": "0", "reset-requests": "7"}, 7.0),
        ({"remaining-requests": "0", "reset-requests": "20h3m"}, 60.0),
        ({"remaining-requests": "1", "reset-requests": "12s"}, 0.0),
        ({"remaining-requests": "0"}, 0.0),
        ({"remaining-requests": "0", "reset-requests": "soon"}, 0.0),
        ({"remaining-requests": "none", "reset-requests": "9s"}, 0.0),
        ({"remaining-requests": "-1", "reset-requests": "9s"}, 9.0),
        ({}, 0.0),
    ],
)
def test_the_headers_of_an_answer_are_heeded(headers: dict[str, str], seconds: float) -> None:
    bucket = Bucket(Spending(), Clock())
    bucket.heed({f"x-ratelimit-{name}": value for name, value in headers.items()}, None)
    assert bucket.take(1) == pytest.approx(seconds)


def test_an_account_that_others_use_too_is_asked_only_for_what_remains() -> None:
    clock = Clock()
    bucket = Bucket(Spending(requests_per_minute=600, tokens_per_minute=60_000), clock)
    bucket.heed({"x-ratelimit-remaining-requests": "3", "x-ratelimit-remaining-tokens": "50000"}, None)
    assert [bucket.take(1) for _ in range(3)] == [0.0] * 3
    assert bucket.take(1) > 0


def test_a_wait_without_end_is_tried_after_ten_minutes() -> None:
    bucket = Bucket(Spending(), Clock())
    bucket.heed({}, retry_after=86_400)
    assert bucket.take(1) == 600
