"""The contract of a store: a flat space of named objects, immutable but for compare-and-swap.

A backend implements `Store`; `tests/stores/contract.py` is what it must pass. Names are those that
`tierloom.names` makes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Revision:
    """An opaque mark of one state of one object; equal marks mean the same state."""

    mark: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One object in a listing. `bytes` is its length, `modified` seconds since the epoch: when it was created or
    last renewed. `mark` is opaque: by it `remove` knows whether the object is still as it was listed."""

    name: str
    bytes: int
    modified: float
    mark: str


class Store(Protocol):
    """Named objects in a folder or a bucket. Picklable; safe to use from several threads.

    All methods raise `StoreError` when the backend fails after its own retries, and `ValueError` for a
    name that `tierloom.names.is_safe` refuses.
    """

    @property
    def url(self) -> str:
        """How a user names this store: a folder's path, or `gs://bucket/prefix`."""

    @property
    def local(self) -> bool:
        """Whether its objects are files of this machine, which `fetch` gives as they are."""

    def create(self, name: str, data: bytes) -> None:
        """Store `data` under a new name; nobody ever sees a part of it.

        Creating the same bytes again succeeds, so that a creator whose reply was lost recognises its own
        object; an object that was there is renewed by it. Raises `AlreadyExists` when other bytes have that name.
        """

    def create_from_file(self, name: str, path: Path) -> None:
        """`create` with the bytes of a file, streamed. The file may be moved away or removed by it."""

    def read(self, name: str) -> bytes:
        """The whole object. Raises `NotFound`."""

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` (both in bytes). Raises `NotFound`, or `StoreError` if the
        object ends before."""

    def size(self, name: str) -> int | None:
        """The length of the object in bytes; None when there is no such object."""

    def read_revision(self, name: str) -> tuple[bytes, Revision] | None:
        """An object with the mark to swap against; None when there is no such object."""

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        """Replace the object if it is still at `expected` (None: if it does not exist yet).

        Raises `RevisionMismatch` when it is not; the object is then unchanged by this call.
        """

    def renew(self, name: str) -> bool:
        """Make an object as young as a new one, so that `remove` spares it; False when there is no such object.

        Whoever means to publish an object that it found rather than made renews it first.
        """

    def remove(self, listed: Listed) -> bool:
        """Remove an object if it is still as it was listed; False when it is gone, or was renewed meanwhile.

        For maintenance only. Against `renew`, `create` and `swap` of the same object it is atomic.
        """

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every object whose name starts with `prefix`. For maintenance only: a listing is never truth."""

    def scratch(self) -> Path:
        """An existing folder for files on their way into this store, on the right disk for it."""

    def fetch(self, name: str, folder: Path) -> Path:
        """The object as a local file that can be mapped: its own path if it is local, else a copy made
        whole in `folder`. Raises `NotFound`."""
