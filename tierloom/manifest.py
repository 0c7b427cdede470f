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
    interrupted run had finished. The canary that each request carries is among the `tokens`; those that were asked
    before the run began took `canary_tokens` besides. `left_documents` are not among those counted: the run's cap left
    them to the next one.
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
    canary_tokens: Count = 0
    left_documents: Count = 0


# Keys of documents (64-bit hashes) are told by their upper half.
KEY_UNITS: Final = 1 << 32
Reached = Annotated[int, msgspec.Meta(ge=0, le=KEY_UNITS)]


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole corpus under one checkpoint.

    `documents` counts events over the history of the generation, `run` is what the run of this version did in it.
    `gate` is None while nothing is live, or while it is being built. Of a generation that is being built from another
    one, the documents whose keys' upper halves lie below `reached` are there; at 2**32 it is complete.
    """

    collection: Collection
    run: RunRecord
    vector_shards: tuple[VectorShard, ...] = ()
    index_shards: tuple[IndexShard, ...] = ()
    dead_letters: tuple[DeadLetters, ...] = ()
    documents: DocumentCounts = DocumentCounts()
    gate: Gate | None = None
    reached: Reached = KEY_UNITS

    @property
    def checkpoint(self) -> str:
        """The fingerprint of its checkpoint."""
        return self.collection.checkpoint

    @property
    def is_complete(self) -> bool:
        return self.reached == KEY_UNITS

    @property
    def live_chunks(self) -> int:
        return sum(shard.live_rows for shard in self.vector_shards)

    def index_shards_of(self, tier: str) -> tuple[IndexShard, ...]:
        return tuple(shard for shard in self.index_shards if shard.tier == tier)

    def own_objects(self) -> tuple[StoredObject, ...]:
        """Every object that this generation alone names, but for the checkpoint."""
        deletes = tuple(shard.deletes for shard in self.vector_shards if shard.deletes)
        aliases = tuple(shard.aliases for shard in self.index_shards if shard.aliases)
        measured = tuple(filter(None, (self.gate.sample, self.gate.answers))) if self.gate else ()
        return (*self.vector_shards, *deletes, *self.index_shards, *aliases, *self.dead_letters, *measured)


_OF_A_GENERATION: Final = Generation.__struct_fields__


class Manifest(Generation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version: the generation that serves, perhaps an `other` one, and what they share. `created` is RFC 3339, UTC.

    `parent` is the sha256 of the manifest before it: versions are a chain. `tombstones` and `files` are ledgers:
    the deletions that are remembered, and the files of sources as they were when they were read.
    """

    version: Count
    created: str
    parent: Sha256 | None
    writer: str
    tombstones: tuple[LedgerPart, ...] = ()
    files: tuple[LedgerPart, ...] = ()
    cursors: tuple[Cursor, ...] = ()
    retention: Retention = Retention()
    other: Generation | None = None
    format: Literal[1] = FORMAT

    @property
    def generations(self) -> tuple["Manifest", ...]:
        """This version as each of its generations has it: itself first."""
        return (self, self.turned(self.other)) if self.other else (self,)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The fingerprints of its generations, that of the one that serves first."""
        return tuple(generation.checkpoint for generation in self.generations)

    @property
    def own(self) -> Generation:
        """The generation in front, by itself."""
        return Generation(**{name: getattr(self, name) for name in _OF_A_GENERATION})

    def turned(self, other: Generation) -> "Manifest":
        """This version with the `other` generation in front of its own."""
        members = {name: getattr(other, name) for name in _OF_A_GENERATION}
        return msgspec.structs.replace(self, other=self.own, **members)

    def of(self, checkpoint: str | None) -> "Manifest":
        """This version with the generation of a checkpoint (a fingerprint) in front; None is the one that serves.

        Raises `CheckpointMismatch` when it has none such.
        """
        for generation in self.generations:
            if checkpoint in (None, generation.checkpoint):
                return generation
        there = " and ".join(self.checkpoints)
        raise CheckpointMismatch(f"version {self.version} has nothing of checkpoint {checkpoint}; it has {there}")

    def with_generation(self, generation: Generation) -> "Manifest":
        """This version with a generation in the place of the one of the same checkpoint, wherever that is.

        Raises `CheckpointMismatch` when it has none such.
        """
        members = {name: getattr(generation, name) for name in _OF_A_GENERATION}
        return msgspec.structs.replace(self.of(generation.checkpoint), **members).of(self.checkpoint)

    def objects(self) -> tuple[StoredObject, ...]:
        """Every object that this version names, but for the checkpoints."""
        own = self.own_objects() + (self.other.own_objects() if self.other else ())
        return (*own, *self.tombstones, *self.files)

    @property
    def left_documents(self) -> int:
        """How many documents the run of this version left at its cap, over all generations."""
        runs = (generation.run for generation in self.generations)
        return sum(run.left_documents for run in runs if run.run == self.run.run)

    def cursor_of(self, source: str) -> Cursor | None:
        """Up to where this source is published; None if no stream published any of it."""
        return next((cursor for cursor in self.cursors if cursor.source == source), None)

    def digest(self) -> str:
        """The sha256 of its bytes: what its successor states as `parent`."""
        return bytes_digest(self.to_bytes())

    def to_bytes(self) -> bytes:
        return seal(self)
