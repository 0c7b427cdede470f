"""Ledgers against a plain dict, in any number of parts."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierloom.errors import Corrupt, Malformed
from tierloom.ledger import Ledger
from tierloom.manifest import LedgerPart
from tierloom.object_files import ObjectFiles
from tierloom.stores.local import LocalStore
from tierloom.tombstones import Tombstones, tombstone_entries

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("noted", pa.int64(), nullable=False),
        pa.field("value", pa.int64(), nullable=False),
    ]
)
LEDGER = Ledger(SCHEMA, lambda digest: f"tombstones/{digest}.parquet")

Entry = tuple[str, int, int, int]
_ENTRIES = st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.integers(0, 9), st.integers(0, 1 << 40))


def table(entries: Sequence[Entry]) -> pa.Table:
    columns = list(zip(*entries, strict=True)) or [(), (), (), ()]
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


def held(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The oracle: of each name the highest sequence, the first of equal ones."""
    best: dict[str, Entry] = {}
    for entry in entries:
        if entry[0] not in best or entry[1] > best[entry[0]][1]:
            best[entry[0]] = entry
    return best


def read(parts: Sequence[LedgerPart], files: ObjectFiles) -> dict[str, Entry]:
    rows = LEDGER.read(parts, files).to_pylist()
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: tuple(row.values()) for row in rows}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_ENTRIES, max_size=5), max_size=8))
def test_of_each_name_the_highest_sequence_holds(additions: list[list[Entry]]) -> None:
    with TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        files = ObjectFiles(store)
        parts: tuple[LedgerPart, ...] = ()
        every: list[Entry] = []
        for entries in additions:
            parts = LEDGER.add(parts, table(entries), store, files)
            every += entries
            assert read(parts, files) == held(every)


def test_parts_stay_few(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    files = ObjectFiles(store)
    parts: tuple[LedgerPart, ...] = ()
    for at in range(300):
        parts = LEDGER.add(parts, table([(f"{at}-{each}", 1, 1, 1) for each in range(10)]), store, files)
        assert len(parts) <= 9
    assert sum(part.entries for part in parts) == 3000


def test_what_is_older_than_its_time_is_forgotten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    files = ObjectFiles(store)
    old = LEDGER.add((), table([("a", 1, 10, 1), ("b", 1, 20, 1)]), store, files)
    mixed = LEDGER.add(old, table([("c", 1, 30, 1), ("d", 1, 30, 1)]), store, files, forget_before=15)
    assert sorted(read(mixed, files)) == ["b", "c", "d"]
    assert LEDGER.add(mixed, table([]), store, files, forget_before=31) == ()


def test_the_same_entries_are_the_same_part(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    files, entries = ObjectFiles(store), table([("a", 1, 1, 1), ("b", 1, 1, 1)])
    assert LEDGER.add((), entries, store, files) == LEDGER.add((), entries, store, files)
    assert len(list(store.list("tombstones/"))) == 1


def test_damage_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (part,) = LEDGER.add((), table([("a", 1, 1, 1)]), store, ObjectFiles(store))
    data = bytearray(store.read(part.path))
    data[len(data) // 2] ^= 1
    (tmp_path / part.path).write_bytes(data)
    with pytest.raises(Corrupt, match=part.path):
        LEDGER.read([part], ObjectFiles(store))


def test_the_ledger_of_another_kind_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    files = ObjectFiles(store)
    parts = LEDGER.add((), table([("a", 1, 1, 1)]), store, files)
    with pytest.raises(Malformed, match="its columns are not those"):
        Tombstones(parts, files).sequence_of("a")


def test_a_tombstone_does_not_hold_the_id(tmp_path: Path) -> None:
    entries = tombstone_entries([("somebody@example.org", 7)], noted=1)
    assert b"somebody" not in b"".join(buffer.to_pybytes() for column in entries for buffer in _buffers(column))


def _buffers(column: pa.ChunkedArray) -> list[pa.Buffer]:
    return [buffer for chunk in column.chunks for buffer in chunk.buffers() if buffer]
