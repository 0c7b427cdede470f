"""Which tiers are tried: what the corpus could be served at."""

from collections.abc import Sequence
from typing import Final

from tierloom.collection import Tier

CONNECTIVITIES: Final = (16, 8)
_BITS: Final = 8


def candidate_tiers(dimensions: Sequence[int]) -> list[Tier]:
    """Int8 and binary tiers of these dimensions, at each connectivity; those that are likely to be chosen first.

    The usual connectivity comes first, and of each the small sizes: they are built soonest.
    """
    return [
        _tier(d, kind == "binary", connectivity)
        for connectivity in CONNECTIVITIES
        for d in sorted(dimensions)
        for kind in ("int8", "binary")
        if kind == "int8" or d % _BITS == 0
    ]


def _tier(dimensions: int, binary: bool, connectivity: int) -> Tier:
    name = f"{dimensions}-binary" if binary else str(dimensions)
    return Tier(name, dimensions, "binary" if binary else "int8", connectivity=connectivity)
