"""The commands that look after two generations, over a collection that has both."""

from pathlib import Path

import pytest

from tests.index_builder.upkeep.living import SECOND, Living
from tests.pipelines.command_line import head_of, ok, run
from tests.small_shards import CHECKPOINT
from tierloom.channel import move_channel
from tierloom.manifest import KEY_UNITS
from tierloom.stores.local import LocalStore

FIRST, OTHER = CHECKPOINT.fingerprint, SECOND.fingerprint


@pytest.fixture
def living(tmp_path: Path) -> Living:
    living = Living(LocalStore(tmp_path / "store"))
    living.put({f"d{at}": 2 for at in range(6)})
    living.begin()
    for at in range(3):
        living.put({f"e{at}": 2, "d0": 1})
    return living


def tiers(living: Living) -> list[list[str]]:
    return [[tier.name for tier in each.collection.tiers] for each in living.head.generations]


class TestNaming:
    @pytest.mark.parametrize("name", ["second-test-model", OTHER, OTHER[:6]])
    def test_by_model_or_by_the_beginning_of_the_fingerprint(self, living: Living, name: str) -> None:
        ok(run("tiers", "add", living.store.url, 8, "--checkpoint", name))
        assert tiers(living) == [["8", "16-binary", "16"], ["4", "8", "12"]]

    def test_without_a_name_it_is_the_one_that_serves(self, living: Living) -> None:
        ok(run("tiers", "drop", living.store.url, 8))
        assert tiers(living) == [["16-binary", "16"], ["4", "12"]]

    @pytest.mark.parametrize(
        ("name", "said"), [("third-model", "no generation 'third-model'"), ("", "no generation ''")]
    )
    def test_what_names_none_is_told_those_there_are(self, living: Living, name: str, said: str) -> None:
        version = living.head.version
        for command in (["tiers", "drop", living.store.url, 8], ["serving", living.store.url]):
            error = run(*command, "--checkpoint", name).error
            assert f"version {version} has {said}" in error
            assert f"small-test-model ({FIRST}) and second-test-model ({OTHER})" in error
        assert living.head.version == version


def test_profiles_are_set_and_shown_of_each(living: Living, tmp_path: Path) -> None:
    table = tmp_path / "serving.toml"
    table.write_text('default = "quick"\n[profiles.quick]\ntier = 4\n')
    assert "no tier '4'" in run("serving", living.store.url, table).error
    told = ok(run("serving", living.store.url, table, "--checkpoint", "second-test-model")).out
    assert "tier 4" in told
    assert ok(run("serving", living.store.url, "--checkpoint", OTHER[:8])).out == told
    assert "none: the largest int8 tier" in ok(run("serving", living.store.url)).out


def test_a_compaction_counts_the_shards_of_both(living: Living) -> None:
    done = run("compact", living.store.url, "--fan-out", 2, "--json").json
    left = [len(each.vector_shards) for each in living.head.generations]
    assert done["vector_shards"] == [4 + 4, sum(left)]
    assert done["index_shards"] == [4 * 3 + 4 * 2, left[0] * 3 + left[1] * 2]
    assert max(left) < 4
    assert {each["checkpoint"] for each in done["rounds"]} == {FIRST, OTHER}
    living.check()


class TestRetiring:
    def test_is_told_and_noted(self, living: Living) -> None:
        version = living.head.version
        out = ok(run("retire", living.store.url, "--checkpoint", FIRST)).out
        told = [line.split(maxsplit=1) for line in out.splitlines()]
        assert told[0] == ["retired", f"small-test-model ({FIRST[:12]}), 17 live chunks"]
        assert told[2:] == [["serves", "second-test-model"], ["version", f"{version + 1} published"]]
        assert "retire small-test-model" in ok(run("history", living.store.url, "--last", 1)).out
        assert head_of(living.store.url).checkpoints == (OTHER,)
        living.check()

    def test_is_told_as_json(self, living: Living) -> None:
        retired = run("retire", living.store.url, "--checkpoint", "second-test-model", "--json").json
        assert (retired["model"], retired["checkpoint"], retired["chunks"]) == ("second-test-model", OTHER, 17)
        assert (retired["version"], retired["serves"]) == (living.head.version, "small-test-model")
        assert retired["bytes"] > 0

    def test_what_serves_is_refused_with_the_cure(self, living: Living) -> None:
        move_channel(living.store, "prod", living.head.version, None)
        error = run("retire", living.store.url, "--checkpoint", FIRST, "--force").error
        assert "is what channels serve: prod. Move them first: tierloom promote" in error
        ok(run("retire", living.store.url, "--checkpoint", OTHER))
        error = run("retire", living.store.url, "--checkpoint", FIRST, "--force").error
        assert "is the only generation" in error

    def test_what_was_paid_for_is_thrown_away_by_force_alone(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "building"))
        living.put({f"d{at}": 2 for at in range(6)})
        living.begin(reached=KEY_UNITS // 4)
        assert "is still being built (25 %)" in run("retire", living.store.url, "--checkpoint", OTHER).error
        ok(run("retire", living.store.url, "--checkpoint", OTHER, "--force"))
        assert living.head.checkpoints == (FIRST,)

    def test_one_is_named(self, living: Living) -> None:
        refused = run("retire", living.store.url)
        assert (refused.status, "Missing option '--checkpoint'" in refused.err) == (2, True)
