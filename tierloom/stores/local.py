"""A store in a folder: whole or absent, whatever is killed and however full the disk is.

A new object is written under a temporary name inside the store, synced, and given its name by `link`, which
refuses to replace another (rename would not). Channels are replaced by `rename` under an advisory lock that
the system lets go of when its holder dies; another such lock keeps `remove` apart from those who find an object and
mean to use it. What a killed process leaves is a file in `.scratch`, never a part of an object. The file system
must offer hard links and `flock`, as every usual one of Linux and macOS does.
"""

import contextlib
import fcntl
import filecmp
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tierloom import names
from tierloom.errors import AlreadyExists, NotFound, RevisionMismatch, StoreError
from tierloom.stores.file_failures import explained
from tierloom.stores.store import Listed, Revision
from tierloom.stores.synced_files import linked, make_folder, make_young, read_at, sync, write

# Neither is a name that `names.is_safe` accepts, so no object can collide with them.
SCRATCH: Final = ".scratch"
LOCKS: Final = ".locks"
# Held alone by whoever removes an object, and together by those who find one.
COLLECTION: Final = "collection"


@dataclass(frozen=True, slots=True)
class LocalStore:
    """Objects as files under `root`, which is made by the first write."""

    root: Path

    def __post_init__(self) -> None:
        # A worker that unpickles this store may have another working directory.
        object.__setattr__(self, "root", self.root.absolute())

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def local(self) -> bool:
        return True

    def create(self, name: str, data: bytes) -> None:
        final = self._path(name)
        with explained(final), self._temporary() as temporary:
            write(temporary, data)
            self._publish(temporary, final)

    def create_from_file(self, name: str, path: Path) -> None:
        """`create` with the bytes of a file: one in `scratch()` is moved into place, any other is copied."""
        final, source = self._path(name), path.resolve()
        with explained(final):
            if source.is_relative_to(self.scratch().resolve()):
                sync(source)
                os.utime(source)
                self._publish(source, final)
                source.unlink()
                return
            with self._temporary() as temporary:
                shutil.copyfile(source, temporary)
                sync(temporary)
                self._publish(temporary, final)

    def read(self, name: str) -> bytes:
        with self._opened(name) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise ValueError(f"{name}: a range of {length} bytes from {offset} is not one")
        with self._opened(name) as descriptor:
            data = read_at(descriptor, offset, length)
        if len(data) < length:
            raise StoreError(f"{self._path(name)} ends before byte {offset + length}: {len(data)} bytes from {offset}")
        return data

    def size(self, name: str) -> int | None:
        try:
            with self._opened(name) as descriptor:
                return os.fstat(descriptor).st_size
        except NotFound:
            return None

    def read_revision(self, name: str) -> tuple[bytes, Revision] | None:
        try:
            data = self.read(name)
        except NotFound:
            return None
        return data, _revision(data)

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        """Replace the object if it is still at `expected`. A revision is the sha256 of the content."""
        final = self._path(name)
        with explained(final), self._together(), self._locked(name):
            current = self.read_revision(name)
            if (current[1] if current else None) != expected:
                raise RevisionMismatch(f"{final} was changed by another writer; read it again and decide anew")
            with self._temporary() as temporary:
                write(temporary, data)
                make_folder(final.parent)
                temporary.replace(final)
            sync(final.parent)
        return _revision(data)

    def renew(self, name: str) -> bool:
        path = self._path(name)
        with explained(path), self._together(), contextlib.suppress(NotFound):
            with self._opened(name) as descriptor:
                make_young(descriptor)
            return True
        return False

    def remove(self, listed: Listed) -> bool:
        """Remove an object if neither its time nor its file has changed since it was listed."""
        path = self._path(listed.name)
        with explained(path), self._locked(COLLECTION), contextlib.suppress(FileNotFoundError):
            if _mark(path.lstat()) == listed.mark:
                path.unlink()
                sync(path.parent)
                return True
        return False

    def list(self, prefix: str) -> Iterator[Listed]:
        if not names.is_safe(f"{prefix}x"):
            raise ValueError(f"{prefix!r} begins no name of an object")
        folder = self.root / prefix.rpartition("/")[0]
        self._refuse_links(folder)
        return (listed for listed in _walk(folder, self.root) if listed.name.startswith(prefix))

    def scratch(self) -> Path:
        folder = self.root / SCRATCH
        self._refuse_links(folder)
        with explained(folder):
            make_folder(folder)
        return folder

    def fetch(self, name: str, folder: Path) -> Path:
        with self._opened(name):
            return self._path(name)

    def _path(self, name: str) -> Path:
        if not names.is_safe(name):
            raise ValueError(f"{name!r} is not the name of an object")
        path = self.root / name
        self._refuse_links(path.parent)
        return path

    def _refuse_links(self, folder: Path) -> None:
        """No folder within the store may be a symbolic link: it could lead out of it. `root` itself may."""
        while folder != self.root:
            if folder.is_symlink():
                raise StoreError(f"{folder} is a symbolic link, which may lead out of the store; put the folder there")
            folder = folder.parent

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """A descriptor to read the object by. Raises `NotFound`, or `StoreError` if it is not a plain file."""
        path = self._path(name)
        with explained(path):
            try:
                # Without O_NONBLOCK the opening of a named pipe would wait for ever.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                raise NotFound(f"no object {name} in {self.root}") from None
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(f"{path} is not a plain file; move it away")
                yield descriptor
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A new name in the scratch folder, and nothing of that name afterwards."""
        path = self.scratch() / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _publish(self, temporary: Path, final: Path) -> None:
        """Give a written and synced file its name for good. Raises `AlreadyExists` if other bytes have it."""
        make_folder(final.parent)
        # What was found may be removed before it can be renewed.
        while not (linked(temporary, final) or self._found(temporary, final)):
            pass
        # Also for an object that was found there: whoever made it may not have come to this line.
        sync(final.parent)

    def _found(self, written: Path, final: Path) -> bool:
        with self._together(), contextlib.suppress(NotFound):
            with self._opened(final.relative_to(self.root).as_posix()) as descriptor:
                if not filecmp.cmp(written, final, shallow=False):
                    raise AlreadyExists(f"{final} exists already, with other content; objects are never replaced")
                make_young(descriptor)
            return True
        return False

    def _together(self) -> contextlib.AbstractContextManager[None]:
        """No object is removed meanwhile."""
        return self._locked(COLLECTION, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """One writer at a time, among threads and processes. The lock file stays: to remove it would split the lock."""
        path = self.root / LOCKS / name
        self._refuse_links(path.parent)
        make_folder(path.parent)
        with path.open("ab") as file:
            fcntl.flock(file, how)
            try:
                yield
            finally:
                # Not left to `close`: a process forked meanwhile holds the same open file.
                fcntl.flock(file, fcntl.LOCK_UN)


def _mark(found: os.stat_result) -> str:
    return f"{found.st_ino} {found.st_mtime_ns}"


def _walk(folder: Path, root: Path) -> Iterator[Listed]:
    for path, found in _entries(folder):
        name = path.relative_to(root).as_posix()
        if not names.is_safe(name):
            continue
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(path, root)
        elif stat.S_ISREG(found.st_mode):
            yield Listed(name, found.st_size, found.st_mtime, _mark(found))


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What a folder holds, in order. An entry that is removed meanwhile was never part of the listing."""
    with explained(folder), contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()


def _revision(data: bytes) -> Revision:
    return Revision(hashlib.sha256(data).hexdigest())
