"""What flows between the steps: blocks inside the fused stage, small receipts across a shuffle."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom.dead_letter import DeadLetter
from tierloom.digest import bytes_digest, digest_of
from tierloom.document import Chunk, Deletion, Document
from tierloom.manifest import VectorShard


class Place(NamedTuple):
    """Where a block stands in the input, so that what is made of it has an order: split, block, part."""

    split: int
    block: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of events before anything was embedded. `read` counts documents, deletions and unreadable records;
    `known_deleted` are deletions that were remembered already."""

    read: int = 0
    unchanged: int = 0
    superseded: int = 0
    known_dead: int = 0
    known_deleted: int = 0
    bytes: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Consecutive documents and deletions of one split."""

    place: Place
    events: tuple[Document | Deletion, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return sum(len(event.text) for event in self.events if isinstance(event, Document))


@dataclass(frozen=True, slots=True)
class DocumentBlock:
    """The documents of an event block that are new or changed."""

    place: Place
    documents: tuple[Document, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return sum(len(document.text) for document in self.documents)


@dataclass(frozen=True, slots=True)
class ChunkBlock:
    """The chunks of one vector shard to be. `draft` is what to find the shards of the same work by that a run made
    before some of it changed (`transforms.drafts`)."""

    place: Place
    chunks: tuple[Chunk, ...]
    draft: str | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return _weight(self.chunks)

    def digest(self, checkpoint: str, prefix_dimensions: int) -> str:
        """Names the shard by everything that goes into it."""
        rows = [
            (c.document_id, c.ordinal, c.sequence, c.heading, c.text, c.metadata, c.model_input) for c in self.chunks
        ]
        # MessagePack, because canonical JSON of so much text takes eight times as long.
        return digest_of("block", checkpoint, prefix_dimensions, bytes_digest(msgspec.msgpack.encode(rows)))


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """Chunks with their vectors: float16 (n, D), unit length.

    Of the n, `copied` took theirs from live rows; the others cost `tokens`. In a block on its way to the model,
    `missing` has the positions in `chunks` that have no vector yet.
    """

    place: Place
    digest: str
    chunks: tuple[Chunk, ...]
    vectors: NDArray[np.float16]
    missing: NDArray[np.int64]
    copied: int = 0
    tokens: int = 0

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return _weight(self.chunks) + self.vectors.nbytes


@dataclass(frozen=True, slots=True)
class QuantizedBlock:
    """A vector block with its nested int8 prefixes (n, P), and the letters of the chunks it lost."""

    block: VectorBlock
    letters: tuple[DeadLetter, ...]
    prefixes: NDArray[np.int8]

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        return self.block.weight + self.prefixes.nbytes


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """A stored vector shard of this run: all that crosses a shuffle.

    `found` tells that it was there already: an earlier run that did not get to publish paid for it.
    """

    place: Place
    shard: VectorShard
    embedded: int
    copied: int
    tokens: int
    found: bool


def _weight(chunks: Sequence[Chunk]) -> int:
    return sum(len(chunk.text) + len(chunk.model_input) for chunk in chunks)
