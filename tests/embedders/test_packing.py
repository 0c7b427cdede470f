"""Packing against a brute-force oracle."""

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tierloom.embedders.packing import pack, pack_by_length

weights_lists = st.lists(st.integers(0, 12), max_size=9)


def fewest_parts(weights: list[int], max_inputs: int, max_weight: int) -> int:
    """Try every way to cut the list."""

    def fits(part: list[int]) -> bool:
        return len(part) == 1 or (len(part) <= max_inputs and sum(part) <= max_weight)

    places = range(1, len(weights))
    for cuts in range(len(weights)):
        for chosen in combinations(places, cuts):
            edges = [0, *chosen, len(weights)]
            if all(fits(weights[a:b]) for a, b in pairwise(edges)):
                return cuts + 1
    return 0


@given(weights_lists, st.integers(1, 5), st.integers(1, 15))
def test_ranges_cover_in_order_keep_the_limits_and_are_the_fewest(
    weights: list[int], max_inputs: int, max_weight: int
) -> None:
    ranges = pack(weights, max_inputs, max_weight)
    assert [position for r in ranges for position in r] == list(range(len(weights)))
    for r in ranges:
        assert len(r) <= max_inputs
        assert len(r) == 1 or sum(weights[i] for i in r) <= max_weight
    assert len(ranges) == fewest_parts(weights, max_inputs, max_weight)


def test_nothing_packs_into_nothing() -> None:
    assert pack([], 3, 10) == []


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 5), st.integers(1, 60))
def test_groups_by_length_hold_all_and_keep_the_padded_limits(
    lengths: list[int], max_inputs: int, max_weight: int
) -> None:
    groups = pack_by_length(lengths, max_inputs, max_weight)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[position] for position in group)
        assert len(group) == 1 or (len(group) <= max_inputs and len(group) * longest <= max_weight)
    # Nothing in a group is longer than anything in the one before: that is what keeps the padding small.
    for before, after in pairwise(groups):
        assert min(lengths[position] for position in before) >= max(lengths[position] for position in after)
