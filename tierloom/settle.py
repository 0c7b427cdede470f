"""Who wins: for a document the highest sequence, whatever the order of arrival.

Rows of a lower sequence die. Equal sequences are the same event: a chunk that is there twice is kept once, the
earlier shard's; a chunk that was missing (it had been a dead letter) completes the document. A deletion is an event
without rows; at equal sequences it wins. Shards are compared by mapped columns; ids are read only where keys or
documents meet.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray

from tierloom.document import document_key
from tierloom.shards.live import LiveShard, of_each
from tierloom.tombstones import Tombstones


@dataclass(frozen=True, slots=True)
class Verdict:
    """Rows that lost, and what became of the documents.

    `dead` has an array of rows for each shard, existing ones first. `live` counts the documents that incoming
    rows brought to life, `completed` those that they added chunks to, `lost` the incoming events (deletions too)
    that another beat, `repeated` the incoming documents that were there already, `replaced` the existing documents
    that an incoming one beat, `removed` those that an incoming deletion did. `deletions` are the incoming ones that
    hold and are news, by document; `known_deletions` counts those that hold and were remembered already. `undone`
    counts the remembered deletions that held until now, and lost to something incoming.
    """

    dead: tuple[NDArray[np.int64], ...]
    live: int
    completed: int
    lost: int
    repeated: int
    replaced: int
    removed: int
    deletions: dict[str, int]
    known_deletions: int
    undone: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """Parallel columns (n,) of rows from several shards."""

    key: NDArray[np.uint64]
    sequence: NDArray[np.int64]
    ordinal: NDArray[np.int32]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "_Rows":
        return _Rows(
            self.key[chosen], self.sequence[chosen], self.ordinal[chosen], self.shard[chosen], self.row[chosen]
        )


_NO_TOMBSTONES = Tombstones()


def settle(
    existing: Sequence[LiveShard],
    incoming: Sequence[LiveShard],
    deletions: Mapping[str, int] | None = None,
    tombstones: Tombstones = _NO_TOMBSTONES,
) -> Verdict:
    """Decide between the live rows of `existing` shards and those of `incoming` ones.

    `deletions` are incoming too: the sequence of each deleted document; `tombstones` those remembered until now.
    """
    shards, deletions = [*existing, *incoming], deletions or {}
    deleted = np.unique(np.array([document_key(id_) for id_ in deletions], dtype=np.uint64))
    keys = np.union1d(_live_keys(incoming), deleted)
    rows = _rows_under(shards, keys)
    contested = np.isin(rows.key, np.concatenate([_contested_keys(rows), deleted, tombstones.under(keys)]))
    tally = _Tally(len(shards), len(existing))
    documents = _by_document(shards, rows.where(contested))
    for document_id in documents.keys() | deletions.keys():
        events = documents.get(document_id, {})
        tally.decide(document_id, events, deletions.get(document_id), tombstones.sequence_of(document_id))
    tally.live += _count_documents(shards, rows.where(~contested))
    return tally.verdict()


def _live_keys(shards: Sequence[LiveShard]) -> NDArray[np.uint64]:
    every = of_each(lambda shard: shard.keys[shard.alive], shards)
    return np.unique(np.concatenate([np.empty(0, np.uint64), *every]))


def _rows_under(shards: Sequence[LiveShard], keys: NDArray[np.uint64]) -> _Rows:
    found = of_each(lambda shard: shard.rows_of(keys), shards)
    return _Rows(
        key=np.concatenate([np.empty(0, np.uint64), *(s.keys[r] for s, r in zip(shards, found, strict=True))]),
        sequence=_gathered("sequence", np.int64, shards, found),
        ordinal=_gathered("ordinal", np.int32, shards, found),
        shard=np.repeat(np.arange(len(shards)), [len(rows) for rows in found]),
        row=np.concatenate([np.empty(0, np.int64), *found]),
    )


def _gathered(
    name: str, dtype: DTypeLike, shards: Sequence[LiveShard], rows: Sequence[NDArray[np.int64]]
) -> NDArray[Any]:
    parts = of_each(lambda shard, here: shard.shard.gather(name, here), shards, rows)
    return np.concatenate([np.empty(0, dtype), *parts])


def _contested_keys(rows: _Rows) -> NDArray[np.uint64]:
    """Keys under which rows differ in sequence or shard, or repeat an ordinal: documents must be told apart."""
    ordered = rows.where(np.lexsort((rows.ordinal, rows.sequence, rows.shard, rows.key)))
    same_key = ordered.key[1:] == ordered.key[:-1]
    differ = (
        (ordered.sequence[1:] != ordered.sequence[:-1])
        | (ordered.shard[1:] != ordered.shard[:-1])
        | (ordered.ordinal[1:] == ordered.ordinal[:-1])
    )
    return np.unique(ordered.key[1:][same_key & differ])


_Events = dict[int, dict[int, list[tuple[int, int]]]]


def _by_document(shards: Sequence[LiveShard], rows: _Rows) -> dict[str, _Events]:
    """For each document, sequence and ordinal: the (shard, row)s that hold it, earlier shards first."""
    documents: dict[str, _Events] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for ids, here in _with_ids(shards, rows):
        columns = (
            ids.to_pylist(),
            here.sequence.tolist(),
            here.ordinal.tolist(),
            here.shard.tolist(),
            here.row.tolist(),
        )
        for document_id, sequence, ordinal, position, row in zip(*columns, strict=True):
            documents[document_id][sequence][ordinal].append((position, row))
    return documents


def _count_documents(shards: Sequence[LiveShard], rows: _Rows) -> int:
    """Distinct documents of rows whose keys lie in one shard each."""
    return sum(pc.count_distinct(ids).as_py() for ids, _ in _with_ids(shards, rows))


def _with_ids(shards: Sequence[LiveShard], rows: _Rows) -> Iterable[tuple[pa.ChunkedArray, _Rows]]:
    """The rows of each shard that has any, in the order of the shards, with their ids."""
    positions = np.unique(rows.shard)
    parts = [rows.where(rows.shard == position) for position in positions]
    return zip(of_each(_ids, [shards[position] for position in positions], parts), parts, strict=True)


def _ids(shard: LiveShard, rows: _Rows) -> pa.ChunkedArray:
    return shard.ids(rows.row)


class _Tally:
    def __init__(self, shards: int, first_incoming: int) -> None:
        self._first_incoming = first_incoming
        self._dead: list[list[int]] = [[] for _ in range(shards)]
        self._deletions: dict[str, int] = {}
        self.live = self._completed = self._lost = self._repeated = self._replaced = 0
        self._removed = self._known_deletions = self._undone = 0

    def decide(self, document_id: str, events: _Events, deletion: int | None, remembered: int | None) -> None:
        """Settle one document: the rows of its events, an incoming deletion, a remembered one."""
        gone = max((sequence for sequence in (deletion, remembered) if sequence is not None), default=None)
        best = max(events, default=None)
        survives = best is not None and (gone is None or best > gone)
        had_rows = self._exists(events)
        for sequence, ordinals in events.items():
            if not (survives and sequence == best):
                self._bury(ordinals)
        if survives and best is not None:
            self._keep(events[best])
            self._replaced += had_rows and not self._exists({best: events[best]})
        self._removed += had_rows and not survives
        holds = not survives and deletion == gone
        self._settle_deletion(document_id, deletion, remembered, holds)
        # A deletion that is remembered holds while nothing of its document lives.
        held = remembered is not None and not had_rows
        self._undone += held and (survives or (holds and deletion != remembered))

    def _settle_deletion(self, document_id: str, deletion: int | None, remembered: int | None, holds: bool) -> None:
        if deletion is None:
            return
        if not holds:
            self._lost += 1
        elif deletion == remembered:
            self._known_deletions += 1
        else:
            self._deletions[document_id] = deletion

    def _exists(self, events: _Events) -> bool:
        """Whether a row of these events is of an existing shard."""
        return any(
            shard < self._first_incoming
            for ordinals in events.values()
            for places in ordinals.values()
            for shard, _ in places
        )

    def _bury(self, ordinals: dict[int, list[tuple[int, int]]]) -> None:
        """An event that another beat."""
        self._kill([place for places in ordinals.values() for place in places])
        self._lost += self._copies(ordinals)

    def _keep(self, ordinals: dict[int, list[tuple[int, int]]]) -> None:
        """The winning event: each chunk once."""
        for places in ordinals.values():
            self._kill(places[1:])
        winners = [places[0][0] >= self._first_incoming for places in ordinals.values()]
        self._repeated += self._copies(ordinals) - any(winners)
        self.live += all(winners)
        self._completed += any(winners) and not all(winners)

    def _copies(self, ordinals: dict[int, list[tuple[int, int]]]) -> int:
        """How often the event came in: as often as its most repeated chunk."""
        return max(sum(shard >= self._first_incoming for shard, _ in places) for places in ordinals.values())

    def _kill(self, places: list[tuple[int, int]]) -> None:
        for shard, row in places:
            self._dead[shard].append(row)

    def verdict(self) -> Verdict:
        return Verdict(
            dead=tuple(np.array(sorted(rows), dtype=np.int64) for rows in self._dead),
            live=self.live,
            completed=self._completed,
            lost=self._lost,
            repeated=self._repeated,
            replaced=self._replaced,
            removed=self._removed,
            deletions=self._deletions,
            known_deletions=self._known_deletions,
            undone=self._undone,
        )
