"""Nearest neighbours within a sample, and how many of them another representation of it finds."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Scores that are held at once: 32 MB of float32.
_SCORES_AT_ONCE: Final = 1 << 23


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of (n, d) scaled to unit length, contiguous; a row of zeros stays one."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, np.newaxis]
    units: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros(vectors.shape, np.float32), where=norms > 0)
    return units


def nearest(units: NDArray[np.float32], queries: int, top: int) -> NDArray[np.int64]:
    """The `top` nearest other rows (queries, top) of each of the first `queries` unit rows (n, d), by cosine, in no
    order; `top` is less than n."""
    found = [np.argpartition(-scores, top - 1, axis=1)[:, :top] for _, scores in _scores(units, queries)]
    return np.concatenate(found)


def found_share(units: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the `wanted` rows (q, top) of each query, the share (q,) that is among its `top` nearest by unit rows (n, d).

    Where rows tie for the last places, each counts by its chance to get one: so what maps everything to one point
    finds as little as a guess does.
    """
    queries, top = wanted.shape
    found: NDArray[np.float64] = np.concatenate([_share(scores, wanted[at]) for at, scores in _scores(units, queries)])
    found /= top
    return found


def _share(scores: NDArray[np.float32], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    top = wanted.shape[1]
    last = np.partition(scores, -top, axis=1)[:, -top, np.newaxis]
    places = top - np.count_nonzero(scores > last, axis=1)
    tied = np.count_nonzero(scores == last, axis=1)
    of_wanted = np.take_along_axis(scores, wanted, axis=1)
    sure, possible = np.count_nonzero(of_wanted > last, axis=1), np.count_nonzero(of_wanted == last, axis=1)
    share: NDArray[np.float64] = sure + possible * (places / tied)
    return share


def _scores(units: NDArray[np.float32], queries: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The cosines of some of the queries with all rows, with themselves -inf, and which queries these are."""
    step = max(1, _SCORES_AT_ONCE // len(units))
    for start in range(0, queries, step):
        at = slice(start, min(start + step, queries))
        scores = units[at] @ units.T
        scores[np.arange(len(scores)), np.arange(at.start, at.stop)] = -np.inf
        yield at, scores
