from collections.abc import Callable
from pathlib import Path

import pytest

from index_builder.build import IndexTask, build_index_shard
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.index_builder.upkeep.living import Living
from tierloom.collection import Tier
from tierloom.errors import CheckpointError, VerificationError
from tierloom.manifest import IndexShard
from tierloom.run_report import read_report
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from tierloom.versions import read_manifest

FOUR = Tier(name="4", dimensions=4)
TWELVE = Tier(name="12", dimensions=12, connectivity=8)
SIGNS = Tier(name="8-binary", dimensions=8, kind="binary")


@pytest.fixture
def living(tmp_path: Path) -> Living:
    living = Living(LocalStore(tmp_path / "store"))
    living.put({f"d{at}": 3 for at in range(10)})
    living.put({"d1": 1, "d11": 2})
    living.delete(["d2"])
    return living


def served(living: Living) -> list[str]:
    return [tier.name for tier in living.head.collection.tiers]


class TestAdding:
    def test_tiers_cover_all_that_is_live(self, living: Living) -> None:
        before = living.head
        added = add_tiers(living.store, [FOUR, TWELVE])
        living.check()
        assert served(living) == ["4", "8", "12", "16-binary", "16"]
        assert (added.version, living.head.run.command) == (before.version + 1, "tiers add")
        assert set(added.index_shards) == {*living.head.index_shards_of("4"), *living.head.index_shards_of("12")}
        assert living.head.collection.tier(12) == TWELVE
        assert living.head.vector_shards == before.vector_shards
        assert living.head.documents == before.documents
        assert read_report(living.head.run.run, living.store).version == added.version

    def test_they_group_the_vector_shards_as_the_others_do(self, living: Living) -> None:
        add_tiers(living.store, [FOUR])
        grouped = [index.vector_shards for index in living.head.index_shards_of("16")]
        assert [index.vector_shards for index in living.head.index_shards_of("4")] == grouped

    def test_one_of_another_kind_is_another_tier(self, living: Living) -> None:
        added = add_tiers(living.store, [SIGNS])
        living.check()
        assert served(living) == ["8-binary", "8", "16-binary", "16"]
        assert {index.parameters.metric for index in added.index_shards} == {"hamming"}
        drop_tiers(living.store, ["8"])
        living.check()
        assert served(living) == ["8-binary", "16-binary", "16"]

    def test_of_an_empty_collection_are_served_from_the_start(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "empty"))
        assert add_tiers(living.store, [FOUR]).index_shards == ()
        living.put({"a": 2})
        living.check()
        assert len(living.head.index_shards_of("4")) == 1

    @pytest.mark.parametrize(
        ("tier", "message"),
        [
            (Tier(name="8", dimensions=8), "has tiers 8 already; drop them"),
            (Tier(name="16-binary", dimensions=16, kind="binary"), "has tiers 16-binary already; drop them"),
            (Tier(name="32", dimensions=32), "tiers 32 lie beyond the 16 components"),
        ],
    )
    def test_what_cannot_be_served_is_refused(self, living: Living, tier: Tier, message: str) -> None:
        version = living.head.version
        with pytest.raises(CheckpointError, match=message):
            add_tiers(living.store, [FOUR, tier])
        assert living.head.version == version

    def test_untrained_prefixes_are_noted_for_good(self, living: Living) -> None:
        add_tiers(living.store, [TWELVE], untrained_prefixes=True)
        assert living.head.collection.untrained_prefixes
        add_tiers(living.store, [FOUR])
        assert living.head.collection.untrained_prefixes

    def test_versions_before_are_what_they_were(self, living: Living) -> None:
        before = living.head
        add_tiers(living.store, [FOUR])
        assert read_manifest(living.store, before.version) == before

    def test_a_dropped_tier_comes_back_from_what_was_built(self, living: Living) -> None:
        before = living.head.index_shards_of("8")
        drop_tiers(living.store, [8])
        add_tiers(living.store, [Tier(name="8", dimensions=8)])
        living.check()
        assert living.head.index_shards_of("8") == before


class TestAddingBesideWriters:
    """Something is published after the first index shard of the new tier was built."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
        """What is to happen after each build."""
        todo: list[Callable[[], object]] = []

        def build_then(task: IndexTask, store: Store) -> IndexShard:
            built = build_index_shard(task, store)
            if task.tier.name == "4" and todo:
                todo.pop(0)()
            return built

        monkeypatch.setattr("index_builder.build_pool.build_index_shard", build_then)
        return todo

    def test_documents(self, living: Living, meanwhile: list[Callable[[], object]]) -> None:
        meanwhile += [lambda: living.put({"new": 3, "d5": 1}), lambda: living.put({"newer": 1})]
        add_tiers(living.store, [FOUR])
        living.check()
        assert meanwhile == []
        assert served(living) == ["4", "8", "16-binary", "16"]

    def test_a_compaction(self, living: Living, meanwhile: list[Callable[[], object]]) -> None:
        meanwhile += [lambda: compact(living.store, Rules(fan_out=2))]
        add_tiers(living.store, [FOUR])
        living.check()
        assert living.head.run.command == "tiers add"

    def test_the_largest_tier_is_dropped(self, living: Living, meanwhile: list[Callable[[], object]]) -> None:
        meanwhile += [lambda: drop_tiers(living.store, [16])]
        add_tiers(living.store, [FOUR])
        living.check()
        assert served(living) == ["4", "8", "16-binary"]

    def test_the_same_tier(self, living: Living, meanwhile: list[Callable[[], object]]) -> None:
        meanwhile += [lambda: add_tiers(living.store, [FOUR])]
        with pytest.raises(CheckpointError, match="already"):
            add_tiers(living.store, [FOUR])
        living.check()

    def test_a_tier_that_fails_its_check_is_not_published(
        self, living: Living, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def build_other(task: IndexTask, store: Store) -> IndexShard:
            build_index_shard(task, store)
            return build_index_shard(IndexTask(task.tier, living.head.vector_shards[1:]), store)

        monkeypatch.setattr("index_builder.build_pool.build_index_shard", build_other)
        with pytest.raises(VerificationError):
            add_tiers(living.store, [FOUR])
        assert served(living) == ["8", "16-binary", "16"]


class TestDropping:
    def test_readers_have_the_others(self, living: Living) -> None:
        version = drop_tiers(living.store, [16])
        living.check()
        assert (living.head.version, served(living)) == (version, ["8", "16-binary"])
        assert living.head.index_shards_of("16") == ()
        assert living.head.run.command == "tiers drop"

    def test_prefixes_stay_stored(self, living: Living) -> None:
        drop_tiers(living.store, [16])
        living.put({"after": 2})
        add_tiers(living.store, [Tier(name="16", dimensions=16)])
        living.check()
        assert (living.head.collection.prefix_dimensions, served(living)) == (16, ["8", "16-binary", "16"])

    @pytest.mark.parametrize(
        ("dropped", "message"),
        [([8, "16-binary", 16], "tiers 8, 16-binary, 16 are all"), ([8, 99], "no tier 99")],
    )
    def test_what_cannot_be_dropped_is_refused(self, living: Living, dropped: list[int | str], message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            drop_tiers(living.store, dropped)
        assert served(living) == ["8", "16-binary", "16"]
