"""What is known of the files of a folder that were verified before, so that another process need not hash them again.

To hash a gigabyte takes about a second, and every process that opens a version would do it for each file. So, for those
who choose it (`trust_verified`), whoever has hashed a file leaves a record beside it, in a hidden folder that no object
can lie in. It holds the sha256, and what the file system said of the file: length, inode, and the times of its last
change of content and of state. The record holds as long as all of that is as it was.

What that catches: a file that was replaced, copied, restored, cut or written to. No process can set the time of the
last change of state (`ctime`). What it does not: a disk that decays in silence (`tierloom verify` reads every byte);
one who may write to the folder and forges a record, who could as well forge the manifest; and one who turns back the
clock of the machine. A file that changed less than two seconds ago gets no record: it could change again within the
same tick of the file system's clock.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

from tierloom.errors import TierloomError
from tierloom.sealed import seal, unseal
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import Count, Sha256

FORMAT: Final = 1
FOLDER: Final = ".verified"

# Linux stamps files with the time of the last tick of its clock, at most 10 ms ago; other systems and file systems over
# networks are coarser.
_COARSE_NS: Final = 2_000_000_000


class Verified(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file as it was when it was hashed to `content`. Times are nanoseconds since 1970."""

    content: Sha256
    bytes: Count
    inode: int
    modified: int
    changed: int
    format: Literal[1] = FORMAT

    def is_of(self, status: os.stat_result) -> bool:
        """Whether the file is as it was."""
        return (self.bytes, self.inode, self.modified, self.changed) == _seen(status)


class VerifiedFiles:
    """The records of the files under `root`. Safe to use from several threads and processes.

    Where no record can be written, because the folder is not ours say, every file is hashed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def sha256_of(self, path: Path) -> str:
        """The sha256 of a file under `root`: as noted, if the file is as it was then; else it is hashed, and noted."""
        before = path.stat()
        if (known := self._read(path)) is not None and known.is_of(before):
            return known.content
        found = sha256_of(path)
        self.note(path, found, before)
        return found

    def note(self, path: Path, sha256: str, before: os.stat_result) -> None:
        """Note the hash of a file that has just been read whole; `before` is its status before that."""
        now = path.stat()
        is_settled = now.st_ctime_ns + _COARSE_NS < time.time_ns()
        if _seen(now) == _seen(before) and is_settled:
            with contextlib.suppress(OSError):
                _replace(self._record(path), seal(Verified(sha256, *_seen(now))))

    def prune(self) -> None:
        """Remove the records of files that are no more."""
        with contextlib.suppress(OSError):
            for record in (self.root / FOLDER).rglob("*.json"):
                if not (self.root / record.relative_to(self.root / FOLDER)).with_suffix("").exists():
                    record.unlink(missing_ok=True)

    def _read(self, path: Path) -> Verified | None:
        record = self._record(path)
        try:
            return unseal(record.read_bytes(), Verified, record.name, FORMAT)
        except (OSError, TierloomError):
            return None

    def _record(self, path: Path) -> Path:
        return self.root / FOLDER / f"{path.relative_to(self.root)}.json"


def _seen(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{secrets.token_hex(8)}")
    try:
        written.write_bytes(data)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
