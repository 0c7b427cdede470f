"""A small value that all threads and processes of a machine change, one after the other."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

# Written whole, in one call: whoever is killed leaves the value as it was before, or after.
_BYTES: Final = 512


class SharedValue(Generic[T]):
    """A value in a file under a lock; without a file, one that only the threads of this process share."""

    def __init__(self, kind: type[T], path: Path | None = None) -> None:
        """`kind` has a default for each member. Made where it is not there: the folder too."""
        self._kind = kind
        self._value = kind()
        self._lock = threading.Lock()
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def changing(self) -> Iterator[T]:
        """The value, for nobody else to see until the block ends. A block that raises changes nothing in a file."""
        with self._lock:
            if self._file is None:
                yield self._value
                return
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                value = self._read(self._file)
                yield value
                os.pwrite(self._file, msgspec.json.encode(value).ljust(_BYTES), 0)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _read(self, file: int) -> T:
        data = os.pread(file, _BYTES, 0)
        return msgspec.json.decode(data, type=self._kind) if data else self._kind()
