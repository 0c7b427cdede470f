"""The manifest: everything that is live in one version of a collection, and where it came from."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from tierloom.checkpoint import Dimensions, Positive
from tierloom.collection import Collection, Fingerprint, Metric
from tierloom.digest import bytes_digest
from tierloom.errors import CheckpointMismatch
from tierloom.gate import Gate
from tierloom.sealed import seal
from tierloom.serving import TierName
from tierloom.stored_object import Count, Sha256, StoredObject

FORMAT: Final = 1

Rows = Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]


class Deletes(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """The dead rows of one vector shard: a serialized 32-bit roaring bitmap of row numbers."""

    rows: Rows


class Footer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The last `bytes` of a Parquet file, from its footer on. A worker that reads a shard by ranges checks it
    before it is parsed: a damaged footer can bring Parquet readers down."""

    bytes: Count
    sha256: Sha256


class VectorShard(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """One Parquet file of chunks; `rows` counts the dead ones too."""

    rows: Rows
    checkpoint: Fingerprint
    footer: Footer
    deletes: Deletes | None = None

    @property
    def live_rows(self) -> int:
        return self.rows - (self.deletes.rows if self.deletes else 0)


def common_checkpoint(shards: Sequence[VectorShard]) -> str:
    """The checkpoint of all these shards (at least one). Raises `CheckpointMismatch` when there are two."""
    first = shards[0]
    for shard in shards:
        if shard.checkpoint != first.checkpoint:
            raise CheckpointMismatch(
                f"{first.path} was made by checkpoint {first.checkpoint}, {shard.path} by {shard.checkpoint}; "
                "vectors of two checkpoints are never put together"
            )
    return first.checkpoint


class Aliases(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """Rows whose code another row has too: little-endian uint64 pairs (indexed key, further key)."""

    pairs: Rows


# usearch makes room for as much, for every search.
Connectivity = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Expansion = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class IndexParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """How a graph was built, and how it is to be searched. `usearch` is the version that wrote it."""

    dimensions: Dimensions
    metric: Metric
    connectivity: Connectivity
    expansion_add: Expansion
    expansion_search: Expansion
    usearch: str


class IndexShard(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """One usearch file over an ordered list of vector shards.

    A key is `position in vector_shards << 32 | row`. `codes` counts the distinct codes in the graph; each
    row is either one of them or in `aliases`.
    """

    tier: TierName
    codes: Rows
    checkpoint: Fingerprint
    vector_shards: tuple[str, ...]
    parameters: IndexParameters
    aliases: Aliases | None = None


class DeadLetters(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """One JSONL file of letters that are still open."""

    letters: Rows


class LedgerPart(StoredObject, frozen=True, forbid_unknown_fields=True, gc=False):
    """One Parquet file of a ledger (`tierloom.ledger`); `noted_until` is when its newest entry was noted, in
    seconds since 1970."""

    entries: Rows
    noted_until: Count


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to where a stream has published its source: a position for each of its partitions.

    `holder` names the stream that moved it last, for people; `moved` is RFC 3339, UTC.
    """

    source: str
    positions: dict[str, int]
    holder: str
    moved: str


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long a deletion is remembered, in seconds; and which versions are kept: the newest `versions`, and
    all that are younger than `versions_seconds`."""

    deletions_seconds: Positive = 90 * 86_400
    versions: Positive = 20
    versions_seconds: Count = 3600


class DocumentCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where every document event went: `documents_in = live + superseded + deleted + dead_lettered`."""

    documents_in: Count = 0
    live: Count = 0
    superseded: Count = 0
    deleted: Count = 0
    dead_lettered: Count = 0

    @property
    def adds_up(self) -> bool:
        return self.documents_in == self.live + self.superseded + self.deleted + self.dead_lettered


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run did. `documents` counts the events of this run alone.

    Live documents were `added`, `changed` to a newer event, or `removed` by a deletion. Chunks are `embedded` by
    the model in this run for `tokens`, `copied` from the vectors of live rows, or `found` in shards that an
    interrupted run had finished.
    """

    run: str
    command: str
    documents: DocumentCounts = DocumentCounts()
    added: Count = 0
    changed: Count = 0
    removed: Count = 0
    embedded_chunks: Count = 0
    copied_chunks: Count = 0
    found_chunks: Count = 0
    dead_letters: Count = 0
    tokens: Count = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version. `documents` counts events over the whole history up to it; `created` is RFC 3339, UTC.

    `parent` is the sha256 of the manifest before it: versions are a chain. `tombstones` and `files` are ledgers:
    the deletions that are remembered, and the files of sources as they were when they were read. `gate` is None while
    nothing is live.
    """

    version: Count
    created: str
    parent: Sha256 | None
    writer: str
    collection: Collection
    run: RunRecord
    vector_shards: tuple[VectorShard, ...] = ()
    index_shards: tuple[IndexShard, ...] = ()
    dead_letters: tuple[DeadLetters, ...] = ()
    documents: DocumentCounts = DocumentCounts()
    tombstones: tuple[LedgerPart, ...] = ()
    files: tuple[LedgerPart, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    retention: Retention = Retention()
    gate: Gate | None = None
    format: Literal[1] = FORMAT

    @property
    def live_chunks(self) -> int:
        return sum(shard.live_rows for shard in self.vector_shards)

    def index_shards_of(self, tier: str) -> tuple[IndexShard, ...]:
        return tuple(shard for shard in self.index_shards if shard.tier == tier)

    def objects(self) -> tuple[StoredObject, ...]:
        """Every object that this version names, but for the checkpoint."""
        deletes = tuple(shard.deletes for shard in self.vector_shards if shard.deletes)
        aliases = tuple(shard.aliases for shard in self.index_shards if shard.aliases)
        ledgers = (*self.tombstones, *self.files)
        measured = tuple(filter(None, (self.gate.sample, self.gate.answers))) if self.gate else ()
        return (*self.vector_shards, *deletes, *self.index_shards, *aliases, *self.dead_letters, *ledgers, *measured)

    def cursor_of(self, source: str) -> Cursor | None:
        """Up to where this source is published; None if no stream published any of it."""
        return next((cursor for cursor in self.cursors if cursor.source == source), None)

    def digest(self) -> str:
        """The sha256 of its bytes: what its successor states as `parent`."""
        return bytes_digest(self.to_bytes())

    def to_bytes(self) -> bytes:
        return seal(self)
