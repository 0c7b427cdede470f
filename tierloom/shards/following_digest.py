"""The sha256 of a file while it is written, by a thread that follows the writer: hashing takes no time of its own."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final

_READ_BYTES: Final = 1 << 20


class FollowingDigest:
    """Hashes a file that only grows. A context manager; hashing and reading release the interpreter's lock."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sha256")

    def follow(self) -> Future[None]:
        """Hash, soon, what has been written by then."""
        return self._thread.submit(self._catch_up)

    def hexdigest(self) -> str:
        """The hash of all that is written by now, in hexadecimal."""
        self.follow().result()
        return self._sha256.hexdigest()

    def __enter__(self) -> "FollowingDigest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._file.close()

    def _catch_up(self) -> None:
        while block := self._file.read(_READ_BYTES):
            self._sha256.update(block)
