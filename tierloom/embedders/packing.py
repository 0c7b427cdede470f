"""Packing inputs into requests under the limits of an endpoint."""

from collections.abc import Sequence

from tierloom.checkpoint import Limits


def most_tokens(limits: Limits, at_once: int | None) -> int:
    """The most tokens of a request, of which a minute allows so many `at_once`."""
    return limits.tokens_per_request if at_once is None else min(limits.tokens_per_request, at_once)


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


def pack_by_length(lengths: Sequence[int], max_inputs: int, max_weight: int) -> list[list[int]]:
    """All positions of `lengths` in groups, the longest first.

    Padded to its longest member, a group weighs `max_weight` at most; and it has at most `max_inputs` members. One that
    is longer than that has a group of its own.
    """
    groups: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if room == 0:
            groups.append([])
            room = min(max_inputs, max(1, max_weight // max(1, lengths[position])))
        groups[-1].append(position)
        room -= 1
    return groups
