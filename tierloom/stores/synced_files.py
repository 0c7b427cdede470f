"""Files and folders of a local disk, whose bytes and names are there when a call returns."""

import os
import time
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """A new file of these bytes, which are on the disk then."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and bring their names to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def linked(temporary: Path, final: Path) -> bool:
    """Give a file a second name; whether that was free."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    return True


def make_young(descriptor: int) -> None:
    """Move a file's time to now, and by a nanosecond at least: the clock of a file system may be slow to tick."""
    now = max(time.time_ns(), os.fstat(descriptor).st_mtime_ns + 1)
    try:
        os.utime(descriptor, ns=(now, now))
    except PermissionError:
        # Who may write a file of another user may not choose its time.
        os.utime(descriptor)


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    """Up to `length` bytes; fewer only at the end. One `pread` never gives more than about 2 GiB."""
    data = os.pread(descriptor, length, offset)
    if len(data) in (0, length):
        return data
    return data + read_at(descriptor, offset + len(data), length - len(data))
