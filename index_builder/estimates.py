"""Means over the queries of a sample, and how sure they are."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.gate import TOP, Advantage, Estimate

# Two-sided 95 % of the normal distribution, which the mean of a hundred queries follows well enough.
_Z: Final = 1.959964
# Digits that are stored: more would be noise.
_DIGITS: Final = 6


def estimate(values: NDArray[np.float64]) -> Estimate:
    """The mean of one value in [0, 1] for each query (q,), at least one, with its 95 % confidence interval.

    The interval is mean ± z s / sqrt(q). A sample without a miss does not show that there is none: its interval is
    that of the same sample with one neighbour of one query missed.
    """
    spread = values
    if values.min() == values.max():
        spread = np.append(values[1:], abs(values[0] - 1 / TOP))
    mean = float(values.mean())
    low = min(mean, float(spread.mean())) - _half(spread)
    high = max(mean, float(spread.mean())) + _half(spread)
    return Estimate(mean=_share(mean), low=_share(low), high=_share(high))


def advantage(ahead: NDArray[np.float64]) -> Advantage:
    """The mean of one difference in [-1, 1] for each query (q,), at least one, with its 95 % confidence interval."""
    mean, half = float(ahead.mean()), _half(ahead)
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Advantage(mean=round(mean, _DIGITS), low=round(low, _DIGITS), high=round(high, _DIGITS))


def _half(values: NDArray[np.float64]) -> float:
    if len(values) < 2:
        return 1.0
    return _Z * float(values.std(ddof=1)) / math.sqrt(len(values))


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), _DIGITS)
