"""The command that shows and sets how a collection is served."""

from pathlib import Path

import pytest

from tests.measured import gate_of, measured_store, publish_measured
from tests.pipelines.command_line import ok, run
from tierloom.serving import DEFAULT_SHORTLIST
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head

TABLE = """
default = "careful"
[profiles.careful]
tier = 8
[profiles.quick]
tier = "4"
shortlist = 20
rerank = false
[profiles.narrow]
tier = "4"
shortlist = 40
funnel = [{ dimensions = 8, keep = 15 }]
[routes]
typing = "quick"
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return measured_store(tmp_path / "store")


def test_profiles_and_routes_are_set_and_shown(store: LocalStore, tmp_path: Path) -> None:
    assert "none: the largest int8 tier, reranked" in ok(run("serving", store.root)).out
    (tmp_path / "serving.toml").write_text(TABLE)
    told = ok(run("serving", store.root, tmp_path / "serving.toml")).out
    assert told == ok(run("serving", store.root)).out
    assert told.splitlines()[0] == "version 5, recall floor 0.95"
    rows = {" ".join(line.split()) for line in told.splitlines()[1:]}
    assert rows == {
        "default careful",
        "profile careful tier 8, shortlist 50 (measured to be safe), reranked, top 10; recall 0.990 (0.970 to 1.000)",
        "profile quick tier 4, shortlist 20 (declared), top 10; recall 0.700 (0.680 to 0.720)",
        "profile narrow tier 4, shortlist 40 (declared), best 15 by 8 dimensions, reranked, top 10; not measured",
        "route typing quick",
    }
    assert ok(run("serving", store.root, tmp_path / "serving.toml")).out == told
    warned = ok(run("promote", store.root, "latest", "--channel", "prod")).err
    assert warned.splitlines() == [
        "warning: profile narrow takes a shortlist of 40 from tier 4; the smallest that was measured to be safe is 50"
    ]


def test_profiles_and_routes_are_told_as_json(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text(TABLE)
    told = run("serving", store.root, tmp_path / "serving.toml", "--json").json
    assert (told["version"], told["default"], told["routes"]) == (5, "careful", {"typing": "quick"})
    assert (told["recall_floor"], told["measured_floor"]) == (0.95, 0.95)
    careful = told["profiles"]["careful"]
    assert (careful["shortlist"], careful["shortlist_in_force"], careful["safe_shortlist"]) == (None, 50, 50)
    assert careful["recall"]["mean"] == 0.99


def test_a_tier_that_was_not_measured_has_the_default_shortlist(store: LocalStore, tmp_path: Path) -> None:
    publish_measured(store, gate=gate_of(store, {"8": None}))
    (tmp_path / "serving.toml").write_text(TABLE)
    told = run("serving", store.root, tmp_path / "serving.toml", "--json").json["profiles"]
    assert (told["careful"]["shortlist_in_force"], told["careful"]["safe_shortlist"]) == (DEFAULT_SHORTLIST, None)
    assert told["quick"]["recall"] is None


def test_what_cannot_be_served_changes_nothing(store: LocalStore, tmp_path: Path) -> None:
    table = tmp_path / "serving.toml"
    table.write_text(TABLE.replace('"4"', '"5"'))
    refused = run("serving", store.root, table).error
    assert "cannot be served like this: profile quick: no tier '5'; there are 4, 8" in refused
    table.write_text(TABLE.replace("rerank", "rerankk"))
    assert "no member 'rerankk' (did you mean rerank?)" in run("serving", store.root, table).error
    assert "cannot be read" in run("serving", store.root, tmp_path / "nothing.toml").error
    assert read_head(store).version == 4


def test_a_tier_that_a_profile_searches_is_not_dropped(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text(TABLE)
    ok(run("serving", store.root, tmp_path / "serving.toml"))
    refused = run("tiers", "drop", store.root, "4").error
    assert refused.startswith("profile narrow searches tier 4; profile quick searches tier 4; let")
