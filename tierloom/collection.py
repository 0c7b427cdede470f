"""A collection: what `init` fixes for good, so that no later command repeats or contradicts it."""

from typing import Annotated, Final, Literal

import msgspec

from tierloom.checkpoint import Checkpoint, Dimensions, Positive
from tierloom.errors import CheckpointError
from tierloom.gate import DEFAULT_FLOOR, Share
from tierloom.serving import Serving, TierName

TierKind = Literal["int8", "binary"]
Fingerprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One serving prefix, how it is coded, and the parameters of its graphs (usearch's names).

    An `int8` code is the stored prefix, compared by its cosine; a `binary` one the sign of each of its components
    (1 where it is positive), compared by the Hamming distance.
    """

    name: TierName
    dimensions: Dimensions
    kind: TierKind = "int8"
    connectivity: Positive = 16
    expansion_add: Positive = 128
    expansion_search: Positive = 128

    @property
    def metric(self) -> Literal["cos", "hamming"]:
        """What usearch calls the distance of its codes."""
        return "cos" if self.kind == "int8" else "hamming"


class Chunking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How documents are cut: at most `max_tokens` a chunk, `overlap_tokens` of them shared with the one before."""

    max_tokens: Positive = 512
    overlap_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0


SHARDS_IN_FLIGHT: Final = 4


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of the artifacts. At most `block_chunks` are in flight in a worker, paid and not yet stored: what a crash
    may cost."""

    block_chunks: Positive = 4096
    vector_shard_rows: Positive = 131_072
    index_shard_rows: Positive = 1_048_576

    @property
    def small_shard_rows(self) -> int:
        """What is embedded together. While one small shard is stored, the requests of the next ones are under way."""
        return -(-self.block_chunks // SHARDS_IN_FLIGHT)


class Collection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`prefix_dimensions` is the length of the stored int8 prefix: that of the largest tier there ever was.

    `recall_floor` is the share of the exact answers that each tier must find after reranking to be published.
    """

    checkpoint: Fingerprint
    prefix_dimensions: Dimensions
    tiers: Annotated[tuple[Tier, ...], msgspec.Meta(min_length=1)]
    chunking: Chunking = Chunking()
    sizes: Sizes = Sizes()
    untrained_prefixes: bool = False
    recall_floor: Share = DEFAULT_FLOOR
    serving: Serving = Serving()

    def tier(self, name: int | str) -> Tier:
        """The tier of this name; a number is that of an int8 tier of so many dimensions. Raises `CheckpointError` that
        lists those there are."""
        for tier in self.tiers:
            if tier.name == str(name):
                return tier
        known = ", ".join(tier.name for tier in self.tiers)
        raise CheckpointError(f"this collection has no tier {name}; it has {known}")


def plan_tiers(
    checkpoint: Checkpoint,
    dimensions: tuple[int, ...],
    untrained_prefixes: bool,
    connectivity: int = 16,
    expansion_add: int = 128,
    expansion_search: int = 128,
) -> tuple[Tier, ...]:
    """Tiers of these dimensions, smallest first.

    Raises `CheckpointError` when one lies beyond the native dimensions, is named twice, or is not among the
    trained prefixes and `untrained_prefixes` was not chosen.
    """
    _refuse_unfit(checkpoint, dimensions, untrained_prefixes)
    return tuple(
        Tier(
            name=str(d),
            dimensions=d,
            connectivity=connectivity,
            expansion_add=expansion_add,
            expansion_search=expansion_search,
        )
        for d in sorted(dimensions)
    )


def _refuse_unfit(checkpoint: Checkpoint, dimensions: tuple[int, ...], untrained_prefixes: bool) -> None:
    space = checkpoint.space
    if not dimensions or len(set(dimensions)) != len(dimensions) or min(dimensions) < 1:
        raise CheckpointError(f"tiers {list(dimensions)}: name each tier's dimensions once, each at least 1")
    if too_large := [d for d in dimensions if d > space.dimensions]:
        raise CheckpointError(f"tiers {too_large} lie beyond the {space.dimensions} dimensions of {space.model}")
    untrained = [d for d in dimensions if d not in space.trained_prefixes and d != space.dimensions]
    if untrained and not untrained_prefixes:
        raise CheckpointError(
            f"{space.model} was trained for prefixes of {list(space.trained_prefixes)} dimensions, not {untrained}; "
            "choose among those, or accept what such tiers lose with --untrained-prefixes"
        )
