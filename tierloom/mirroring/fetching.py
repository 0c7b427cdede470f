"""Bringing objects into a mirror: each is a file beside the others until its last byte is checked."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from tierloom.digest import digest_of
from tierloom.errors import Corrupt, NotFound, StoreError
from tierloom.manifest import VectorShard
from tierloom.mirroring.hollow import fetch_hollow
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import StoredObject
from tierloom.stores.file_failures import explained
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from tierloom.stores.synced_files import make_folder, sync

# One request, and what a killed pull fetches again of each object that was on its way.
PIECE: Final = 8 << 20
# What the files of arriving objects begin with.
PART: Final = "pull-"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is: objects and bytes that came, of those that were missing."""

    objects: int
    bytes: int
    objects_in_all: int
    bytes_in_all: int


OnProgress = Callable[[Progress], None]


class Stopped(Exception):
    """Another object could not be fetched: this one is left as it is."""


class Fetcher:
    """Fetches objects of `store` into the mirror `local`. Safe to use from several threads.

    What arrived of an object lies in the scratch folder, and is gone on with after a crash.
    """

    def __init__(self, store: Store, local: LocalStore, expected: Progress, on_progress: OnProgress | None) -> None:
        self._store, self._local = store, local
        self._scratch = local.scratch()
        self._progress, self._on_progress = expected, on_progress
        self._counting = threading.Lock()
        self._stopping = threading.Event()

    @property
    def progress(self) -> Progress:
        return self._progress

    def stop(self) -> None:
        """Let every other thread come to an end soon."""
        self._stopping.set()

    def fetch(self, stored: StoredObject) -> None:
        """Have the whole object. Raises `Corrupt`, `NotFound` or `StoreError`."""
        part = self._scratch / part_name(stored)
        with explained(part):
            if not self._append(stored, part) and not self._append(stored, part):
                raise Corrupt(f"{self._store.url}: {stored.path} has not the sha256 {stored.sha256} of the manifest")
            self._install(part, stored)

    def fetch_hollow(self, stored: VectorShard) -> str:
        """Have all of a vector shard but its full vectors; the sha256 of that. Raises as `fetch` does."""
        part = self._scratch / part_name(stored)
        self._refuse_other_length(stored)
        with explained(part):
            fetch_hollow(stored, part, lambda offset, length: self._read(stored, offset, length), PIECE)
            sync(part)
            sha256 = sha256_of(part)
            self._install(part, stored)
        return sha256

    def _append(self, stored: StoredObject, part: Path) -> bool:
        """Go on where the part ends. False, and the part is gone, when what comes of it is another object."""
        digest = hashlib.sha256()
        with part.open("a+b") as file:
            at = _hash(file, digest.update)
            while at < stored.bytes:
                data = self._read(stored, at, min(PIECE, stored.bytes - at))
                file.write(data)
                digest.update(data)
                at += len(data)
            file.flush()
            os.fsync(file.fileno())
        sound = at == stored.bytes and digest.hexdigest() == stored.sha256
        if not sound:
            part.unlink()
        return sound

    def _read(self, stored: StoredObject, offset: int, length: int) -> bytes:
        if self._stopping.is_set():
            raise Stopped
        data = self._store.read_range(stored.path, offset, length)
        self._count(bytes=length)
        return data

    def _refuse_other_length(self, stored: StoredObject) -> None:
        length = self._store.size(stored.path)
        if length is None:
            raise NotFound(f"no object {stored.path} in {self._store.url}")
        if length != stored.bytes:
            raise Corrupt(f"{stored.path}: {length} bytes in {self._store.url}, but the manifest states {stored.bytes}")

    def _install(self, part: Path, stored: StoredObject) -> None:
        """Give it its name. A reader that has mapped what was there before keeps that."""
        final = self._local.root / stored.path
        make_folder(final.parent)
        part.replace(final)
        sync(final.parent)
        self._count(objects=1)

    def _count(self, *, objects: int = 0, bytes: int = 0) -> None:  # noqa: A002 -- as `Progress` calls it
        with self._counting:
            seen = self._progress
            self._progress = replace(seen, objects=seen.objects + objects, bytes=seen.bytes + bytes)
            if self._on_progress is not None:
                self._on_progress(self._progress)


def part_name(stored: StoredObject) -> str:
    """What an object is called while it arrives: by its content too, so that nothing is gone on with as another."""
    return f"{PART}{digest_of('part', stored.path, stored.sha256)}.part"


@contextmanager
def room_named(local: LocalStore, needed: Callable[[], int]) -> Iterator[None]:
    """Say of a disk that gets full how much there is to come, and that nothing is broken."""
    try:
        yield
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise too_full(local, needed()) from error
        raise


def too_full(local: LocalStore, needed: int) -> StoreError:
    return StoreError(
        f"{local.root}: the pull needs {needed:,} bytes more and {free_bytes(local.root):,} are free; free some space "
        "there, or choose a larger disk. What was there before is whole, and what came already is kept"
    )


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _hash(file: BinaryIO, update: Callable[[bytes], None]) -> int:
    file.seek(0)
    while data := file.read(1 << 20):
        update(data)
    return file.tell()
