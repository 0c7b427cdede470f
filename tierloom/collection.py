"""A collection: what `init` fixes for good, so that no later command repeats or contradicts it."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from tierloom.checkpoint import Checkpoint, Dimensions, Positive
from tierloom.errors import CheckpointError
from tierloom.gate import DEFAULT_FLOOR, Share
from tierloom.serving import Serving, TierName

TierKind = Literal["int8", "binary"]
Metric = Literal["cos", "hamming"]
# So short that no number is too long to be read.
_TIER_NAME: Final = re.compile(r"(?P<dimensions>[1-9][0-9]{0,8})(?P<binary>-binary)?")
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
    def metric(self) -> Metric:
        """What usearch calls the distance of its codes."""
        return "cos" if self.kind == "int8" else "hamming"


class Chunking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How documents are cut: at most `max_tokens` a chunk, `overlap_tokens` of them shared with the one before.

    Tokens are those of `tokenizer`, or of the checkpoint's own where that is None: a collection that moves to another
    model goes on to cut as it did.
    """

    max_tokens: Positive = 512
    overlap_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    tokenizer: str | None = None

    def as_cut_by(self, checkpoint: Checkpoint) -> "Chunking":
        """The same with its tokenizer named: equal for all that cut alike."""
        return msgspec.structs.replace(self, tokenizer=self.tokenizer or checkpoint.tokenizer)


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
    names: Sequence[int | str],
    untrained_prefixes: bool,
    connectivity: int = 16,
    expansion_add: int = 128,
    expansion_search: int = 128,
) -> tuple[Tier, ...]:
    """Tiers of these names (`64`, `"256-binary"`), in the order of `tier_order`.

    Raises `CheckpointError` when a name is none, or is there twice; when a tier lies beyond the native dimensions,
    or is not among the trained prefixes and `untrained_prefixes` was not chosen; when the signs of a binary one do
    not fill whole bytes.
    """
    tiers = [
        Tier(
            name=str(name),
            dimensions=dimensions,
            kind=kind,
            connectivity=connectivity,
            expansion_add=expansion_add,
            expansion_search=expansion_search,
        )
        for name in names
        for dimensions, kind in (parse_tier_name(str(name)),)
    ]
    _refuse_unfit(checkpoint, tiers, untrained_prefixes)
    return tuple(sorted(tiers, key=tier_order))


def is_tier_name(name: str) -> bool:
    """Whether a name says dimensions and a kind."""
    return _TIER_NAME.fullmatch(name) is not None


def parse_tier_name(name: str) -> tuple[int, TierKind]:
    """The dimensions and the kind that a tier's name says. Raises `CheckpointError` if it says none."""
    if (said := _TIER_NAME.fullmatch(name)) is None:
        raise CheckpointError(
            f"tier {name!r} is none; write its dimensions, at least 1, such as 64, or 256-binary for one bit of each"
        )
    return int(said["dimensions"]), "binary" if said["binary"] else "int8"


def tier_order(tier: Tier) -> tuple[int, TierKind]:
    """Fewer dimensions come first; of as many, the binary tier, which is the smaller one."""
    return tier.dimensions, tier.kind


def _refuse_unfit(checkpoint: Checkpoint, tiers: Sequence[Tier], untrained_prefixes: bool) -> None:
    space, names = checkpoint.space, [tier.name for tier in tiers]
    if not names or len(set(names)) != len(names):
        raise CheckpointError(f"tiers {', '.join(names) or '(none)'}: name each tier once, and at least one")
    if too_large := sorted({tier.dimensions for tier in tiers if tier.dimensions > space.dimensions}):
        raise CheckpointError(f"tiers {too_large} lie beyond the {space.dimensions} dimensions of {space.model}")
    if ragged := [tier.name for tier in tiers if tier.kind == "binary" and tier.dimensions % 8]:
        raise CheckpointError(
            f"tiers {', '.join(ragged)}: a binary tier packs eight dimensions into a byte; choose a multiple of 8"
        )
    trained = {*space.trained_prefixes, space.dimensions}
    untrained = sorted({tier.dimensions for tier in tiers} - trained)
    if untrained and not untrained_prefixes:
        raise CheckpointError(
            f"{space.model} was trained for prefixes of {list(space.trained_prefixes)} dimensions, not {untrained}; "
            "choose among those, or accept what such tiers lose with --untrained-prefixes"
        )
