"""The receipt of an erasure: what was rewritten and removed, and what was looked through afterwards."""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Store

FORMAT: Final = 1
# It lists all that was looked into.
LONGEST: Final = 64 << 20


class ErasedDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document by the hash of its id (`tierloom.document.document_hash`, in hexadecimal); `found` tells if anything
    in the store was about it. It is deleted at `sequence`; None if nothing ever had one."""

    hash: str
    found: bool
    sequence: int | None


class Rewritten(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object that held a document, and what took its place; nothing, where nothing was left of it."""

    path: str
    into: str | None
    sha256: str | None


class Removed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object that is no more. Its name is a digest, or a number."""

    path: str
    bytes: Count


class Scanned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object that was looked into."""

    path: str
    bytes: Count
    sha256: str


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an erasure did, and what is true since `version` was the newest.

    `rebuilt` are the index shards that took the place of others. `retired` versions and `removed` objects are gone.
    The documents are in none of the `scanned` objects: in vector shards every id was compared, as in dead letters and
    in the ledger of files. Index shards and what goes with them were rebuilt or removed with the vector shards that
    they were made of. `mentioning` objects have the characters of an id in them, but not as what they are about.
    `remaining` objects hold a document still, and of `unproven` ones nobody could tell: somebody was at work on them,
    and another erasure will find them. `complete` is without both.
    """

    run: str
    created: str
    writer: str
    version: Count
    documents: tuple[ErasedDocument, ...]
    rewritten: tuple[Rewritten, ...]
    rebuilt: tuple[str, ...]
    retired: tuple[Count, ...]
    removed: tuple[Removed, ...]
    scanned: tuple[Scanned, ...]
    mentioning: tuple[str, ...]
    unproven: tuple[str, ...]
    remaining: tuple[str, ...]
    format: Literal[1] = FORMAT

    @property
    def complete(self) -> bool:
        return not (self.unproven or self.remaining)


def store_receipt(receipt: Receipt, store: Store) -> None:
    store.create(names.erasure(receipt.run), seal(receipt, LONGEST))


def read_receipts(store: Store) -> Iterator[Receipt]:
    """Every receipt that there is. Raises `Corrupt` or `Malformed`."""
    for listed in store.list(names.ERASURES):
        yield unseal(store.read(listed.name), Receipt, listed.name, FORMAT, LONGEST)
