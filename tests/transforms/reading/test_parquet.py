import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from transforms.read import read_split, split_of_letter
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits
from transforms.reading.splits import SPLIT_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.parquet"


def read(
    path: Path, fields: Fields | None = None, split_bytes: int = SPLIT_BYTES
) -> list[Document | Deletion | DeadLetter]:
    plan = plan_splits([str(path)], fields, split_bytes)
    return [one for split in plan.splits for one in read_split(split, fields)]


def documents(path: Path, fields: Fields | None = None) -> list[Document]:
    read_ones = read(path, fields)
    assert all(isinstance(one, Document) for one in read_ones), read_ones
    return [one for one in read_ones if isinstance(one, Document)]


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def test_rows_are_documents(path: Path) -> None:
    write(path, id=["a", "b"], text=["x", "y"], sequence=[3, None], title=["T", None], metadata=[{"n": 1}, None])

    first, second = documents(path)

    assert (first.document_id, first.text, first.sequence, first.title) == ("a", "x", 3, "T")
    assert first.metadata == '{"n":1,"title":"T"}'
    assert second.sequence == path.stat().st_mtime_ns + 1
    assert (second.origin.offset, second.origin.length) == (1, 1)


@pytest.mark.parametrize("rows_per_group", [1, 7, 90, 300])
@pytest.mark.parametrize("split_bytes", [1, 5000, SPLIT_BYTES])
def test_any_cut_reads_every_row_once(path: Path, rows_per_group: int, split_bytes: int) -> None:
    table = pa.table({"id": list(range(300)), "text": [f"text {row}" for row in range(300)]})
    pq.write_table(table, path, row_group_size=rows_per_group)

    found = read(path, split_bytes=split_bytes)

    assert [(one.document_id, one.text) for one in found if isinstance(one, Document)] == [
        (str(row), f"text {row}") for row in range(300)
    ]
    assert [one.origin.offset for one in found if isinstance(one, Document)] == list(range(300))


def test_bad_rows_are_dead_letters_that_can_be_read_again(path: Path) -> None:
    write(path, id=["a", None, "c", "d"], text=["x", "y", None, ""])

    letters = [one for one in read(path) if isinstance(one, DeadLetter)]

    assert [(letter.reason, letter.offset, letter.length) for letter in letters] == [
        ("invalid-id", 1, 1),
        ("missing-text", 2, 1),
        ("empty-document", 3, 1),
    ]
    assert letters[1].document_id == "c"
    assert [list(read_split(split_of_letter(letter))) for letter in letters] == [[letter] for letter in letters]


def test_values_that_json_lacks_become_text_or_null(path: Path) -> None:
    write(
        path,
        id=["a"],
        text=["x"],
        when=pa.array([1], pa.timestamp("ns")),
        day=[dt.date(2024, 2, 29)],
        price=[decimal.Decimal("1.50")],
        raw=[b"\xff"],
        named=[b"name"],
        nan=[float("nan")],
        deep=[{"x": [float("inf"), 1.5], "t": dt.time(1, 2)}],
        pairs=pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    )

    (document,) = documents(path)

    assert json.loads(document.metadata) == {
        "when": "1970-01-01 00:00:00.000000001",
        "day": "2024-02-29",
        "price": "1.50",
        "raw": "/w==",
        "named": "name",
        "nan": None,
        "deep": {"x": [None, 1.5], "t": "01:02:00"},
        "pairs": [["k", 1]],
    }


@pytest.mark.parametrize(("unit", "factor"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_a_sequence_may_be_a_time(path: Path, unit: str, factor: int) -> None:
    ticks = pa.array([1_700_000_000, None], pa.int64()).cast(pa.timestamp(unit, "UTC"))
    write(path, id=["a", "b"], text=["x", "y"], changed=ticks)

    first, second = documents(path, Fields(sequence="changed"))

    # Parquet has no seconds: they are stored as milliseconds.
    assert first.sequence == 1_700_000_000 * factor
    assert second.sequence == path.stat().st_mtime_ns + 1


def test_a_time_beyond_64_bits_is_refused(path: Path) -> None:
    far = pa.array([2**55], pa.int64()).cast(pa.timestamp("us"))
    write(path, id=["a"], text=["x"], sequence=far)

    (letter,) = read(path)

    assert isinstance(letter, DeadLetter)
    assert letter.reason == "invalid-sequence"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_a_string_that_is_not_utf8_costs_its_neighbours_nothing(path: Path, kind: pa.DataType) -> None:
    texts = pa.array([b"good", b"bad \xff", "späth".encode()], pa.binary()).cast(kind, safe=False)
    write(path, id=["a", "b", "c"], text=texts)

    first, letter, third = read(path)

    assert isinstance(first, Document)
    assert isinstance(letter, DeadLetter)
    assert isinstance(third, Document)
    assert (first.text, letter.reason, third.text) == ("good", "invalid-utf8", "späth")


def test_dictionary_columns_are_plain_strings(path: Path) -> None:
    write(path, id=["a", "b"], text=pa.array(["x", "x"]).dictionary_encode())
    assert [document.text for document in documents(path)] == ["x", "x"]


def test_a_damaged_page_is_one_letter_for_the_rest_of_its_group(path: Path) -> None:
    table = pa.table({"id": [f"document {row}" for row in range(1000)], "text": ["some text"] * 1000})
    pq.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(5).column(0)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset + 40
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)

    found = read(path)

    (letter,) = (one for one in found if isinstance(one, DeadLetter))
    assert (letter.reason, letter.offset, letter.length) == ("corrupt-parquet", 500, 100)
    good = [one.origin.offset for one in found if isinstance(one, Document)]
    assert good == [*range(500), *range(600, 1000)]
    assert list(read_split(split_of_letter(letter))) == [letter]


def test_a_file_that_vanished_is_unreadable_and_all_of_it_is_read_again(path: Path) -> None:
    write(path, id=["a", "b"], text=["x", "y"])
    (split,) = plan_splits([str(path)]).splits
    data = path.read_bytes()
    path.unlink()

    (letter,) = read_split(split)
    path.write_bytes(data)

    assert isinstance(letter, DeadLetter)
    assert letter.reason == "unreadable"
    assert [one.document_id for one in read_split(split_of_letter(letter))] == ["a", "b"]


def test_no_rows_are_no_documents(path: Path) -> None:
    write(path, id=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert read(path) == []
