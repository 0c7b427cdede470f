"""What killed processes left in the folder for temporary files of a local store."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tierloom.stores.store import Store


@dataclass(frozen=True, slots=True)
class ScratchEntry:
    """A file or folder; `used` is when anything in it was last written, in seconds since 1970."""

    path: Path
    bytes: int
    used: float


def scratch_entries(store: Store) -> Iterator[ScratchEntry]:
    """Every entry of the folder, if it is the store's own: that of a bucket is the machine's."""
    for path in sorted(store.scratch().iterdir()) if store.local else ():
        with contextlib.suppress(FileNotFoundError):
            found = [within.lstat() for within in (path, *path.rglob("*"))]
            yield ScratchEntry(path, sum(stat.st_size for stat in found), max(stat.st_mtime for stat in found))


def idle_entries(store: Store, cutoff: float) -> Iterator[ScratchEntry]:
    """Entries that nothing was written to since `cutoff`."""
    return (entry for entry in scratch_entries(store) if entry.used < cutoff)


def remove_entry(entry: ScratchEntry) -> None:
    if entry.path.is_dir() and not entry.path.is_symlink():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        entry.path.unlink(missing_ok=True)
