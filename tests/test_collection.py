import pytest

from tests.small_shards import CHECKPOINT, collection_of
from tierloom.collection import plan_tiers
from tierloom.errors import CheckpointError


def test_tiers_are_sorted_and_named_by_their_dimensions() -> None:
    tiers = plan_tiers(CHECKPOINT, (16, 4, 8), untrained_prefixes=False, connectivity=8)
    assert [(tier.name, tier.dimensions, tier.connectivity) for tier in tiers] == [
        ("4", 4, 8),
        ("8", 8, 8),
        ("16", 16, 8),
    ]


def test_the_native_dimensions_need_no_training() -> None:
    assert plan_tiers(CHECKPOINT, (32,), untrained_prefixes=False)[0].dimensions == 32


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        ((), "at least 1"),
        ((0, 4), "at least 1"),
        ((-4,), "at least 1"),
        ((4, 4), "once"),
        ((4, 33), r"\[33\] lie beyond the 32"),
        ((4, 5, 6), r"not \[5, 6\].*--untrained-prefixes"),
    ],
)
def test_tiers_that_the_model_does_not_serve_are_refused(dimensions: tuple[int, ...], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        plan_tiers(CHECKPOINT, dimensions, untrained_prefixes=False)


def test_untrained_prefixes_may_be_chosen_but_not_invented() -> None:
    assert [tier.dimensions for tier in plan_tiers(CHECKPOINT, (6, 5), untrained_prefixes=True)] == [5, 6]
    with pytest.raises(CheckpointError, match="33"):
        plan_tiers(CHECKPOINT, (33,), untrained_prefixes=True)


def test_a_tier_that_is_not_there_is_refused_with_those_that_are() -> None:
    collection = collection_of(tiers=(4, 8))
    assert collection.tier(8).name == "8"
    with pytest.raises(CheckpointError, match="no tier 64; it has 4, 8"):
        collection.tier(64)
