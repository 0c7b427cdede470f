"""The Pareto front against its definition, and what is chosen within a budget or for a floor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.advising.choosing import Wish, choose, largest_shortlist, pareto_front
from index_builder.advising.measuring import Option
from tierloom.collection import Tier
from tierloom.gate import Estimate


def option(
    held: float, milliseconds: float, recall: float, dimensions: int = 64, half: float = 0.0, k: int = 100
) -> Option:
    estimate = Estimate(recall, max(0.0, recall - half), min(1.0, recall + half))
    return Option(Tier(str(dimensions), dimensions), k, estimate, held, milliseconds)


few = st.sampled_from([1.0, 2.0, 3.0, 4.0])
options = st.lists(st.builds(option, few, few, st.sampled_from([0.2, 0.5, 0.8, 0.9])), max_size=12)


def costs(one: Option) -> tuple[float, float, float]:
    return one.bytes_per_vector, one.milliseconds, 1 - one.recall.mean


def beats(one: Option, other: Option) -> bool:
    pairs = list(zip(costs(one), costs(other), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(options)
def test_nothing_beats_what_is_on_the_front_and_something_on_it_beats_the_rest(given_options: list[Option]) -> None:
    front = pareto_front(given_options)
    assert len(front) == len(given_options)
    on_it = [one for one, is_on in zip(given_options, front, strict=True) if is_on]
    for one, is_on in zip(given_options, front, strict=True):
        assert is_on != any(beats(other, one) for other in on_it)
        assert is_on != any(beats(other, one) for other in given_options)


@given(options, st.sampled_from([0.3, 0.85]), st.sampled_from([None, 150, 350]))
def test_the_choice_is_on_the_front_of_what_may_be_had(
    given_options: list[Option], floor: float, memory: int | None
) -> None:
    chosen = choose(given_options, Wish(floor, memory), sample=100, rows=100, stored=64)
    allowed = [one for one in given_options if memory is None or one.bytes_per_vector * 100 <= memory]
    if chosen is None:
        assert not allowed
        return
    assert chosen in allowed
    sound = [one for one in allowed if one.recall.low >= floor]
    if sound:
        best = min(one.milliseconds if memory else one.bytes_per_vector for one in sound)
        assert (chosen.milliseconds if memory else chosen.bytes_per_vector) == best
        assert chosen.recall.low >= floor
    else:
        assert chosen.recall.mean == max(one.recall.mean for one in allowed)


def test_a_recall_that_may_be_luck_is_no_recall() -> None:
    lucky, sure = option(1, 1, 0.96, half=0.02), option(2, 2, 0.96, half=0.005)
    assert choose([lucky, sure], Wish(0.95), 1, 1, 64) is sure


@pytest.mark.parametrize("memory", [None, 10**9])
def test_what_the_collection_cannot_have_is_not_chosen(memory: int | None) -> None:
    beyond, within = option(1, 1, 0.99, dimensions=128), option(9, 9, 0.97, dimensions=64)
    assert choose([beyond, within], Wish(0.95, memory), 1, 1, 64) is within
    assert choose([beyond], Wish(0.95, memory), 1, 1, 64) is None


def test_what_might_need_too_long_a_shortlist_at_full_size_comes_last() -> None:
    small, safe = option(1, 1, 0.99, k=500), option(2, 2, 0.99, k=100)
    assert largest_shortlist(small, 1000, 3001) == 1501
    assert choose([small, safe], Wish(0.95), 1000, 1000, 64) is small
    assert choose([small, safe], Wish(0.95), 1000, 3001, 64) is safe
    assert choose([small], Wish(0.95), 1000, 3001, 64) is small
