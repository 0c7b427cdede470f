"""Which prefixes are worth a look."""

from typing import Final

from tierloom.checkpoint import Space

# Smaller ones serve nobody, and are found by chance.
SMALLEST: Final = 32


def probed_sizes(space: Space) -> tuple[int, ...]:
    """Trained prefixes and powers of two, from `SMALLEST` up to below the native dimensions, ascending."""
    powers = {1 << bits for bits in range(SMALLEST.bit_length() - 1, space.dimensions.bit_length())}
    return tuple(sorted(d for d in {*powers, *space.trained_prefixes} if d < space.dimensions))
