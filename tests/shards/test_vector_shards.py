"""The file format of vector shards: what is written, what other readers see, what is refused."""

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.small_shards import SCHEMA, random_rows, write_shard
from tierloom.errors import Malformed
from tierloom.shards.mapped import MappedShard
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE, ShardSchema
from tierloom.shards.writer import Rows, writing

_SIZES = [
    (1, 8),
    (ROW_GROUP_ROWS, 8),
    (ROW_GROUP_ROWS + 1, 256),
    (10_000, 8),
    (1, 1536),
    (ROW_GROUP_ROWS + 1, 1536),
]
_SCALARS = ("ordinal", "sequence", "key", "source")


def schema_of(dimensions: int) -> ShardSchema:
    return ShardSchema(SCHEMA.checkpoint, dimensions, min(dimensions, 256))


@pytest.fixture(scope="module", params=_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows, ShardSchema]:
    count, dimensions = request.param
    schema = schema_of(dimensions)
    rows = random_rows(count, schema)
    return write_shard(tmp_path_factory.mktemp("shard") / "a.parquet", rows, schema), rows, schema


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """Three row groups of small rows."""
    rows = random_rows(2 * ROW_GROUP_ROWS + 5)
    return write_shard(tmp_path_factory.mktemp("shard") / "a.parquet", rows), rows


def raw(column: NDArray[Any]) -> list[bytes]:
    """Each row of a fixed-width column as the bytes that are stored."""
    return [row.tobytes() for row in np.ascontiguousarray(column)]


def mapped_columns(path: Path) -> dict[str, list[Any]]:
    """What our reader sees, in the types that other readers give: integers, bytes and strings."""
    mapped = MappedShard(path)
    columns: dict[str, list[Any]] = mapped.read_all().to_pydict()
    for name in mapped.schema.widths:
        columns[name] = mapped.column(name).tolist() if name in _SCALARS else raw(mapped.column(name))
    return columns


def test_every_column_is_read_as_it_was_written(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, rows, schema = written
    mapped = MappedShard(path)
    assert (mapped.rows, mapped.schema) == (len(rows), schema)
    for name in schema.widths:
        column, given_rows = mapped.column(name), getattr(rows, name)
        assert column.dtype == given_rows.dtype
        assert column.shape == given_rows.shape
        assert column.tobytes() == given_rows.tobytes()
    for name in VARIABLE:
        assert mapped.read_all()[name].to_pylist() == getattr(rows, name).to_pylist()


def test_pyarrow_reads_what_we_map(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, _, _ = written
    assert pq.read_table(path).to_pydict() == mapped_columns(path)


def test_duckdb_reads_what_we_map(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, _, _ = written
    mapped = mapped_columns(path)
    with duckdb.connect() as connection:
        table = connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)]).to_arrow_table()
    assert set(table.column_names) == set(mapped)
    for name, column in mapped.items():
        assert table[name].to_pylist() == column


def test_polars_reads_what_we_map(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, _, _ = written
    assert pl.read_parquet(path).to_dict(as_series=False) == mapped_columns(path)


def test_the_footer_states_required_plain_uncompressed_single_pages(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, rows, schema = written
    with pq.ParquetFile(path) as file:
        footer, described = file.metadata, file.schema
    assert footer.num_row_groups == -(-len(rows) // ROW_GROUP_ROWS)
    for group, index in itertools.product(range(footer.num_row_groups), range(footer.num_columns)):
        column = footer.row_group(group).column(index)
        assert described.column(index).max_definition_level == 0
        if (width := schema.widths.get(column.path_in_schema)) is None:
            continue
        assert column.compression == "UNCOMPRESSED"
        assert not column.has_dictionary_page
        assert set(column.encodings) <= {"PLAIN", "RLE"}
        # One page: a second would bring a second header, and none is longer than this.
        header = column.total_compressed_size - footer.row_group(group).num_rows * width
        assert 0 < header <= 100
        assert footer.row_group(group).num_rows <= ROW_GROUP_ROWS


def test_a_payload_lies_where_the_documented_formula_says(written: tuple[Path, Rows, ShardSchema]) -> None:
    path, rows, schema = written
    data, footer = path.read_bytes(), pq.read_metadata(path)
    for index in range(footer.num_columns):
        name = footer.row_group(0).column(index).path_in_schema
        if name not in schema.widths:
            continue
        payload = b""
        for group in range(footer.num_row_groups):
            column, length = footer.row_group(group).column(index), footer.row_group(group).num_rows
            end = column.data_page_offset + column.total_compressed_size
            payload += data[end - length * schema.widths[name] : end]
        assert payload == getattr(rows, name).tobytes()


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    rows = random_rows(5000)
    first, second = (write_shard(tmp_path / name, rows).read_bytes() for name in ("a", "b"))
    assert first == second


def test_rows_appended_in_groups_make_the_bytes_of_one_call(shard: tuple[Path, Rows], tmp_path: Path) -> None:
    path, rows = shard
    with writing(tmp_path / "b.parquet", SCHEMA) as writer:
        for start in range(0, len(rows), ROW_GROUP_ROWS):
            writer.append(_part(rows, slice(start, start + ROW_GROUP_ROWS)))
    assert (tmp_path / "b.parquet").read_bytes() == path.read_bytes()


@given(data=st.data())
def test_gathered_rows_are_those_of_the_column(shard: tuple[Path, Rows], data: st.DataObject) -> None:
    path, rows = shard
    mapped = MappedShard(path)
    wanted = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=30)), dtype=np.int64)
    for name in SCHEMA.widths:
        gathered = mapped.gather(name, wanted)
        assert gathered.dtype == getattr(rows, name).dtype
        assert gathered.tobytes() == getattr(rows, name)[wanted].tobytes()
    read = mapped.read(("text", "document_id"), wanted)
    assert read["document_id"].to_pylist() == rows.document_id.take(pa.array(wanted)).to_pylist()
    assert read["text"].to_pylist() == rows.text.take(pa.array(wanted)).to_pylist()


@pytest.mark.parametrize("row", [-1, 2 * ROW_GROUP_ROWS + 5, 1 << 40])
def test_rows_that_are_not_there_are_refused(shard: tuple[Path, Rows], row: int) -> None:
    mapped = MappedShard(shard[0])
    with pytest.raises(IndexError, match=str(row)):
        mapped.gather("vector", np.array([0, row]))
    with pytest.raises(IndexError, match=str(row)):
        mapped.read(("text",), np.array([0, row]))


def test_mapped_rows_cannot_be_written(tmp_path: Path) -> None:
    mapped = MappedShard(write_shard(tmp_path / "a.parquet", random_rows(3)))
    with pytest.raises(ValueError, match="read-only"):
        mapped.column("key")[0] = 1


def test_notes_come_back_and_leave_the_rows_alone(tmp_path: Path) -> None:
    rows = random_rows(3)
    path = write_shard(tmp_path / "a.parquet", rows, notes={"tierloom.block": '{"tokens": 3}', "odd": "{"})
    mapped = MappedShard(path)
    assert mapped.notes("tierloom.block") == {"tokens": 3}
    assert mapped.notes("absent") is None
    assert mapped.column("vector").tobytes() == rows.vector.tobytes()
    with pytest.raises(Malformed, match="odd"):
        mapped.notes("odd")


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "a.parquet", random_rows(20)).read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(Malformed, match=r"cut\.parquet"):
            MappedShard(cut)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"{}\n", bytes(1000), b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_what_is_not_parquet_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(Malformed, match=r"a\.parquet"):
        MappedShard(tmp_path / "a.parquet")


def plainly(**changes: Any) -> dict[str, Any]:
    return {"use_dictionary": False, "compression": "none"} | changes


_OTHER_LAYOUTS = {
    "compressed": plainly(compression={"vector": "zstd"}),
    "dictionary": plainly(use_dictionary=["vector"]),
    "several pages": plainly(max_rows_per_page=ROW_GROUP_ROWS // 2),
    "small pages": plainly(data_page_size=1024, write_batch_size=16),
    "byte stream split": plainly(use_byte_stream_split=["vector"]),
    "delta": plainly(column_encoding={"prefix": "DELTA_BYTE_ARRAY"}),
    "binary packed": plainly(column_encoding={"sequence": "DELTA_BINARY_PACKED"}),
    "data page v2": plainly(data_page_version="2.0", compression="zstd"),
}


@pytest.mark.parametrize("options", _OTHER_LAYOUTS.values(), ids=_OTHER_LAYOUTS.keys())
def test_a_column_that_cannot_be_mapped_is_refused(
    shard: tuple[Path, Rows], tmp_path: Path, options: dict[str, Any]
) -> None:
    pq.write_table(pq.read_table(shard[0]), tmp_path / "b.parquet", row_group_size=ROW_GROUP_ROWS, **options)
    with pytest.raises(Malformed, match="is not one plain, uncompressed page"):
        MappedShard(tmp_path / "b.parquet")


def _renamed(table: pa.Table) -> pa.Table:
    names = ["vectors" if name == "vector" else name for name in table.column_names]
    return table.rename_columns(names).replace_schema_metadata(table.schema.metadata)


def _nullable(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema], table.schema.metadata))


def _signed(table: pa.Table) -> pa.Table:
    at = table.column_names.index("key")
    column = pc.cast(table["ordinal"], pa.int64())
    return table.set_column(at, pa.field("key", pa.int64(), nullable=False), column)


_OTHER_TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "another name": _renamed,
    "nullable columns": _nullable,
    "another type": _signed,
    "a column less": lambda table: table.drop_columns(["content_hash"]),
    "a column more": lambda table: table.append_column("more", table["text"]),
    "no rows": lambda table: table.slice(0, 0),
}


@pytest.mark.parametrize("name", _OTHER_TABLES)
def test_other_columns_are_refused(tmp_path: Path, name: str) -> None:
    table = _OTHER_TABLES[name](pq.read_table(write_shard(tmp_path / "a.parquet", random_rows(9))))
    pq.write_table(table, tmp_path / "b.parquet", **plainly())
    with pytest.raises(Malformed, match=r"b\.parquet: \d rows whose columns are not those of a vector shard"):
        MappedShard(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("note", "value"),
    [
        ("format", "2"),
        ("format", "one"),
        ("dimensions", "16"),
        ("dimensions", "64"),
        ("dimensions", "-32"),
        ("dimensions", "0"),
        ("dimensions", "9" * 30),
        ("prefix_dimensions", "8"),
        ("prefix_dimensions", "33"),
        ("prefix_dimensions", "0"),
    ],
)
def test_notes_that_do_not_fit_the_columns_are_refused(tmp_path: Path, note: str, value: str) -> None:
    table = pq.read_table(write_shard(tmp_path / "a.parquet", random_rows(9)))
    notes = table.schema.metadata | {f"tierloom.{note}".encode(): value.encode()}
    pq.write_table(table.replace_schema_metadata(notes), tmp_path / "b.parquet", **plainly())
    with pytest.raises(Malformed, match=r"b\.parquet"):
        MappedShard(tmp_path / "b.parquet")


def test_a_parquet_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(Malformed, match="not a vector shard"):
        MappedShard(tmp_path / "b.parquet")


def _part(rows: Rows, part: slice) -> Rows:
    return Rows(**{name: getattr(rows, name)[part] for name in Rows.__slots__})


@pytest.mark.parametrize("rows", [1, ROW_GROUP_ROWS, 3 * ROW_GROUP_ROWS + 1])
def test_the_writer_knows_the_hash_of_the_file(tmp_path: Path, rows: int) -> None:
    with writing(tmp_path / "a.parquet", SCHEMA) as writer:
        writer.append(random_rows(rows))

    assert writer.sha256 == hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
