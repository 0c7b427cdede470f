"""How often a failed request is sent again, and when: the only retry layer there is."""

import math
import random
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import tenacity
from tenacity.nap import sleep_using_event


class Fault(StrEnum):
    """Why a request brought no usable answer."""

    UNREACHABLE = "unreachable"  # no connection, or it broke
    TIMED_OUT = "timed-out"
    BUSY = "busy"  # 408, 409, 429
    FAILING = "failing"  # 5xx
    EXPIRED = "expired"  # a batch ended before its turn came
    MALFORMED = "malformed"  # 200, but not an answer
    NO_CANARY = "no-canary"  # an answer without a usable vector for the canary that went along
    WRONG_DIMENSIONS = "wrong-dimensions"  # an answer of another model
    REFUSED_INPUT = "refused-input"  # any other 4xx
    REFUSED_JOB = "refused-job"  # key, quota, model or address


class RequestFailed(Exception):
    """One request without a usable answer. `retry_after` is what the endpoint asked for, in seconds; `billed` tells
    whether it may have been billed all the same."""

    def __init__(self, fault: Fault, detail: str, retry_after: float | None = None, billed: bool = True) -> None:
        super().__init__(detail)
        self.billed = billed
        self.fault = fault
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to keep asking.

    `attempts` for an endpoint that is down or busy, `brief_attempts` where asking again seldom helps; both end
    after `total_seconds`. Waits grow from `first_wait` to `longest_wait` seconds with full jitter
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    attempts: int = 10
    brief_attempts: int = 3
    total_seconds: float = 600.0
    first_wait: float = 0.5
    longest_wait: float = 60.0


# 401 and 403: the key; 402: the balance; 404, 405 and redirects: the address or the model.
_JOB_STATUSES = frozenset({401, 402, 403, 404, 405, 410})
_BUSY_STATUSES = frozenset({408, 409, 429})
# https://platform.openai.com/docs/guides/error-codes: a 429 that waiting does not cure.
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})


def fault_of(status: int, codes: Collection[str | None]) -> Fault:
    """What an HTTP status that is no success means; `codes` are the code and the type that its body names."""
    if status < 400 or status in _JOB_STATUSES or not _QUOTA_CODES.isdisjoint(codes):
        return Fault.REFUSED_JOB
    if status in _BUSY_STATUSES:
        return Fault.BUSY
    return Fault.FAILING if status >= 500 else Fault.REFUSED_INPUT


# An unchanged request that was refused is refused again: it is never repeated.
FINAL = frozenset({Fault.WRONG_DIMENSIONS, Fault.REFUSED_INPUT, Fault.REFUSED_JOB})


def retrying(
    patience: Patience, brief: frozenset[Fault], over: threading.Event, sleep: Callable[[float], None] | None
) -> tenacity.Retrying:
    """A retry loop for one request. The faults in `brief` have only the brief attempts.

    When `over` is set, waits end at once. `sleep` takes the place of waiting.
    """

    too_late = tenacity.stop_before_delay(patience.total_seconds)

    def enough(state: tenacity.RetryCallState) -> bool:
        fault = _failure(state).fault
        allowed = 1 if fault in FINAL else patience.brief_attempts if fault in brief else patience.attempts
        return state.attempt_number >= allowed or too_late(state)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RequestFailed),
        stop=enough,
        wait=_waits(patience),
        sleep=sleep or sleep_using_event(over),
        reraise=True,
    )


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that an answer's `retry-after-ms` or `Retry-After` header (seconds or HTTP date, RFC 9110) asks for."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    stated = headers.get("retry-after")
    seconds = _number(stated)
    return seconds if seconds is not None else _seconds_until(stated, now or datetime.now(UTC))


def _waits(patience: Patience) -> Callable[[tenacity.RetryCallState], float]:
    backoff = tenacity.wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait)

    def wait(state: tenacity.RetryCallState) -> float:
        asked = _failure(state).retry_after
        # Jitter on top of what was asked for: requests refused together should not come back together.
        return backoff(state) if asked is None else asked + random.uniform(0, patience.first_wait)

    return wait


def _failure(state: tenacity.RetryCallState) -> RequestFailed:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, RequestFailed):
        raise TypeError(f"only RequestFailed is retried, not {error!r}")
    return error


def _number(stated: str | None) -> float | None:
    try:
        number = float(stated) if stated is not None else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _seconds_until(stated: str | None, now: datetime) -> float | None:
    try:
        until = parsedate_to_datetime(stated) if stated else None
    except ValueError:
        return None
    if until is None:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds())
