from pathlib import Path

import msgspec
import pytest

from index_builder.upkeep.serving import set_serving
from index_builder.upkeep.tiers import drop_tiers
from tests.index_builder.upkeep.living import Living
from tierloom.errors import CheckpointError, InputError
from tierloom.run_report import read_report
from tierloom.serving import Profile, Serving
from tierloom.stores.local import LocalStore

SERVING = Serving(
    profiles={"quick": Profile(tier="8", rerank=False), "careful": Profile(tier="16")},
    routes={"typing": "quick"},
    default="careful",
)


@pytest.fixture
def living(tmp_path: Path) -> Living:
    living = Living(LocalStore(tmp_path / "store"))
    living.put({"a": 3, "b": 2})
    return living


def test_a_new_version_is_served_so_and_holds_the_same(living: Living) -> None:
    before = living.head
    after = set_serving(living.store, SERVING)
    assert after == living.head
    assert (after.version, after.run.command) == (before.version + 1, "serving")
    assert after.collection == msgspec.structs.replace(before.collection, serving=SERVING)
    assert (after.vector_shards, after.index_shards) == (before.vector_shards, before.index_shards)
    assert read_report(after.run.run, living.store).version == after.version
    living.check()


def test_later_versions_keep_it(living: Living) -> None:
    set_serving(living.store, SERVING)
    living.put({"c": 1})
    assert living.head.collection.serving == SERVING


def test_what_is_so_already_is_no_news(living: Living) -> None:
    version = set_serving(living.store, SERVING).version
    assert set_serving(living.store, SERVING).version == version


def test_what_cannot_be_served_is_refused_with_all_reasons(living: Living) -> None:
    version = living.head.version
    wrong = msgspec.structs.replace(SERVING, routes={"typing": "quik"}, default="carefull")
    with pytest.raises(InputError, match=r"default is no profile: 'carefull' .*; route typing leads .*mean quick\?"):
        set_serving(living.store, wrong)
    assert living.head.version == version


def test_a_tier_that_a_profile_searches_is_not_dropped(living: Living) -> None:
    set_serving(living.store, SERVING)
    with pytest.raises(CheckpointError, match="profile quick searches tier 8; let it search another one first"):
        drop_tiers(living.store, [8])
    set_serving(living.store, Serving(profiles={"careful": Profile(tier="16")}))
    drop_tiers(living.store, [8])
    assert [tier.name for tier in living.head.collection.tiers] == ["16-binary", "16"]
