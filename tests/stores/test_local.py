"""The contract on a folder, and what only a folder can do wrong."""

import contextlib
import errno
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.stores import rival
from tests.stores.contract import StoreContract
from tests.stores.rivals import line, rival_process, start
from tierloom.errors import RevisionMismatch, StoreError
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision, Store


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "store")

    @pytest.fixture
    def other_store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "other")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        path = Path(store.url) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def raw_get(self, store: Store, name: str) -> bytes:
        return (Path(store.url) / name).read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.mark.parametrize("deed", ["create", "create_from_file"])
def test_a_creator_killed_at_any_step_can_be_followed_by_another(store: LocalStore, tmp_path: Path, deed: str) -> None:
    steps = _kills(store, tmp_path, deed)
    assert len(steps) >= 6
    seen = {name: store.size(name) for name in steps}
    assert set(seen.values()) == {None, len(rival.NEW)}
    for name in steps:
        store.create(name, rival.NEW)
        assert store.read(name) == rival.NEW


def test_a_swapper_killed_at_any_step_leaves_one_content_and_no_lock(store: LocalStore, tmp_path: Path) -> None:
    steps = _kills(store, tmp_path, "swap")
    assert len(steps) >= 6
    assert {store.read(name) for name in steps} == {rival.OLD, rival.NEW}
    for name in steps:
        found = store.read_revision(name)
        assert found
        store.swap(name, b"next", found[1])


def _kills(store: LocalStore, folder: Path, deed: str) -> list[str]:
    """The names that were written to by a process killed at its 1st, 2nd, ... step."""
    with rival_process(store, folder, "die-at-every-step", deed, "killed/") as process:
        start([process])
        return [f"killed/{step}/object" for step in range(1, int(line(process)))]


def test_a_file_that_may_not_grow_leaves_no_part(store: LocalStore, tmp_path: Path) -> None:
    """The limit of a file's size, which any process may set itself, stands for the quota of a user."""
    said = _overfill(store, tmp_path, limit=len(rival.NEW) // 2)
    for complaint, name in zip(said, ["created", "from-file", "channel"], strict=False):
        assert complaint.startswith(f"{store.root / name}")
        assert "File too large; free some space there" in complaint
    assert said[3:] == ["['channel'] b'old' []"]


def test_a_full_disk_leaves_no_part(store: LocalStore, tmp_path: Path) -> None:
    disk = f'mount -t tmpfs -o size={len(rival.NEW) // 2} none {store.root} && exec "$0" "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("this system lets no ordinary process mount a small disk of its own")
    store.root.mkdir()
    said = _overfill(store, tmp_path, within=[*namespace, "sh", "-c", disk])
    for complaint, name in zip(said, ["created", "from-file", "channel"], strict=False):
        assert complaint.startswith(f"{store.root / name}")
        assert "No space left on device; free some space there" in complaint
    assert said[3:] == ["['channel'] b'old' []"]


def _overfill(store: LocalStore, folder: Path, limit: int = -1, within: Sequence[str] = ()) -> list[str]:
    with rival_process(store, folder, "overfill", str(limit), str(folder), within=within) as process:
        start([process])
        assert process.stdout
        return process.stdout.read().splitlines()


def test_bytes_are_on_the_disk_before_their_name(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loss of power may take back is only seen in the order of the calls."""
    calls = _recorded_calls(store.root, monkeypatch)
    store.create("a/b", b"1")
    file = store.scratch() / "file"
    file.write_bytes(b"2")
    store.create_from_file("a/c", file)
    store.swap("a/d", b"3", None)
    assert calls == [
        "sync ..",  # the name of the root
        "sync .",  # the name of .scratch
        "sync .scratch/*.tmp",
        "sync .",  # the name of a
        "name a/b",
        "sync a",
        "sync .scratch/file",
        "name a/c",
        "sync a",
        "sync .",  # the name of .locks
        "sync .locks",  # the name of .locks/a
        "sync .scratch/*.tmp",
        "name a/d",
        "sync a",
    ]


def _recorded_calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    link, replace, fsync = os.link, os.replace, os.fsync

    def record(word: str, path: str | Path) -> None:
        calls.append(f"{word} {re.sub(r'[^/]+[.]tmp', '*.tmp', os.path.relpath(path, root))}")

    def recorded_fsync(descriptor: int) -> None:
        record("sync", Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def recorded_link(source: Path, target: Path) -> None:
        record("name", target)
        link(source, target)

    def recorded_replace(source: Path, target: Path) -> None:
        record("name", target)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "link", recorded_link)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return calls


USES: dict[str, Callable[[LocalStore, str], object]] = {
    "renew": lambda store, name: store.renew(name),
    "create": lambda store, name: store.create(name, b"1"),
    "create_from_file": lambda store, name: store.create_from_file(name, _scratch_file(store)),
    "swap": lambda store, name: store.swap(name, b"1", Revision(hashlib.sha256(b"1").hexdigest())),
}


@pytest.mark.parametrize("use", USES)
def test_of_a_removal_and_a_use_one_comes_first(store: LocalStore, use: str) -> None:
    """What was used after it was listed is there, and what was removed is told to who relies on it."""
    with ThreadPoolExecutor(2) as threads:
        for name in (f"race/{at}" for at in range(200)):
            store.create(name, b"1")
            listed = next(store.list(name))
            barrier = Barrier(2)
            used = threads.submit(_use, store, name, use, barrier)
            barrier.wait(timeout=30)
            removed, held = store.remove(listed), used.result()
            there = store.size(name) == 1
            assert there == held
            assert removed or there
            assert not (removed and there) or use.startswith("create")


def _use(store: LocalStore, name: str, use: str, barrier: Barrier) -> bool:
    barrier.wait(timeout=30)
    try:
        return USES[use](store, name) is not False
    except RevisionMismatch:
        return False


def _scratch_file(store: LocalStore) -> Path:
    path = store.scratch() / "used"
    path.write_bytes(b"1")
    return path


def test_a_file_in_scratch_is_moved_and_any_other_is_copied(store: LocalStore, tmp_path: Path) -> None:
    inside, outside = store.scratch() / "file", tmp_path / "file"
    inside.write_bytes(b"1")
    outside.write_bytes(b"2")
    inode = inside.stat().st_ino
    store.create_from_file("inside", inside)
    store.create_from_file("outside", outside)
    outside.write_bytes(b"edited")
    assert not inside.exists()
    assert store.fetch("inside", tmp_path).stat().st_ino == inode
    assert store.read("outside") == b"2"


def test_a_fetched_object_is_the_file_itself(store: LocalStore, tmp_path: Path) -> None:
    store.create("a/b", b"1")
    assert store.fetch("a/b", tmp_path) == store.root / "a/b"


@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("/etc/hostname"), os.mkfifo, os.mkdir], ids=["link", "pipe", "folder"]
)
def test_what_is_no_plain_file_is_refused(store: LocalStore, tmp_path: Path, make: Callable[[Path], None]) -> None:
    store.scratch()
    make(store.root / "odd")
    attempts: list[Callable[[], object]] = [
        lambda: store.read("odd"),
        lambda: store.size("odd"),
        lambda: store.read_revision("odd"),
        lambda: store.fetch("odd", tmp_path),
        lambda: store.create("odd", b""),
        lambda: store.swap("odd", b"", None),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=r"odd.*(move it away|put the file itself there)") as caught:
            attempt()
        assert type(caught.value) is StoreError
    assert list(store.list("")) == []


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"")
    store = LocalStore(root)
    attempts: list[Callable[[], object]] = [
        lambda: store.create("a", b""),
        lambda: store.swap("a", b"", None),
        lambda: store.read("a"),
        lambda: list(store.list("")),
        store.scratch,
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=f"{root}.*choose another folder"):
            attempt()


def test_a_folder_without_permission_is_refused(store: LocalStore) -> None:
    store.create("a", b"")
    store.root.chmod(0)
    with _ordinary_user():
        attempts: list[Callable[[], object]] = [
            lambda: store.create("b", b""),
            lambda: store.swap("b", b"", None),
            lambda: store.read("a"),
        ]
        for attempt in attempts:
            with pytest.raises(StoreError, match=f"{store.root}.*Permission denied; let this user read and write"):
                attempt()
    store.root.chmod(0o700)


def test_a_file_system_without_hard_links_is_refused(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match=r"Operation not permitted; .*hard links"):
        store.create("a", b"1")
    assert (store.size("a"), list(store.scratch().iterdir())) == (None, [])


def test_a_store_without_a_folder_is_empty(store: LocalStore) -> None:
    assert list(store.list("")) == []
    assert store.size("a") is None
    assert not store.root.exists()


def test_a_listing_leaves_out_what_is_no_object(store: LocalStore) -> None:
    store.create("a/b", b"1")
    (store.root / "a" / "b c").write_bytes(b"")
    (store.root / "a" / ".hidden").write_bytes(b"")
    (store.root / "link").symlink_to(store.root / "a", target_is_directory=True)
    assert [listed.name for listed in store.list("")] == ["a/b"]


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("store"))
    monkeypatch.chdir("/")
    assert store.url == str(tmp_path / "store")


@contextlib.contextmanager
def _ordinary_user() -> Iterator[None]:
    """The superuser is refused nothing."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
