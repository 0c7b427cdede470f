"""How much two generations answer alike: the first ten of their exact answers, by document and by chunk."""

from collections.abc import Callable, Hashable, Iterable

import numpy as np
from numpy.typing import NDArray

from index_builder.comparing.side import Side
from index_builder.gate.quality import SAME, gains
from index_builder.gate.ranked import NOBODY
from tierloom.gate import TOP

Identities = Callable[[Side, NDArray[np.int64]], Iterable[Hashable]]


def documents(side: Side, addresses: NDArray[np.int64]) -> Iterable[Hashable]:
    """The documents of these rows, by their keys."""
    keys: list[int] = side.rows.keys(addresses).tolist()
    return keys


def chunks(side: Side, addresses: NDArray[np.int64]) -> Iterable[Hashable]:
    """These rows as chunks of their documents."""
    return zip(side.rows.keys(addresses).tolist(), side.rows.ordinals(addresses).tolist(), strict=True)


def overlap(first: Side, second: Side, asked: NDArray[np.int64], identities: Identities) -> NDArray[np.float64]:
    """For each of the queries `asked` the share of the first ten that both have (n,)."""
    return np.array([_shared(first, second, int(query), identities) for query in asked])


def _shared(first: Side, second: Side, query: int, identities: Identities) -> float:
    ours, theirs = _best(first, query, identities), _best(second, query, identities)
    wanted = min(TOP, max(len(ours), len(theirs)))
    return min(1.0, len(ours & theirs) / wanted) if wanted else 1.0


def _best(side: Side, query: int, identities: Identities) -> set[Hashable]:
    """The first ten of a query, and what is as good as the tenth."""
    there = side.exact.addresses[query] != NOBODY
    scores = side.exact.scores[query][there]
    best: set[Hashable] = set()
    least = -np.inf
    for identity, score in zip(identities(side, side.exact.addresses[query][there]), scores.tolist(), strict=True):
        if score < least:
            break
        best.add(identity)
        if len(best) == TOP:
            least = max(least, score - SAME)
    return best


def judged(side: Side, asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """nDCG and hit rate (n, 2) of the exact first ten documents, of those of the queries whose relevant documents are
    known."""
    scored = []
    for query in asked.tolist() if side.sample.judged else ():
        if len(relevant := side.sample.relevant_to(query)):
            addresses = side.exact.addresses[query]
            scored.append(gains(side.rows.keys(addresses[addresses != NOBODY]), relevant))
    return np.array(scored, dtype=np.float64).reshape(-1, 2)
