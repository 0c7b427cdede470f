"""Vector shards read by ranges: the same answers as from the whole file, for a few percent of its bytes."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.gcs_server import GcsBucket
from tests.remote import RemoteStore
from tests.small_shards import CHECKPOINT, SCHEMA, random_rows, store_rows
from tierloom.column_files import ColumnFiles
from tierloom.errors import Corrupt, Malformed, NotFound, StoreError, TierloomError
from tierloom.manifest import VectorShard
from tierloom.shards.checksums import CHECKSUMS
from tierloom.shards.columns import ShardColumns
from tierloom.shards.live import LiveShard, of_each
from tierloom.shards.mapped import MappedShard
from tierloom.shards.paged import PagedShard
from tierloom.shards.partial_copy import PartialCopy
from tierloom.shards.schema import ROW_GROUP_ROWS, VARIABLE, ShardSchema
from tierloom.stores.opening import open_store
from tierloom.storing import footer_of

_ROWS = 2 * ROW_GROUP_ROWS + 5
_WIDE = ShardSchema(CHECKPOINT.fingerprint, dimensions=768, prefix_dimensions=256)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RemoteStore:
    return RemoteStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def stored(store: RemoteStore) -> VectorShard:
    """Three row groups of small rows."""
    return store_rows(store.files, random_rows(_ROWS))


@pytest.fixture(scope="module")
def wide(store: RemoteStore) -> VectorShard:
    """Rows as a model makes them: two row groups, 9 MB."""
    return store_rows(store.files, random_rows(ROW_GROUP_ROWS + 500, _WIDE), _WIDE)


def mapped(store: RemoteStore, stored: VectorShard) -> MappedShard:
    return MappedShard(store.files.root / stored.path, stored.path)


def ranged(store: RemoteStore, stored: VectorShard) -> PagedShard:
    """Anew, and counted from here."""
    store.traffic.ranges.clear()
    return PagedShard(stored, PartialCopy(stored, store, store.scratch()))


def everything(shard: ShardColumns) -> dict[str, object]:
    fixed: dict[str, object] = {name: shard.column(name).tobytes() for name in shard.schema.widths}
    return fixed | dict(shard.read_all().to_pydict())


def test_every_column_is_that_of_the_whole_file(store: RemoteStore, stored: VectorShard) -> None:
    here, there = mapped(store, stored), ranged(store, stored)
    assert (there.rows, there.schema, there.name) == (here.rows, here.schema, here.name)
    assert everything(there) == everything(here)


_WANTED = st.lists(st.integers(0, _ROWS - 1), max_size=30).map(lambda rows: np.array(rows, dtype=np.int64))
_ASKED = st.lists(st.tuples(st.sampled_from([*SCHEMA.widths, *VARIABLE]), _WANTED), max_size=8)


@settings(deadline=None)
@given(asked=_ASKED)
def test_gathered_rows_are_those_of_the_whole_file(
    store: RemoteStore, stored: VectorShard, asked: list[tuple[str, np.ndarray]]
) -> None:
    here, there = mapped(store, stored), ranged(store, stored)
    for name, rows in asked:
        if name in VARIABLE:
            assert there.read((name,), rows).equals(here.read((name,), rows))
        else:
            gathered, expected = there.gather(name, rows), here.gather(name, rows)
            assert (gathered.dtype, gathered.shape) == (expected.dtype, expected.shape)
            assert gathered.tobytes() == expected.tobytes()


def test_many_threads_see_the_same(store: RemoteStore, stored: VectorShard) -> None:
    shard, whole = ranged(store, stored), mapped(store, stored)
    draws = [np.random.default_rng(seed).integers(0, _ROWS, 50) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        gathered = list(pool.map(lambda rows: shard.gather("vector", rows).tobytes(), draws))
        read = list(pool.map(lambda rows: shard.read(("text",), rows).to_pydict(), draws))
    assert gathered == [whole.gather("vector", rows).tobytes() for rows in draws]
    assert read == [whole.read(("text",), rows).to_pydict() for rows in draws]


def test_a_row_costs_its_row(store: RemoteStore, wide: VectorShard) -> None:
    shard = ranged(store, wide)
    footer = store.traffic.bytes
    assert footer <= 1 << 17
    shard.gather("vector", np.array([1000, ROW_GROUP_ROWS - 100, ROW_GROUP_ROWS + 400]))
    # Three rows and the page headers of two row groups, in blocks of 4 KiB.
    assert store.traffic.bytes - footer <= 8 * 4096


def test_a_column_costs_its_column_in_one_request_a_row_group(store: RemoteStore, wide: VectorShard) -> None:
    shard = ranged(store, wide)
    before = len(store.traffic.ranges)
    prefix = shard.column("prefix").nbytes
    fetched = store.traffic.ranges[before:]
    assert len(fetched) == 2
    assert sum(length for _, _, length in fetched) <= prefix + 4 * 4096
    assert shard.column("prefix").nbytes == prefix
    assert len(store.traffic.ranges) == before + 2


def test_nothing_is_fetched_twice(store: RemoteStore, wide: VectorShard) -> None:
    shard, rows = ranged(store, wide), np.arange(0, ROW_GROUP_ROWS + 500, 40)
    for _ in range(2):
        everything(shard)
        shard.gather("vector", rows)
        shard.read(("document_id", "text"), rows)
    assert store.traffic.bytes <= 1.05 * wide.bytes


def test_long_columns_come_in_pieces(store: RemoteStore) -> None:
    schema = ShardSchema(CHECKPOINT.fingerprint, dimensions=2048, prefix_dimensions=8)
    wide = store_rows(store.files, random_rows(ROW_GROUP_ROWS, schema), schema)
    shard = ranged(store, wide)
    before = len(store.traffic.ranges)
    vectors = shard.column("vector")
    lengths = [length for _, _, length in store.traffic.ranges[before:]]
    assert max(lengths) <= 4 << 20
    assert len(lengths) == -(-vectors.nbytes // (4 << 20))
    assert vectors.tobytes() == mapped(store, wide).column("vector").tobytes()


class MeetingStore(RemoteStore):
    """Answers when so many others ask as well."""

    meeting: Barrier | None = None

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        if self.meeting:
            self.meeting.wait(timeout=30)
        return super().read_range(name, offset, length)


def test_row_groups_and_shards_are_asked_at_the_same_time(store: RemoteStore, stored: VectorShard) -> None:
    meeting = MeetingStore(store.files.root)
    other = store_rows(store.files, random_rows(_ROWS, seed=1))
    shards = [LiveShard(one, ColumnFiles(meeting)) for one in (stored, other)]
    assert [shard.shard.rows for shard in shards] == [_ROWS, _ROWS]
    # The keys of the last, small row group came with the footer.
    meeting.meeting = Barrier(2 * 2)
    keys = of_each(lambda shard: shard.keys, shards)
    assert [len(each) for each in keys] == [_ROWS, _ROWS]


@pytest.mark.parametrize("row", [-1, _ROWS, 1 << 40])
def test_rows_that_are_not_there_are_refused(store: RemoteStore, stored: VectorShard, row: int) -> None:
    shard = ranged(store, stored)
    for read in (lambda rows: shard.gather("vector", rows), lambda rows: shard.read(("text",), rows)):
        with pytest.raises(IndexError, match=str(row)):
            read(np.array([0, row]))


def test_no_file_is_left(tmp_path: Path, stored: VectorShard, store: RemoteStore) -> None:
    shard = PagedShard(stored, PartialCopy(stored, store, tmp_path))
    shard.column("key")
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_shrinks_meanwhile_is_a_store_error(tmp_path: Path) -> None:
    store = RemoteStore(tmp_path)
    many = store_rows(store.files, random_rows(_ROWS))
    shard = ranged(store, many)
    path = store.files.root / many.path
    path.write_bytes(path.read_bytes()[: ROW_GROUP_ROWS * 10])
    with pytest.raises(StoreError, match="ends before"):
        shard.column("vector")


class TestDamage:
    """A file of a single row group, 30 rows, damaged in its place."""

    def opened(self, store: RemoteStore, stored: VectorShard) -> PagedShard:
        return ranged(store, stored)

    @pytest.fixture
    def store(self, tmp_path: Path) -> RemoteStore:
        return RemoteStore(tmp_path)

    @pytest.fixture
    def stored(self, store: RemoteStore) -> VectorShard:
        return store_rows(store.files, random_rows(30))

    def replace(self, store: RemoteStore, stored: VectorShard, data: bytes) -> VectorShard:
        """Other bytes under the same name, of which the manifest states the length."""
        (store.files.root / stored.path).write_bytes(data)
        return msgspec.structs.replace(stored, bytes=len(data))

    def test_an_object_that_is_gone_is_not_found(self, store: RemoteStore, stored: VectorShard) -> None:
        (store.files.root / stored.path).unlink()
        with pytest.raises(NotFound, match=stored.path):
            self.opened(store, stored)

    @pytest.mark.parametrize("change", [-1, 1])
    def test_another_length_is_corrupt(self, store: RemoteStore, stored: VectorShard, change: int) -> None:
        stated = msgspec.structs.replace(stored, bytes=stored.bytes + change)
        with pytest.raises(Corrupt, match=f"{stored.path}: {stored.bytes} bytes, but the manifest states"):
            self.opened(store, stated)

    def test_a_file_cut_short_anywhere_is_refused(self, store: RemoteStore, stored: VectorShard) -> None:
        whole = store.files.read(stored.path)
        for length in [*range(1, len(whole) - 20, 13), *range(len(whole) - 20, len(whole))]:
            with pytest.raises(TierloomError, match=stored.path):
                self.opened(store, self.replace(store, stored, whole[:length]))

    @pytest.mark.slow
    def test_a_flipped_bit_is_refused_or_harmless(self, store: RemoteStore, stored: VectorShard) -> None:
        """All over the file: what has a checksum is never read wrong, and nothing crashes."""
        whole = store.files.read(stored.path)
        expected = {name: mapped(store, stored).column(name).tobytes() for name in SCHEMA.widths if name != "vector"}
        ids = mapped(store, stored).read_all(["document_id"])
        refused = 0
        for at in range(0, len(whole), 7):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << at % 8
            damaged_shard = self.replace(store, stored, bytes(damaged))
            try:
                shard = self.opened(store, damaged_shard)
                assert shard.rows == 30
                assert {name: shard.column(name).tobytes() for name in expected} == expected
                assert shard.read_all()["document_id"] == ids["document_id"]
            except TierloomError as error:
                assert stored.path in str(error)  # noqa: PT017 -- either end is right
                refused += 1
        assert refused > sum(map(len, expected.values())) / 7

    @pytest.mark.parametrize("note", [None, "[]", '{"key": [1]}', '{"key": ["x"]}'])
    def test_checksums_that_are_no_such_are_malformed(
        self, store: RemoteStore, stored: VectorShard, note: str | None
    ) -> None:
        with pytest.raises(Malformed, match=f"{stored.path}: its checksums"):
            self.opened(store, self.rewritten(store, stored, lambda notes: self._noted(notes, note)))

    def test_a_checksum_that_is_another_is_corrupt(self, store: RemoteStore, stored: VectorShard) -> None:
        def other(notes: dict[bytes, bytes]) -> dict[bytes, bytes]:
            checksums = json.loads(notes[CHECKSUMS.encode()])
            return notes | {CHECKSUMS.encode(): json.dumps(checksums | {"key": [1]}).encode()}

        shard = self.opened(store, self.rewritten(store, stored, other))
        assert len(shard.column("sequence")) == 30
        with pytest.raises(Corrupt, match=r"column 'key' of row group 0 has crc32 .* run `tierloom verify`"):
            shard.column("key")

    def test_a_column_of_several_pages_is_malformed(self, store: RemoteStore, stored: VectorShard) -> None:
        shard = self.opened(store, self.rewritten(store, stored, dict, max_rows_per_page=8))
        with pytest.raises(Malformed, match="is not one plain, uncompressed page"):
            shard.column("key")
        with pytest.raises(Malformed, match="is not one plain, uncompressed page"):
            shard.gather("vector", np.array([3]))

    def rewritten(
        self,
        store: RemoteStore,
        stored: VectorShard,
        change: Callable[[dict[bytes, bytes]], dict[bytes, bytes]],
        **options: int,
    ) -> VectorShard:
        file = pq.ParquetFile(pa.BufferReader(store.files.read(stored.path)))
        notes = {key: value for key, value in file.metadata.metadata.items() if key != b"ARROW:schema"}
        sink = pa.BufferOutputStream()
        pq.write_table(
            file.read().replace_schema_metadata(change(notes)),
            sink,
            use_dictionary=False,
            compression="none",
            **options,
        )
        replaced = self.replace(store, stored, sink.getvalue().to_pybytes())
        return msgspec.structs.replace(replaced, footer=footer_of(store.files.root / stored.path))

    @staticmethod
    def _noted(notes: dict[bytes, bytes], note: str | None) -> dict[bytes, bytes]:
        kept = {key: value for key, value in notes.items() if key != CHECKSUMS.encode()}
        return kept if note is None else kept | {CHECKSUMS.encode(): note.encode()}


class TestDamageOfAFile(TestDamage):
    """The same where the shard lies in this machine's store, and is mapped."""

    def opened(self, store: RemoteStore, stored: VectorShard) -> PagedShard:
        shard = ColumnFiles(store.files).shard(stored)
        assert type(shard) is PagedShard
        return shard


@pytest.mark.engine
def test_a_bucket_gives_the_same(gcs_bucket: GcsBucket, tmp_path: Path) -> None:
    bucket = open_store(gcs_bucket.url)
    stored = store_rows(bucket, random_rows(_ROWS))
    (tmp_path / "whole").write_bytes(gcs_bucket.get(stored.path))
    assert everything(PagedShard(stored, PartialCopy(stored, bucket, tmp_path))) == everything(
        MappedShard(tmp_path / "whole", stored.path)
    )
