"""What a report says first: whether the collection is safe to serve, and what somebody should know."""

from pathlib import Path

import pytest

from index_builder.reporting.facts import gather
from index_builder.reporting.judgement import notices, percent, standing, tier_list, verdict
from tests.made_reports import below, empty, grown, measured, single, unmeasured
from tests.made_versions import Step, gate, point, store_versions
from tierloom.stores.local import LocalStore


def test_tiers_that_reach_the_floor_are_safe(tmp_path: Path) -> None:
    judged = verdict(gather(single(tmp_path)))

    assert judged.weight == "good"
    assert "All 3 tiers are safe to serve" in judged.text
    spaced = judged.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "tier 128 finds 96.6 % (95.4 % to 97.8 %) from K = 50" in spaced


def test_a_tier_below_the_floor_is_named_and_so_is_the_channel_that_serves_it(tmp_path: Path) -> None:
    facts = gather(below(tmp_path))

    assert verdict(facts).weight == "bad"
    assert verdict(facts).text.startswith("Tier 64 does not reach the floor of 95")
    assert [standing(tier) for tier in facts.tiers] == ["below", "safe", "unmeasured"]
    assert [(notice.weight, "Channel prod" in notice.text) for notice in notices(facts)] == [("bad", True)]


def test_what_was_never_measured_is_not_called_safe(tmp_path: Path) -> None:
    judged = verdict(gather(unmeasured(tmp_path)))

    assert (judged.weight, "never measured" in judged.text) == ("warning", True)


def test_a_tier_without_a_measurement_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store_versions(store, [Step([[10]], gate({"64": (0.9, [0.99]), "128": (0.9, [0.99])}))])

    judged = verdict(gather(store))
    assert (judged.weight, judged.text.split(".")[0]) == (
        "warning",
        "Tier 256-binary was not measured in this version",
    )


def test_a_channel_that_serves_what_was_never_measured_is_told(tmp_path: Path) -> None:
    store = unmeasured(tmp_path)
    point(store, "prod", 1)

    assert [notice.text for notice in notices(gather(store))] == [
        "Channel prod serves version 1, which was never measured."
    ]


def test_an_empty_collection_is_neither_safe_nor_unsafe(tmp_path: Path) -> None:
    facts = gather(empty(tmp_path))

    assert verdict(facts).weight == "neutral"
    assert notices(facts) == ()


def test_dead_letters_and_channels_that_lag_are_told(tmp_path: Path) -> None:
    texts = [notice.text for notice in notices(gather(grown(tmp_path)))]

    assert texts == [
        "3 dead letters open: tierloom dead-letters lists them.",
        "Channel prod is 3 versions behind the newest.",
    ]


@pytest.mark.parametrize(("now", "told"), [(0.97, True), (0.98, False)])
def test_a_fall_of_recall_is_told_where_the_intervals_part(tmp_path: Path, now: float, told: bool) -> None:
    # Either end is .012 away from the mean.
    store = LocalStore(tmp_path)
    recalls = (gate({"64": (0.7, [recall])}, floor=0.9) for recall in (0.998, now))
    store_versions(store, [Step([[10]], one) for one in recalls])

    assert any("finds less than in version 1" in notice.text for notice in notices(gather(store))) is told


def test_a_floor_that_was_declared_since_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store_versions(store, [Step([[10]], measured(floor=0.9))])

    facts = gather(store)
    assert facts.floor == 0.9
    assert [notice.weight for notice in notices(facts)] == ["warning"]


def test_shares_are_written_with_the_decimals_that_they_need() -> None:
    assert [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0.95, 1, 0.9499, 0.0, 0.975)] == [
        "95 %", "100 %", "94.99 %", "0 %", "97.5 %",
    ]  # fmt: skip
    assert tier_list(["64", "128", "256"]) == "Tiers 64, 128 and 256"
