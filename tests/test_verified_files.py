"""A file that was verified is not hashed again, unless anything about it is not as it was."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tierloom
from tests.small_shards import Row, make_collection, publish, store_shard
from tierloom import verified_files
from tierloom.digest import bytes_digest
from tierloom.errors import Corrupt
from tierloom.stores.local import LocalStore
from tierloom.verified_files import FOLDER, VerifiedFiles

CONTENT = b"what was verified"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from now on."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return bytes_digest(path.read_bytes())

    monkeypatch.setattr(verified_files, "sha256_of", noted)
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if some seconds had gone by since the files were written."""
    monkeypatch.setattr(verified_files, "_COARSE_NS", -1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shards" / "a.parquet"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.mark.usefixtures("settled")
def test_a_file_is_hashed_once(path: Path, tmp_path: Path, hashed: list[str]) -> None:
    for _ in range(3):
        assert VerifiedFiles(tmp_path).sha256_of(path) == bytes_digest(CONTENT)
    assert hashed == ["a.parquet"]


def rewrite(path: Path) -> None:
    status = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    status = path.stat()
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path)


def cut(path: Path) -> None:
    os.truncate(path, 3)


def spoil_record(path: Path) -> None:
    record = path.parent.parent / FOLDER / "shards" / "a.parquet.json"
    record.write_bytes(record.read_bytes().replace(b'"bytes":17', b'"bytes":18'))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [rewrite, replace, touch, cut, spoil_record])
def test_a_file_that_changed_is_hashed_again(
    path: Path, tmp_path: Path, hashed: list[str], change: Callable[[Path], None]
) -> None:
    VerifiedFiles(tmp_path).sha256_of(path)
    before = path.stat().st_ctime_ns
    while change is not spoil_record and path.stat().st_ctime_ns == before:
        # Until the clock of the file system has moved on.
        change(path)
    if change is spoil_record:
        change(path)
    assert VerifiedFiles(tmp_path).sha256_of(path) == bytes_digest(path.read_bytes())
    assert len(hashed) == 2


def test_a_file_that_just_changed_gets_no_record(path: Path, tmp_path: Path, hashed: list[str]) -> None:
    """It could change once more within the same tick of the file system's clock."""
    for _ in range(2):
        VerifiedFiles(tmp_path).sha256_of(path)
    assert hashed == ["a.parquet"] * 2
    assert path.stat().st_ctime_ns > time.time_ns() - 60_000_000_000


@pytest.mark.usefixtures("settled")
def test_records_of_what_is_gone_are_removed(path: Path, tmp_path: Path) -> None:
    files = VerifiedFiles(tmp_path)
    files.sha256_of(path)
    files.prune()
    assert len(list((tmp_path / FOLDER).rglob("*.json"))) == 1
    path.unlink()
    files.prune()
    assert list((tmp_path / FOLDER).rglob("*.json")) == []


@pytest.mark.usefixtures("settled")
def test_without_a_place_for_records_files_are_hashed(path: Path, tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    for _ in range(2):
        assert VerifiedFiles(tmp_path).sha256_of(path) == bytes_digest(CONTENT)
    assert len(hashed) == 2


@pytest.mark.usefixtures("settled")
def test_a_collection_is_verified_once_by_those_who_trust(tmp_path: Path, hashed: list[str]) -> None:
    store = LocalStore(tmp_path)
    make_collection(store)
    publish(store, [[store_shard(store, [Row("a"), Row("b")])]])
    answers = []
    for _ in range(2):
        with tierloom.open(store.root, trust_verified=True) as snapshot:
            answers.append(snapshot.search([1.0] * 32))
    assert len(hashed) == len(set(hashed)) == 2
    assert answers[0] == answers[1]
    path = store.root / snapshot.manifest.vector_shards[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        path.write_bytes(data)
    with tierloom.open(store.root, trust_verified=True) as snapshot, pytest.raises(Corrupt, match="sha256"):
        snapshot.search([1.0] * 32)
