import pytest

from tests.small_shards import CHECKPOINT, collection_of
from tierloom.collection import parse_tier_name, plan_tiers
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
    ("names", "said"),
    [
        ((), "at least one"),
        ((0, 4), "tier '0' is none; write its dimensions, at least 1"),
        ((-4,), "tier '-4' is none"),
        (("4 ",), "tier '4 ' is none"),
        (("08",), "tier '08' is none"),
        (("٨",), "tier '٨' is none"),
        (("",), "tier '' is none"),
        (("binary",), "tier 'binary' is none; .* such as 64, or 256-binary"),
        (("8-int8",), "tier '8-int8' is none"),
        (("9" * 5000,), "tier '9+' is none"),
        ((4, 4), "tiers 4, 4: name each tier once"),
        (("8-binary", "4", "8-binary"), "tiers 8-binary, 4, 8-binary: name each tier once"),
        ((4, 33), r"\[33\] lie beyond the 32"),
        (("40-binary",), r"\[40\] lie beyond the 32"),
        ((4, 5, 6), r"not \[5, 6\].*--untrained-prefixes"),
        (("24-binary",), r"not \[24\].*--untrained-prefixes"),
        (("4-binary",), "tiers 4-binary: a binary tier packs eight dimensions into a byte; choose a multiple of 8"),
    ],
)
def test_tiers_that_the_model_does_not_serve_are_refused(names: tuple[int | str, ...], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        plan_tiers(CHECKPOINT, names, untrained_prefixes=False)


def test_a_binary_tier_comes_before_the_int8_tier_of_its_dimensions() -> None:
    tiers = plan_tiers(CHECKPOINT, ("16", "32-binary", 8, "16-binary", "8-binary"), untrained_prefixes=False)
    assert [tier.name for tier in tiers] == ["8-binary", "8", "16-binary", "16", "32-binary"]
    assert [(tier.dimensions, tier.kind, tier.metric) for tier in tiers[:2]] == [
        (8, "binary", "hamming"),
        (8, "int8", "cos"),
    ]
    assert all(parse_tier_name(tier.name) == (tier.dimensions, tier.kind) for tier in tiers)


def test_untrained_prefixes_may_be_chosen_but_not_invented() -> None:
    assert [tier.dimensions for tier in plan_tiers(CHECKPOINT, (6, 5), untrained_prefixes=True)] == [5, 6]
    with pytest.raises(CheckpointError, match="33"):
        plan_tiers(CHECKPOINT, (33,), untrained_prefixes=True)


def test_a_tier_that_is_not_there_is_refused_with_those_that_are() -> None:
    collection = collection_of(tiers=(4, 8, "16-binary"))
    assert collection.tier(8).name == collection.tier("8").name == "8"
    assert collection.tier("16-binary").kind == "binary"
    for name in (64, 16, "8-binary"):
        with pytest.raises(CheckpointError, match=f"no tier {name}; it has 4, 8, 16-binary"):
            collection.tier(name)
