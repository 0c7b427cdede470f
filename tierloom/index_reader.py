"""Searching one index shard: a mapped usearch graph, its aliases, and the address in every key."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from usearch.compiled import MetricKind, ScalarKind
from usearch.index import Index

from tierloom.collection import Metric
from tierloom.errors import Malformed
from tierloom.forking import remake_in_children
from tierloom.manifest import Aliases, IndexShard
from tierloom.quantizer import CODE_DTYPES, Code

ROW_BITS = 32

# Up to so many codes a scan is faster than the graph, and exact (measured: break-even near 2,000; of binary codes near
# 4,000). Never lower it: the graphs of such small shards are built without care for their edges
# (`index_builder.build`).
SCAN_CODES = 2048

# So it is when one in this many codes is wanted (measured: break-even at 1 in 40 of 50,000), and a graph asked
# for all of its codes does not reach the last few.
SCAN_SHARE = 32

# What usearch calls the codes and the distances of each metric.
SCALARS: Final[dict[Metric, ScalarKind]] = {"cos": ScalarKind.I8, "hamming": ScalarKind.B1}
_METRICS: Final[dict[Metric, MetricKind]] = {"cos": MetricKind.Cos, "hamming": MetricKind.Hamming}

# Seconds between looks for an idle view of a file that is gone: less than a search takes.
_UNTIL_IDLE: Final = 0.0001


@dataclass(frozen=True, slots=True)
class Found:
    """Keys (n,) uint64 and distances (n,) float32 by the metric of the shard, nearest first."""

    keys: NDArray[np.uint64]
    distances: NDArray[np.float32]


def is_scanned(codes: int, count: int) -> bool:
    """Whether the `count` nearest of so many codes are looked for by a scan, not along the graph."""
    return codes <= SCAN_CODES or count * SCAN_SHARE >= codes


def split_keys(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of vector shards and rows in them, from keys."""
    return (keys >> np.uint64(ROW_BITS)).astype(np.int64), (keys & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)


class IndexReader:
    """One verified index shard, open for search from any number of threads.

    usearch serializes the callers of one object, so each search under way has a view of its own; the pages are
    shared. What a view costs (up to 31 bytes of memory a code, and 0.3 us) is paid as often as searches overlap.
    """

    def __init__(self, shard: IndexShard, path: Path, aliases: Path | None) -> None:
        self.shard = shard
        self._path = path
        # `append` and `pop` of a list need no lock. A view that a thread had at a fork is lost to the child: it may be
        # in the middle of a search there.
        self._idle: list[Index] = []
        self._views = 0
        self._indexed, self._further = _read_aliases(shard, aliases)
        self._refuse_other_graph()
        remake_in_children(self._remake)

    def search(self, code: Code, count: int) -> Found:
        """The nearest rows to a code (`tierloom.quantizer.query_code`): at least `count` if there are as many.

        Raises `TypeError` for a code of another kind: usearch takes any for what it is not.
        """
        if code.dtype != (wanted := CODE_DTYPES[self.shard.parameters.metric]):
            raise TypeError(f"{self.shard.path}: a code of {code.dtype}, not {wanted}; make it by query_code")
        codes = self.shard.codes
        view = self._taken()
        try:
            matches = view.search(code, min(count, codes), threads=1, exact=is_scanned(codes, count))
        finally:
            self._idle.append(view)
        return self._with_aliases(Found(matches.keys.astype(np.uint64, copy=False), matches.distances))

    @property
    def views(self) -> int:
        """So many searches can be under way without another view."""
        return self._views

    def open_views(self, count: int) -> None:
        """Have at least so many views, so that no search waits for one to be opened."""
        while self._views < count:
            self._idle.append(self._another())

    def _with_aliases(self, found: Found) -> Found:
        """Each hit followed by the rows that share its code."""
        if not len(self._indexed):
            return found
        begins = np.searchsorted(self._indexed, found.keys, side="left")
        counts = np.searchsorted(self._indexed, found.keys, side="right") - begins
        if not counts.any():
            return found
        keys = np.repeat(found.keys, counts + 1)
        firsts = np.cumsum(counts + 1) - (counts + 1)
        further = np.ones(len(keys), dtype=np.bool_)
        further[firsts] = False
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        keys[further] = self._further[np.repeat(begins, counts) + within]
        return Found(keys, np.repeat(found.distances, counts + 1))

    def _taken(self) -> Index:
        while True:
            try:
                return self._idle.pop()
            except IndexError:
                if (view := self._another_if_there()) is not None:
                    return view

    def _another_if_there(self) -> Index | None:
        """Another view; None where the file is gone, because its version was retired: then those there are must do."""
        try:
            return self._another()
        except Malformed:
            if self._path.exists() or not self._views:
                raise
        time.sleep(_UNTIL_IDLE)
        return None

    def _another(self) -> Index:
        view = open_view(self._path, self.shard)
        self._views += 1
        return view

    def _remake(self) -> None:
        self._views = len(self._idle)

    def _refuse_other_graph(self) -> None:
        self.open_views(1)
        view = self._idle[0]
        parameters = self.shard.parameters
        if (view.ndim, len(view)) != (parameters.dimensions, self.shard.codes):
            raise Malformed(
                f"{self.shard.path}: {len(view)} codes of {view.ndim} dimensions, but the manifest states "
                f"{self.shard.codes} of {parameters.dimensions}"
            )


def open_view(path: Path, shard: IndexShard, key_lookups: bool = False) -> Index:
    """Map a verified graph. The search parameters come from the manifest: the file does not hold them.

    Raises `Malformed`, also for a graph of other codes than the manifest states: usearch would take over what the
    file says of itself.
    """
    try:
        view = Index.restore(
            str(path),
            view=True,
            connectivity=shard.parameters.connectivity,
            expansion_search=shard.parameters.expansion_search,
            enable_key_lookups=key_lookups,
        )
    except (ValueError, RuntimeError) as error:
        raise Malformed(f"{shard.path}: not a usearch file: {error}") from error
    if view is None:
        raise Malformed(f"{shard.path}: not a usearch file")
    _refuse_other_codes(view, shard)
    return view


def _refuse_other_codes(view: Index, shard: IndexShard) -> None:
    metric = shard.parameters.metric
    if (view.dtype, view.metric_kind) != (SCALARS[metric], _METRICS[metric]):
        raise Malformed(
            f"{shard.path}: a graph of {view.dtype} by {view.metric_kind}, but the manifest states "
            f"{SCALARS[metric]} by {_METRICS[metric]}"
        )


def read_alias_pairs(aliases: Aliases, path: Path) -> NDArray[np.uint64]:
    """The pairs (n, 2) in an alias file: indexed key, further key; sorted. Raises `Malformed`."""
    stored = np.fromfile(path, dtype="<u8")
    if len(stored) != 2 * aliases.pairs:
        raise Malformed(f"{aliases.path}: {len(stored)} keys, but the manifest states {aliases.pairs} pairs")
    return stored.reshape(-1, 2)


def _read_aliases(shard: IndexShard, path: Path | None) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    if shard.aliases is None or path is None:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    pairs = read_alias_pairs(shard.aliases, path)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
