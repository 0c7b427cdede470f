"""Trying a tier: its graph is built, and every query is asked one by one, as a reader does."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index_builder.advising.trial import SAME_SCORE, Trial
from index_builder.build import build_graph
from index_builder.estimates import estimate
from tierloom.collection import Tier
from tierloom.gate import Estimate
from tierloom.index_reader import is_scanned
from tierloom.quantizer import query_code
from tierloom.reranking import exact_scores


@dataclass(frozen=True, slots=True)
class Option:
    """A tier with a shortlist, as it was measured: `recall` of the exact ten after reranking, `bytes_per_vector` of the
    index file, which is what is mapped, and the median `milliseconds` of a query, shortlist and rerank."""

    tier: Tier
    shortlist: int
    recall: Estimate
    bytes_per_vector: float
    milliseconds: float


def try_tier(tier: Tier, trial: Trial, shortlists: Sequence[int]) -> list[Option]:
    """The tier over the rows of the trial, with each shortlist that is smaller than it."""
    graph = _Graph(tier, trial)
    sizes = [size for size in shortlists if size < len(trial.vectors)] or [len(trial.vectors)]
    return [_option(graph, trial, size) for size in sizes]


def expected_bytes(tier: Tier) -> float:
    """Bytes per vector of a usearch file: the code, key and level of a node, and its edges on all levels.

    Measured with usearch 2.26.6: exact to a byte or two.
    """
    code = tier.dimensions / (8 if tier.kind == "binary" else 1)
    return code + 16 + 8 * tier.connectivity + (4 + 4 * tier.connectivity) / (tier.connectivity - 1)


class _Graph:
    """A tier of the trial's rows: each distinct code is indexed once, and stands for all its rows."""

    def __init__(self, tier: Tier, trial: Trial) -> None:
        self.tier = tier
        codes, code_of_row = np.unique(trial.codes(tier), axis=0, return_inverse=True)
        # Read in place by the graph: kept as long as it.
        self._codes = np.ascontiguousarray(codes)
        self._index: Any = build_graph(tier, np.arange(len(codes), dtype=np.uint64), self._codes)
        self._rows = np.argsort(code_of_row, kind="stable")
        self._ends = np.cumsum(np.bincount(code_of_row, minlength=len(codes)))
        self.bytes_per_vector = self._index.serialized_length / len(codes)

    def nearest(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """The rows of the nearest codes, nearest first, `count` of them."""
        asked = min(count, len(self._codes))
        scanned = is_scanned(len(self._codes), asked)
        found = self._index.search(query_code(query, self.tier), asked, threads=1, exact=scanned).keys.astype(np.int64)
        if len(self._codes) == len(self._rows):
            alone: NDArray[np.int64] = self._rows[found]
            return alone
        ends = self._ends[found]
        begins = np.where(found > 0, self._ends[found - 1], 0)
        return np.concatenate([self._rows[b:e] for b, e in zip(begins, ends, strict=True)])[:count]


def _option(graph: _Graph, trial: Trial, shortlist: int) -> Option:
    answers = list(_answers(graph, trial, shortlist))
    recalls = np.array([recall for recall, _ in answers])
    return Option(
        tier=graph.tier,
        shortlist=shortlist,
        recall=estimate(recalls),
        bytes_per_vector=graph.bytes_per_vector,
        milliseconds=1000 * median(seconds for _, seconds in answers),
    )


def _answers(graph: _Graph, trial: Trial, shortlist: int) -> Iterator[tuple[float, float]]:
    """Of each query the recall, and the seconds that it takes when it is asked again."""
    for query, worst in zip(trial.queries, trial.worst, strict=True):
        _best_scores(graph, trial, query, shortlist)
        began = time.perf_counter()
        scores = _best_scores(graph, trial, query, shortlist)
        seconds = time.perf_counter() - began
        yield float(np.count_nonzero(scores >= worst - SAME_SCORE)) / trial.wanted, seconds


def _best_scores(graph: _Graph, trial: Trial, query: NDArray[np.float32], shortlist: int) -> NDArray[np.float64]:
    scores = exact_scores(trial.vectors[graph.nearest(query, shortlist)], query)
    return np.sort(scores)[::-1][: trial.wanted]
