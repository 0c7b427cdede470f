"""What a block's shard says of its own making, so that a restarted run can account for it without a model."""

from dataclasses import dataclass

import msgspec

from tierloom.dead_letter import DeadLetter
from tierloom.errors import Malformed
from tierloom.shards.mapped import MappedShard

_NAME = "tierloom.block"


@dataclass(frozen=True, slots=True)
class BlockNotes:
    """Chunks embedded and copied, tokens paid, and the letters of the chunks that have no row."""

    embedded: int
    copied: int
    tokens: int
    letters: tuple[DeadLetter, ...]

    def to_metadata(self) -> dict[str, str]:
        return {_NAME: msgspec.json.encode(self).decode()}

    @classmethod
    def of(cls, shard: MappedShard) -> "BlockNotes":
        """Raises `Malformed` when the shard has none: it is not a block's."""
        try:
            return msgspec.convert(shard.notes(_NAME), cls, strict=True)
        except msgspec.ValidationError as error:
            raise Malformed(f"{shard.name}: not the shard of a block: {error}") from error
