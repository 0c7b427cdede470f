"""What rows are called and say: decoded row groups, the newest kept, so that a hit need not cost one.

The texts of a row group are one compressed page: to read one row of it takes up to a millisecond, a hundred times what
it takes from a decoded one. Ids and ordinals are a small part of that, are asked of every hit, and have room of their
own.
"""

import threading
from collections.abc import Set
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tierloom.forking import remake_in_children
from tierloom.shards.columns import ShardColumns

IDS_BYTES: Final = 64 << 20
TEXTS_BYTES: Final = 64 << 20

_TEXTS: Final = ("heading", "text", "metadata")


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


G = TypeVar("G", bound=_Sized)


class _Strings:
    """A decoded column of strings: one of them costs a third of what Arrow takes to make it."""

    def __init__(self, strings: pa.StringArray) -> None:
        _, offsets, data = strings.buffers()
        self._first = strings.offset
        self._offsets = memoryview(offsets).cast("i")
        self._data = memoryview(data or b"")
        self.nbytes: int = strings.nbytes

    def __getitem__(self, at: int) -> str:
        at += self._first
        return str(self._data[self._offsets[at] : self._offsets[at + 1]], "utf-8")


@dataclass(frozen=True, slots=True)
class _Names:
    """The ids and ordinals of a row group."""

    ids: _Strings
    ordinals: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.ordinals.nbytes


@dataclass(frozen=True, slots=True)
class _Texts:
    """The other columns of a row group that are read for people."""

    headings: _Strings
    texts: _Strings
    metadata: _Strings

    @property
    def nbytes(self) -> int:
        return self.headings.nbytes + self.texts.nbytes + self.metadata.nbytes


class DescribedRows:
    """Single rows of vector shards. Safe to use from several threads, and after a fork."""

    def __init__(self, ids_bytes: int = IDS_BYTES, texts_bytes: int = TEXTS_BYTES) -> None:
        self._names: _Newest[_Names] = _Newest(ids_bytes)
        self._texts: _Newest[_Texts] = _Newest(texts_bytes)

    def name(self, shard: ShardColumns, row: int) -> tuple[str, int]:
        """The document id and the ordinal of a row."""
        group, place = shard.place(row)
        if (names := self._names.get((shard.name, group))) is None:
            ids = shard.read_group(("document_id",), group)["document_id"]
            names = _Names(_Strings(ids), np.array(shard.page("ordinal", group)))
            self._names.add((shard.name, group), names)
        return names.ids[place], int(names.ordinals[place])

    def text(self, shard: ShardColumns, row: int) -> tuple[str, str, str]:
        """The heading, the text and the metadata (JSON) of a row."""
        group, place = shard.place(row)
        if (texts := self._texts.get((shard.name, group))) is None:
            read = shard.read_group(_TEXTS, group)
            texts = _Texts(*(_Strings(read[name]) for name in _TEXTS))
            self._texts.add((shard.name, group), texts)
        return texts.headings[place], texts.texts[place], texts.metadata[place]

    def keep(self, shards: Set[str]) -> None:
        """Let go of the rows of all but these shards, by their names."""
        self._names.keep(shards)
        self._texts.keep(shards)


class _Newest(Generic[G]):
    """Row groups by shard and number; the oldest go when there is no more room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._held = 0
        self._groups: dict[tuple[str, int], G] = {}
        self._make_lock()
        remake_in_children(self._make_lock)

    def get(self, place: tuple[str, int]) -> G | None:
        # Without the lock: this is asked for every hit.
        return self._groups.get(place)

    def add(self, place: tuple[str, int], group: G) -> None:
        with self._changing:
            self._remove(place)
            self._groups[place] = group
            self._held += group.nbytes
            while self._held > self._room:
                self._remove(next(iter(self._groups)))

    def keep(self, shards: Set[str]) -> None:
        with self._changing:
            for place in [place for place in self._groups if place[0] not in shards]:
                self._remove(place)

    def _remove(self, place: tuple[str, int]) -> None:
        if (group := self._groups.pop(place, None)) is not None:
            self._held -= group.nbytes

    def _make_lock(self) -> None:
        self._changing = threading.Lock()
