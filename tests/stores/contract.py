"""What every store must pass. A backend's test subclasses `StoreContract` and supplies four fixtures or methods."""

import contextlib
import hashlib
import pickle
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

from tests.stores import rival
from tests.stores.rivals import line, rival_process, start
from tierloom.errors import AlreadyExists, NotFound, RevisionMismatch, StoreError
from tierloom.stores.store import Listed, Revision, Store

T = TypeVar("T")

MIB = 1 << 20
# More than one upload request can hold, and enough to be told from what a streaming reader keeps.
LARGE = 64 * MIB
UNSAFE = ["", "/etc/passwd", "../up", "a/../b", "a//b", ".hidden", "a/.hidden", "a/", "a b", "a\0b", "x" * 201, "é"]


class StoreContract:
    """`raw_put` and `raw_get` reach the same place without the store, so that both directions are really tested."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    @pytest.fixture
    def other_store(self) -> Store:
        """Another, separate store of the same kind."""
        raise NotImplementedError

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        raise NotImplementedError

    def raw_get(self, store: Store, name: str) -> bytes:
        raise NotImplementedError

    def test_create_stores_the_bytes(self, store: Store) -> None:
        store.create("shards/a.parquet", b"\x00\xff bytes")
        assert self.raw_get(store, "shards/a.parquet") == b"\x00\xff bytes"

    def test_create_stores_an_empty_object(self, store: Store) -> None:
        store.create("empty", b"")
        assert self.raw_get(store, "empty") == b""
        assert (store.size("empty"), store.read("empty"), store.read_range("empty", 0, 0)) == (0, b"", b"")

    def test_create_again_with_the_same_bytes_succeeds(self, store: Store) -> None:
        self.raw_put(store, "a/b", b"same")
        store.create("a/b", b"same")
        assert self.raw_get(store, "a/b") == b"same"

    @pytest.mark.parametrize("other", [b"diff", b"longer", b""])
    def test_create_never_replaces(self, store: Store, other: bytes) -> None:
        self.raw_put(store, "a/b", b"same")
        with pytest.raises(AlreadyExists, match="a/b"):
            store.create("a/b", other)
        assert self.raw_get(store, "a/b") == b"same"

    def test_create_from_file_stores_the_bytes(self, store: Store, tmp_path: Path) -> None:
        for number, folder in enumerate([store.scratch(), tmp_path]):
            path = _file(folder, b"from a file")
            store.create_from_file(f"files/{number}", path)
            path.unlink(missing_ok=True)
            assert self.raw_get(store, f"files/{number}") == b"from a file"

    def test_create_from_file_again_with_the_same_bytes_succeeds(self, store: Store) -> None:
        self.raw_put(store, "a/b", b"same")
        store.create_from_file("a/b", _file(store.scratch(), b"same"))
        assert self.raw_get(store, "a/b") == b"same"

    def test_create_from_file_never_replaces(self, store: Store, tmp_path: Path) -> None:
        self.raw_put(store, "a/b", b"same")
        with pytest.raises(AlreadyExists, match="a/b"):
            store.create_from_file("a/b", _file(tmp_path, b"diff"))
        assert self.raw_get(store, "a/b") == b"same"

    def test_create_from_file_of_another_store_leaves_it_whole(
        self, store: Store, other_store: Store, tmp_path: Path
    ) -> None:
        other_store.create("a", b"shared")
        store.create_from_file("a", other_store.fetch("a", tmp_path))
        assert (store.read("a"), other_store.read("a")) == (b"shared", b"shared")

    def test_create_from_file_that_is_not_there_is_a_store_error(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="absent"):
            store.create_from_file("a", tmp_path / "absent")
        assert store.size("a") is None

    def test_read_gives_the_bytes(self, store: Store) -> None:
        self.raw_put(store, "a/b", b"\x00\xff bytes")
        assert store.read("a/b") == b"\x00\xff bytes"

    def test_read_range_gives_exactly_the_range(self, store: Store) -> None:
        self.raw_put(store, "a", b"0123456789")
        ranges = [(0, 10), (0, 1), (9, 1), (3, 4), (4, 0), (10, 0)]
        assert [store.read_range("a", *r) for r in ranges] == [b"0123456789"[o : o + n] for o, n in ranges]

    @pytest.mark.parametrize(("offset", "length"), [(0, 11), (9, 2), (10, 1), (50, 5)])
    def test_read_range_beyond_the_end_is_a_store_error(self, store: Store, offset: int, length: int) -> None:
        self.raw_put(store, "a", b"0123456789")
        with pytest.raises(StoreError, match=f"ends before byte {offset + length}") as caught:
            store.read_range("a", offset, length)
        assert not isinstance(caught.value, NotFound)

    @pytest.mark.parametrize(("offset", "length"), [(-1, 2), (1, -2)])
    def test_read_range_refuses_negative_numbers(self, store: Store, offset: int, length: int) -> None:
        self.raw_put(store, "a", b"0123456789")
        with pytest.raises(ValueError, match="range"):
            store.read_range("a", offset, length)

    def test_size_is_the_length_or_none(self, store: Store) -> None:
        self.raw_put(store, "a", b"0123456789")
        assert (store.size("a"), store.size("b"), store.size("deep/er/b")) == (10, None, None)

    def test_what_is_missing_is_not_found(self, store: Store, tmp_path: Path) -> None:
        self.raw_put(store, "there", b"")
        with pytest.raises(NotFound, match=r"gone/a"):
            store.read("gone/a")
        for length in (0, 1):
            with pytest.raises(NotFound, match=r"gone/a"):
                store.read_range("gone/a", 0, length)
        with pytest.raises(NotFound, match=r"gone/a"):
            store.fetch("gone/a", tmp_path / "folder")
        assert store.read_revision("gone/a") is None

    def test_fetch_gives_a_file_with_the_bytes(self, store: Store, tmp_path: Path) -> None:
        for tier in ("64", "128"):
            self.raw_put(store, f"indexes/{tier}/a.usearch", tier.encode())
        fetched = [store.fetch(f"indexes/{tier}/a.usearch", tmp_path / "new") for tier in ("64", "128")]
        assert [path.read_bytes() for path in fetched] == [b"64", b"128"]
        assert [path.name for path in fetched] == ["a.usearch", "a.usearch"]

    def test_list_gives_what_begins_with_the_prefix(self, store: Store) -> None:
        self.raw_put(store, "shards/aa", b"1")
        self.raw_put(store, "shards/ab/c", b"12")
        self.raw_put(store, "shards/b", b"123")
        self.raw_put(store, "shardsmore", b"1234")
        store.swap("channels/prod.json", b"12345", None)
        store.scratch()
        listed = {prefix: sorted((found.name, found.bytes) for found in store.list(prefix)) for prefix in LISTED}
        assert listed == LISTED

    def test_list_tells_when_an_object_was_made(self, store: Store) -> None:
        store.create("a", b"")
        store.create("b", b"")
        first, second = sorted(store.list(""), key=lambda found: found.name)
        assert 0 <= second.modified - first.modified < 60
        assert first.modified > 1.7e9

    def test_swap_makes_and_replaces(self, store: Store) -> None:
        first = store.swap("channels/prod.json", b"1", None)
        assert store.read_revision("channels/prod.json") == (b"1", first)
        second = store.swap("channels/prod.json", b"2", first)
        assert second != first
        assert store.read_revision("channels/prod.json") == (b"2", second)
        assert self.raw_get(store, "channels/prod.json") == b"2"

    def test_swap_refuses_what_another_changed(self, store: Store) -> None:
        first = store.swap("channels/prod.json", b"1", None)
        second = store.swap("channels/prod.json", b"2", first)
        for expected in (None, first):
            with pytest.raises(RevisionMismatch, match=r"channels/prod\.json"):
                store.swap("channels/prod.json", b"3", expected)
        assert store.read_revision("channels/prod.json") == (b"2", second)

    def test_swap_refuses_what_is_gone(self, store: Store) -> None:
        revision = store.swap("channels/prod.json", b"1", None)
        with pytest.raises(RevisionMismatch):
            store.swap("channels/canary.json", b"2", revision)
        assert store.size("channels/canary.json") is None

    def test_what_is_renewed_is_as_young_as_new(self, store: Store) -> None:
        store.create("a", b"1")
        before = _listed(store, "a")
        assert store.renew("a")
        after = _listed(store, "a")
        assert after.modified >= before.modified
        assert after.mark != before.mark
        assert store.read("a") == b"1"
        assert not store.renew("b")

    def test_creating_what_is_there_renews_it(self, store: Store, tmp_path: Path) -> None:
        store.create("a", b"1")
        marks = {_listed(store, "a").mark}
        store.create("a", b"1")
        marks.add(_listed(store, "a").mark)
        for folder in (store.scratch(), tmp_path):
            store.create_from_file("a", _file(folder, b"1"))
            marks.add(_listed(store, "a").mark)
        assert len(marks) == 4
        with pytest.raises(AlreadyExists):
            store.create("a", b"2")
        assert _listed(store, "a").mark in marks

    def test_remove_removes_what_was_listed(self, store: Store) -> None:
        for name in ("manifests/1", "manifests/10"):
            store.create(name, b"1")
        listed = _listed(store, "manifests/1")
        assert store.remove(listed)
        assert (store.size("manifests/1"), [found.name for found in store.list("")]) == (None, ["manifests/10"])
        assert not store.remove(listed)
        store.create("manifests/1", b"2")
        assert not store.remove(listed)
        assert store.read("manifests/1") == b"2"

    def test_remove_spares_what_was_used_meanwhile(self, store: Store, tmp_path: Path) -> None:
        uses: list[Callable[[], object]] = [
            lambda: store.renew("leases/a"),
            lambda: store.create("leases/a", b"1"),
            lambda: store.create_from_file("leases/a", _file(tmp_path, b"1")),
        ]
        store.create("leases/a", b"1")
        for use in uses:
            listed = _listed(store, "leases/a")
            use()
            assert not store.remove(listed)
            assert store.read("leases/a") == b"1"

    def test_remove_spares_what_was_swapped_meanwhile(self, store: Store) -> None:
        """Even if the bytes are the same again."""
        revision = store.swap("leases/a", b"1", None)
        listed = _listed(store, "leases/a")
        revision = store.swap("leases/a", b"2", revision)
        store.swap("leases/a", b"1", revision)
        assert not store.remove(listed)
        assert store.remove(_listed(store, "leases/a"))
        with pytest.raises(RevisionMismatch):
            store.swap("leases/a", b"3", revision)

    def test_a_renewed_object_can_still_be_swapped(self, store: Store) -> None:
        revision = store.swap("channels/a", b"1", None)
        store.renew("channels/a")
        assert store.read_revision("channels/a") == (b"1", revision)
        store.swap("channels/a", b"2", revision)

    @pytest.mark.parametrize("name", UNSAFE)
    def test_unsafe_names_are_refused(self, store: Store, name: str, tmp_path: Path) -> None:
        path = _file(tmp_path, b"")
        attempts: list[Callable[[], object]] = [
            lambda: store.create(name, b""),
            lambda: store.create_from_file(name, path),
            lambda: store.read(name),
            lambda: store.read_range(name, 0, 1),
            lambda: store.size(name),
            lambda: store.read_revision(name),
            lambda: store.swap(name, b"", Revision("1")),
            lambda: store.fetch(name, tmp_path),
            lambda: store.renew(name),
            lambda: store.remove(Listed(name, 0, 0.0, "")),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError, match="name"):
                attempt()

    @pytest.mark.parametrize("prefix", ["../", "/", "a//", ".scratch", "a/../", "a/."])
    def test_unsafe_prefixes_are_refused(self, store: Store, prefix: str) -> None:
        with pytest.raises(ValueError, match="name"):
            store.list(prefix)

    def test_a_pickled_store_is_the_same_store(self, store: Store) -> None:
        store.create("a", b"1")
        copy: Store = pickle.loads(pickle.dumps(store))
        assert (copy.url, copy.read("a")) == (store.url, b"1")

    def test_large_files_are_streamed(self, store: Store, tmp_path: Path) -> None:
        path, digest = _large_file(store.scratch() / "large")
        with _peak_memory_below(LARGE // 2):
            store.create_from_file("large", path)
            fetched = store.fetch("large", tmp_path)
        path.unlink(missing_ok=True)
        assert store.size("large") == LARGE
        with fetched.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest
        with _peak_memory_below(LARGE // 2):
            store.create_from_file("large", fetched)
        assert fetched.exists()

    def test_threads_that_create_one_object_have_one_winner(self, store: Store) -> None:
        contents = [bytes([letter]) * 100_000 for letter in b"abcdefgh"]
        for name in (f"race/{number}" for number in range(10)):
            won = _together(partial(_creates, store, name), contents)
            assert won.count(True) == 1
            assert self.raw_get(store, name) == contents[won.index(True)]

    def test_processes_that_create_one_object_have_one_winner(self, store: Store, tmp_path: Path) -> None:
        letters = "abcd"
        with contextlib.ExitStack() as stack:
            rivals = [
                stack.enter_context(rival_process(store, tmp_path, "create", "race", x, str(MIB))) for x in letters
            ]
            start(rivals)
            won = [line(process) == "won" for process in rivals]
        assert won.count(True) == 1
        assert self.raw_get(store, "race") == letters[won.index(True)].encode() * MIB

    def test_every_swap_counts_once(self, store: Store, tmp_path: Path) -> None:
        """Two processes and four threads count together, although one number written by two looks the same."""
        with contextlib.ExitStack() as stack:
            rivals = [stack.enter_context(rival_process(store, tmp_path, "count", "counter", "10")) for _ in range(2)]
            start(rivals)
            _together(lambda _: rival.count(store, "counter", "10"), [b""] * 4)
            assert [process.wait(timeout=60) for process in rivals] == [0, 0]
        assert self.raw_get(store, "counter") == b"60"

    def test_a_killed_writer_leaves_no_part_of_an_object(self, store: Store, tmp_path: Path) -> None:
        for kill in range(6):
            with rival_process(store, tmp_path, "churn", f"kill-{kill}/", str(4 * MIB)) as process:
                start([process])
                for _ in range(2 + kill % 2):
                    begun = line(process)
                # Some moment within the creation that was just begun.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.003 * kill)
                process.kill()
            assert begun.startswith(f"kill-{kill}/")
            found = [listed.name for listed in store.list(f"kill-{kill}/")]
            assert len(found) >= 1
            for name in found:
                assert hashlib.sha256(self.raw_get(store, name)).hexdigest() == name.rpartition("/")[2]


LISTED = {
    "": [("channels/prod.json", 5), ("shards/aa", 1), ("shards/ab/c", 2), ("shards/b", 3), ("shardsmore", 4)],
    "shards/": [("shards/aa", 1), ("shards/ab/c", 2), ("shards/b", 3)],
    "shards/a": [("shards/aa", 1), ("shards/ab/c", 2)],
    "shards/ab/": [("shards/ab/c", 2)],
    "nothing": [],
    "no/thing/": [],
}


def _listed(store: Store, name: str) -> Listed:
    return next(listed for listed in store.list(name) if listed.name == name)


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "written.file"
    path.write_bytes(data)
    return path


def _large_file(path: Path) -> tuple[Path, str]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(LARGE // MIB):
            block = number.to_bytes(8, "little") * (MIB // 8)
            digest.update(block)
            file.write(block)
    return path, digest.hexdigest()


@contextlib.contextmanager
def _peak_memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def _creates(store: Store, name: str, data: bytes) -> bool:
    try:
        store.create(name, data)
    except AlreadyExists:
        return False
    return True


def _together(act: Callable[[bytes], T], arguments: list[bytes]) -> list[T]:
    """`act` on each argument, each in a thread of its own, all at once."""
    barrier = Barrier(len(arguments))

    def act_at_once(argument: bytes) -> T:
        barrier.wait(timeout=30)
        return act(argument)

    with ThreadPoolExecutor(len(arguments)) as threads:
        return list(threads.map(act_at_once, arguments))
