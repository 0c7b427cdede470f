"""What is known of a batch that was submitted: written before the wait, so that what is paid for is never lost.

A record is planned before anything is sent, names the provider's batch as soon as there is one, and goes when the
vectors lie in vector shards. It lists the inputs by their content, not by their place: whoever wants one of them again,
after whatever stop and however he cuts and groups, finds the batch that has it. The records are found by listing:
what a listing missed would be paid for again, and nothing worse.
"""

from typing import Annotated, Final, Literal

import msgspec

from tierloom import names
from tierloom.checkpoint import Positive
from tierloom.document import CONTENT_HASH_BYTES
from tierloom.errors import NotFound
from tierloom.sealed import read_sealed, seal, unseal
from tierloom.stores.store import Store

FORMAT: Final = 1
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class BatchRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One batch of inputs for the model of `checkpoint`.

    `contents` are the content hashes of its inputs, one after the other; `shards` the digests of the vector shards
    that wait for it; `tokens` bounds what it costs. `attempt` counts how often these inputs were sent. `planned` is in
    seconds since 1970. `batch` and `file` are the provider's names, once it has given them. `cancelled` is noted of a
    batch that somebody cancelled, once that was told.
    """

    checkpoint: str
    attempt: Positive
    contents: bytes
    shards: tuple[str, ...]
    tokens: int
    planned: Seconds
    batch: str | None = None
    file: str | None = None
    cancelled: bool = False
    format: Literal[1] = FORMAT

    def __post_init__(self) -> None:
        if not self.contents or len(self.contents) % CONTENT_HASH_BYTES:
            raise ValueError(f"contents of {len(self.contents)} bytes are no hashes of {CONTENT_HASH_BYTES} bytes each")

    @property
    def inputs(self) -> tuple[bytes, ...]:
        """The content hash of each input, in the order of the batch."""
        width = CONTENT_HASH_BYTES
        return tuple(self.contents[at : at + width] for at in range(0, len(self.contents), width))


class BatchRecords:
    """The records of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def every(self) -> dict[str, BatchRecord]:
        """All records by their digests. Raises `Malformed` or `Corrupt` for one that was edited."""
        digests = [listed.name.removeprefix(names.BATCHES) for listed in self._store.list(names.BATCHES)]
        found = {name.removesuffix(".json"): self.read(name.removesuffix(".json")) for name in digests}
        return {digest: record for digest, record in found.items() if record is not None}

    def read(self, digest: str) -> BatchRecord | None:
        """The record of this digest, if there is one."""
        name = names.batch(digest)
        try:
            return unseal(read_sealed(self._store, name), BatchRecord, name, FORMAT)
        except NotFound:
            return None

    def write(self, digest: str, record: BatchRecord) -> None:
        """Put a record in the place of what was known. Raises `RevisionMismatch` when another run writes it too."""
        name = names.batch(digest)
        known = self._store.read_revision(name)
        self._store.swap(name, seal(record), known[1] if known else None)

    def forget(self, digest: str) -> bool:
        """Remove a record; False when there is none."""
        name = names.batch(digest)
        found = next((listed for listed in self._store.list(name) if listed.name == name), None)
        return found is not None and self._store.remove(found)
