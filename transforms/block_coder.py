"""How Beam carries blocks: pickled where a runner must, and never pickled only to be weighed.

For its statistics, Beam encodes the first ten elements of every step, and about seven of each doubling after that
(apache_beam/runners/worker/opcounters.py). An element here is megabytes: unless a coder reckons their size, that
alone takes a third of an ingest.
"""

import pickle
from typing import Final, Protocol

from apache_beam import coders

from transforms.elements import ChunkBlock, DocumentBlock, EventBlock, QuantizedBlock, VectorBlock
from transforms.embed import EmbeddedBlock

_KINDS: Final = (EventBlock, DocumentBlock, ChunkBlock, VectorBlock, EmbeddedBlock, QuantizedBlock)


class Block(Protocol):
    """What flows through the fused stage."""

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""


class BlockCoder(coders.Coder):
    """Pickles blocks."""

    def encode(self, value: Block) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Block:
        block: Block = pickle.loads(encoded)
        return block

    def estimate_size(self, value: Block) -> int:
        return value.weight

    def is_deterministic(self) -> bool:
        return False


def register_block_coder() -> None:
    """Let every pipeline that is made in this process carry blocks by `BlockCoder`."""
    for kind in _KINDS:
        coders.registry.register_coder(kind, BlockCoder)
