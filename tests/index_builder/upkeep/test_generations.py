"""Upkeep of two generations: each is compacted, given tiers and served by itself, and both stay whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from index_builder.build import IndexTask, build_index_shard
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules, plan_rounds
from index_builder.upkeep.publishing import publish_upkeep
from index_builder.upkeep.retention import set_retention
from index_builder.upkeep.retire import retire
from index_builder.upkeep.serving import set_serving
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.index_builder.upkeep.living import SECOND, Living
from tests.index_builder.upkeep.meanwhile import once
from tests.small_shards import CHECKPOINT
from tierloom.collection import Tier
from tierloom.errors import CheckpointError, CheckpointMismatch, InputError
from tierloom.manifest import KEY_UNITS, IndexShard, Manifest
from tierloom.run_report import read_report
from tierloom.serving import Profile, Serving
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store

RULES = Rules(fan_out=4)
FIRST = CHECKPOINT.fingerprint
OTHER = SECOND.fingerprint


@pytest.fixture
def living(tmp_path: Path) -> Living:
    """A generation of five groups, and a second one of three: begun after three puts, and two more."""
    living = Living(LocalStore(tmp_path / "store"))
    for at in range(3):
        living.put({f"{at}-a": 3, f"{at}-b": 1})
    living.begin()
    for at in range(3, 5):
        living.put({f"{at}-a": 3, "0-a": 2})
    return living


def tiers_of(manifest: Manifest) -> list[str]:
    return [tier.name for tier in manifest.collection.tiers]


def both_say(head: Manifest, command: str) -> None:
    """Both generations name the run of the version."""
    assert {(generation.run.run, generation.run.command) for generation in head.generations} == {
        (head.run.run, command)
    }


class TestPublishing:
    def test_a_change_is_given_the_generation_in_front_and_is_put_back(self, living: Living) -> None:
        seen: list[str] = []

        def change(head: Manifest) -> Manifest:
            seen.append(head.checkpoint)
            return head

        before = living.head
        published = publish_upkeep("look", change, living.store, OTHER)
        assert seen == [OTHER]
        assert published == living.head.of(OTHER)
        assert living.head.checkpoints == before.checkpoints == (FIRST, OTHER)
        both_say(living.head, "look")
        assert read_report(living.head.run.run, living.store).version == living.head.version

    def test_without_a_checkpoint_it_is_the_one_that_serves(self, living: Living) -> None:
        assert publish_upkeep("look", lambda head: head, living.store).checkpoint == FIRST

    def test_of_a_checkpoint_that_is_not_there_nothing_is_published(self, living: Living) -> None:
        version = living.head.version
        with pytest.raises(
            CheckpointMismatch, match=f"has nothing of checkpoint {'f' * 32}; it has {FIRST} and {OTHER}"
        ):
            publish_upkeep("look", lambda head: head, living.store, "f" * 32)
        assert living.head.version == version

    def test_what_the_generations_share_is_shared_after_a_change(self, living: Living) -> None:
        other = living.head.of(OTHER)
        set_retention(living.store, {"versions": 7})
        both_say(living.head, "retention")
        for generation in living.head.generations:
            assert generation.retention.versions == 7
        assert living.head.of(OTHER).vector_shards == other.vector_shards
        living.check()

    def test_one_that_is_being_built_is_not_measured(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "building"))
        living.put({f"d{at}": 2 for at in range(12)})
        living.begin(reached=KEY_UNITS // 2)
        add_tiers(living.store, [Tier("8", 8)], checkpoint=OTHER)
        assert living.head.of(OTHER).gate is None
        assert tiers_of(living.head.of(OTHER)) == ["4", "8", "12"]
        living.check()
        living.reach()
        gate = living.head.of(OTHER).gate
        assert gate
        assert [tier.tier for tier in gate.tiers] == ["4", "8", "12"]
        living.check()


class TestCompaction:
    def test_every_generation_is_compacted(self, living: Living) -> None:
        for at in range(5, 8):
            living.put({f"{at}-a": 3})
        groups = [len(generation.vector_shards) for generation in living.head.generations]
        documents = [generation.documents for generation in living.head.generations]
        done = compact(living.store, RULES)
        living.check()
        assert groups == [8, 6]
        assert {round_.checkpoint for round_ in done.rounds} == {FIRST, OTHER}
        assert plan_rounds(living.head, RULES) == []
        assert [len(generation.vector_shards) for generation in living.head.generations] == [1, 3]
        assert [generation.documents for generation in living.head.generations] == documents
        both_say(living.head, "compact")

    def test_the_smallest_round_of_all_is_the_first(self, living: Living) -> None:
        living.delete(["1-a", "1-b", "2-a", "2-b"])
        due = plan_rounds(living.head, Rules(fan_out=2))
        assert {round_.checkpoint for round_ in due} == {FIRST, OTHER}
        assert [round_.live_rows for round_ in due] == sorted(round_.live_rows for round_ in due)
        done = compact(living.store, Rules(fan_out=2), rounds=1)
        assert done.rounds[0].checkpoint == due[0].checkpoint

    def test_one_that_is_being_built_too(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "building"))
        living.put({f"d{at}": 1 for at in range(12)})
        living.begin(reached=KEY_UNITS // 2)
        for at in range(4):
            living.put({f"new-{at}": 2})
        done = compact(living.store, RULES)
        living.check()
        assert {round_.checkpoint for round_ in done.rounds} == {FIRST, OTHER}
        assert living.head.of(OTHER).reached == KEY_UNITS // 2
        living.reach()
        living.check()

    @pytest.mark.parametrize("at", [2, 4])
    def test_a_generation_that_is_retired_meanwhile_is_no_error(self, living: Living, at: int) -> None:
        gone = once(lambda: retire(living.store, FIRST), at)
        done = compact(living.store, RULES, stop=gone)
        assert done.rounds == ()
        assert f"in the meantime: version {living.head.version} has nothing of checkpoint {FIRST}" in str(
            done.overtaken
        )
        assert living.head.checkpoints == (OTHER,)
        living.check()

    def test_a_change_of_the_other_one_meanwhile_is_kept(self, living: Living) -> None:
        added = once(lambda: add_tiers(living.store, [Tier("8", 8)], checkpoint=OTHER), 3)
        assert compact(living.store, RULES, rounds=1, stop=added).rounds[0].checkpoint == FIRST
        assert tiers_of(living.head.of(OTHER)) == ["4", "8", "12"]
        living.check()


class TestTiers:
    def test_are_added_to_one_generation_and_dropped_from_it(self, living: Living) -> None:
        front = living.head.own
        added = add_tiers(living.store, [Tier("8", 8)], checkpoint=OTHER)
        both_say(living.head, "tiers add")
        living.check()
        other = living.head.of(OTHER)
        assert (added.version, tiers_of(other)) == (living.head.version, ["4", "8", "12"])
        assert set(added.index_shards) == set(other.index_shards_of("8"))
        assert (living.head.collection, living.head.index_shards) == (front.collection, front.index_shards)
        drop_tiers(living.store, [4, 12], OTHER)
        living.check()
        assert tiers_of(living.head.of(OTHER)) == ["8"]
        assert tiers_of(living.head) == ["8", "16-binary", "16"]

    def test_what_one_has_the_other_may_get(self, living: Living) -> None:
        add_tiers(living.store, [Tier("4", 4)])
        living.check()
        with pytest.raises(CheckpointError, match="has tiers 4 already"):
            add_tiers(living.store, [Tier("4", 4)], checkpoint=OTHER)
        with pytest.raises(CheckpointError, match="tiers 16 lie beyond the 12 components"):
            add_tiers(living.store, [Tier("16", 16)], checkpoint=OTHER)

    def test_those_of_the_other_one_are_not_missed_here(self, living: Living) -> None:
        with pytest.raises(CheckpointError, match="no tier 12; it has 8, 16-binary, 16"):
            drop_tiers(living.store, [12])

    def test_one_that_finds_too_little_is_published_where_nobody_is_served(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "large"), tiers=(16,))
        living.put({f"d{at}": 100 for at in range(14)})
        living.begin(tiers=(12,))
        add_tiers(living.store, [Tier("2", 2)], checkpoint=OTHER)
        gate = living.head.of(OTHER).gate
        assert gate
        assert [(tier.tier, bool(tier.safe_shortlist)) for tier in gate.tiers] == [("2", False), ("12", True)]

    def test_a_generation_that_is_retired_meanwhile(self, living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
        waiting: list[Callable[[], object]] = [lambda: retire(living.store, OTHER)]

        def build_then(task: IndexTask, store: Store) -> IndexShard:
            built = build_index_shard(task, store)
            while waiting:
                waiting.pop()()
            return built

        monkeypatch.setattr("index_builder.build_pool.build_index_shard", build_then)
        with pytest.raises(CheckpointMismatch, match=f"has nothing of checkpoint {OTHER}; it has {FIRST}"):
            add_tiers(living.store, [Tier("8", 8)], checkpoint=OTHER)
        living.check()


class TestServing:
    def test_each_generation_is_served_by_profiles_of_its_own(self, living: Living) -> None:
        first = Serving(profiles={"quick": Profile(tier="8")})
        second = Serving(profiles={"quick": Profile(tier="4")})
        set_serving(living.store, first)
        served = set_serving(living.store, second, OTHER)
        assert served == living.head.of(OTHER)
        both_say(living.head, "serving")
        assert [generation.collection.serving for generation in living.head.generations] == [first, second]
        assert set_serving(living.store, second, OTHER).version == served.version
        with pytest.raises(InputError, match="no tier '8'; there are 4, 12"):
            set_serving(living.store, first, OTHER)
        with pytest.raises(CheckpointError, match="profile quick searches tier 4"):
            drop_tiers(living.store, [4], OTHER)
        living.check()
