"""One pull at a time into a mirror."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tierloom.errors import PullUnderWay
from tierloom.lease import this_process
from tierloom.stores.file_failures import explained
from tierloom.stores.local import LOCKS, LocalStore
from tierloom.stores.synced_files import make_folder


@contextmanager
def holding(local: LocalStore) -> Iterator[None]:
    """Hold the mirror until the end of the block; the system lets go of it when this process dies.

    Raises `PullUnderWay`, which names the holder.
    """
    path = local.root / LOCKS / "pull"
    with explained(path):
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        _take(descriptor, path, local)
        yield
    finally:
        # Closing it is not enough: a process forked meanwhile has the same open file.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _take(descriptor: int, path: Path, local: LocalStore) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_text(errors="replace")[:200].strip() or "another process"
        raise PullUnderWay(f"{local.root} is being pulled into by {holder}; wait for it, or end it") from None
    with explained(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{this_process()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode(), 0)
