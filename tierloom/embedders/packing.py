"""Packing inputs into requests under the limits of an endpoint."""

from collections.abc import Sequence


def pack(weights: Sequence[int], max_inputs: int, max_weight: int) -> list[range]:
    """Consecutive ranges of positions that cover `weights` in order.

    Each range holds at most `max_inputs` positions whose weights sum to at most `max_weight`; a position that
    is heavier alone has a range of its own. No packing that keeps the order needs fewer ranges.
    """
    ranges: list[range] = []
    start, held = 0, 0
    for position, weight in enumerate(weights):
        if position > start and (position - start == max_inputs or held + weight > max_weight):
            ranges.append(range(start, position))
            start, held = position, 0
        held += weight
    if weights:
        ranges.append(range(start, len(weights)))
    return ranges
