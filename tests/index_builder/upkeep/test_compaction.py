import itertools
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index_builder.build_pool import SMALL_ROWS
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules, groups_of
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.engines.gcs_server import GcsBucket
from tests.index_builder.upkeep.living import Living
from tests.index_builder.upkeep.meanwhile import once
from tierloom import names
from tierloom.collection import Sizes, Tier
from tierloom.errors import Corrupt, NotFound, TurnLost
from tierloom.run_report import read_report
from tierloom.stores.local import LocalStore
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest

RULES = Rules(fan_out=4)


@pytest.fixture
def living(tmp_path: Path) -> Living:
    return Living(LocalStore(tmp_path / "store"))


def put_small(living: Living, count: int, chunks: int = 3) -> None:
    for at in range(count):
        living.put({f"{len(living.model)}-{at}-a": chunks, f"{len(living.model)}-{at}-b": 1})


class TestWhatIsWritten:
    def test_small_shards_become_one(self, living: Living) -> None:
        put_small(living, 4)
        before = living.head
        done = compact(living.store, RULES)
        living.check()
        assert [(len(before.vector_shards), len(living.head.vector_shards))] == [(4, 1)]
        assert len(living.head.index_shards) == len(living.head.collection.tiers)
        (round_,) = done.rounds
        assert (round_.version, round_.shards_merged, round_.shards_written) == (5, 4, 1)
        assert round_.bytes_merged == sum(shard.bytes for shard in before.vector_shards)
        assert round_.bytes_written == living.head.vector_shards[0].bytes
        assert (round_.index_shards, done.overtaken) == (3, None)

    def test_who_may_not_publish_any_more_does_not(self, living: Living) -> None:
        put_small(living, 4)
        before = living.head

        def check() -> None:
            raise TurnLost("another has begun")

        with pytest.raises(TurnLost):
            compact(living.store, RULES, check=check)
        assert living.head == before
        living.check()

    def test_what_is_due_no_more_is_left_alone(self, living: Living) -> None:
        put_small(living, 4)
        compact(living.store, RULES)
        version = living.head.version
        assert compact(living.store, RULES).rounds == ()
        assert living.head.version == version

    def test_an_empty_collection_has_nothing_to_compact(self, living: Living) -> None:
        assert compact(living.store).rounds == ()

    def test_dead_rows_are_left_behind(self, living: Living) -> None:
        living.put({f"d{at}": 1 for at in range(20)})
        living.delete(f"d{at}" for at in range(5))
        compact(living.store, RULES)
        living.check()
        (shard,) = living.head.vector_shards
        assert (shard.rows, shard.deletes) == (15, None)

    def test_a_shard_whose_dead_share_is_at_the_limit_stays(self, living: Living) -> None:
        living.put({f"d{at}": 1 for at in range(20)})
        living.delete(f"d{at}" for at in range(4))
        assert compact(living.store, RULES).rounds == ()

    def test_what_died_whole_is_dropped(self, living: Living) -> None:
        living.put({"a": 3})
        living.put({"b": 3})
        living.delete(["a"])
        (round_,) = compact(living.store, RULES).rounds
        living.check()
        assert len(living.head.vector_shards) == 1
        assert (round_.shards_merged, round_.shards_written, round_.index_shards) == (1, 0, 0)
        living.delete(["b"])
        compact(living.store, RULES)
        living.check()
        assert not living.head.vector_shards
        assert not living.head.index_shards

    def test_full_vector_shards_stay_when_their_index_shards_are_joined(self, living: Living) -> None:
        for at in range(4):
            living.put({f"{at}-{document}": 1 for document in range(20)})
        paths = {shard.path for shard in living.head.vector_shards}
        (round_,) = compact(living.store, RULES).rounds
        living.check()
        assert {shard.path for shard in living.head.vector_shards} == paths
        assert (round_.bytes_merged, round_.bytes_written, round_.index_shards) == (0, 0, 3)

    def test_the_run_is_in_the_history_and_has_a_report(self, living: Living) -> None:
        put_small(living, 4)
        documents = living.head.documents
        compact(living.store, RULES)
        head = living.head
        assert (head.run.command, head.documents, head.run.tokens) == ("compact", documents, 0)
        report = read_report(head.run.run, living.store)
        assert (report.version, report.published) == (head.version, True)

    def test_versions_before_it_read_as_they_did(self, living: Living) -> None:
        put_small(living, 4)
        before = living.head
        compact(living.store, RULES)
        assert read_manifest(living.store, before.version) == before
        assert all(living.store.size(stored.path) == stored.bytes for stored in before.objects())

    def test_rounds_are_bounded(self, living: Living) -> None:
        put_small(living, 4)
        living.put({f"large-{at}": 1 for at in range(28)})
        living.delete(f"large-{at}" for at in range(10))
        assert len(compact(living.store, RULES, rounds=1).rounds) == 1
        assert len(compact(living.store, RULES).rounds) == 1
        living.check()

    def test_large_index_shards_are_built_in_a_process_of_their_own(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "large"), Sizes(), tiers=(16,))
        for part in range(2):
            living.put({f"{part}-{at}": 1 for at in range(SMALL_ROWS // 2 + 1)})
        (round_,) = compact(living.store, Rules(fan_out=2)).rounds
        assert round_.shards_written == 1
        living.check()

    def test_a_damaged_input_is_told_and_nothing_is_published(self, living: Living) -> None:
        put_small(living, 4)
        version, path = living.head.version, living.store.fetch(living.head.vector_shards[1].path, Path())
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(Corrupt, match=path.name):
            compact(living.store, RULES)
        assert living.head.version == version


class TestBesideWriters:
    """`stop` is asked before the merge (the 2nd time) and before each index shard is waited for."""

    @pytest.mark.parametrize("at", [1, 2, 3, 4])
    def test_rows_that_die_meanwhile_are_dead_in_the_merged_shard(self, living: Living, at: int) -> None:
        put_small(living, 4)
        ids = sorted({document_id for document_id, _ in living.model})

        def change() -> None:
            living.delete(ids[:2])
            living.put({ids[3]: 2, "new": 2})

        done = compact(living.store, RULES, rounds=1, stop=once(change, at))
        living.check()
        assert len(done.rounds) == 1
        merged = living.head.vector_shards[0]
        assert (merged.deletes is not None) == (at > 1)

    def test_all_rows_die_meanwhile(self, living: Living) -> None:
        put_small(living, 4)
        done = compact(living.store, RULES, stop=once(lambda: living.delete({d for d, _ in living.model}), 3))
        living.check()
        assert len(done.rounds) == 2
        assert living.head.vector_shards == ()

    @pytest.mark.parametrize("at", [2, 4])
    def test_another_compaction_overtakes(self, living: Living, at: int) -> None:
        put_small(living, 4)

        def overtake() -> None:
            living.delete([next(iter(living.model))[0]])
            assert compact(living.store, RULES).rounds

        done = compact(living.store, RULES, stop=once(overtake, at))
        assert done.rounds == ()
        assert "another writer has replaced shards/" in str(done.overtaken)
        living.check()

    def test_inputs_that_were_replaced_and_collected_are_no_error(self, living: Living) -> None:
        put_small(living, 4)

        def overtake() -> None:
            before = living.head.vector_shards
            living.delete([next(iter(living.model))[0]])
            assert compact(living.store, RULES).rounds
            live = {shard.path for shard in living.head.vector_shards}
            for path in {shard.path for shard in before} - live:
                living.store.fetch(path, Path()).unlink()

        done = compact(living.store, RULES, stop=once(overtake, 2))
        assert (done.rounds, "another writer" in str(done.overtaken)) == ((), True)
        living.check()

    def test_an_input_that_the_store_has_lost_is_an_error(self, living: Living) -> None:
        put_small(living, 4)
        living.store.fetch(living.head.vector_shards[2].path, Path()).unlink()
        with pytest.raises(NotFound, match=living.head.vector_shards[2].path):
            compact(living.store, RULES)

    @pytest.mark.parametrize("at", [2, 4])
    def test_a_tier_that_is_added_meanwhile_covers_the_merged_shard(self, living: Living, at: int) -> None:
        put_small(living, 4)
        add = once(lambda: add_tiers(living.store, [Tier(name="4", dimensions=4)]), at)
        assert len(compact(living.store, RULES, stop=add).rounds) == 1
        assert [tier.name for tier in living.head.collection.tiers] == ["4", "8", "16-binary", "16"]
        living.check()

    @pytest.mark.parametrize("at", [2, 4])
    def test_a_tier_that_is_dropped_meanwhile_stays_dropped(self, living: Living, at: int) -> None:
        put_small(living, 4)
        assert len(compact(living.store, RULES, stop=once(lambda: drop_tiers(living.store, [8]), at)).rounds) == 1
        assert [tier.name for tier in living.head.collection.tiers] == ["16-binary", "16"]
        living.check()

    def test_what_is_stopped_publishes_nothing_more(self, living: Living) -> None:
        put_small(living, 4)
        version = living.head.version
        for stopped_at in range(1, 5):
            asked = iter(range(1, 10))
            assert compact(living.store, RULES, stop=lambda: next(asked) >= stopped_at).rounds == ()  # noqa: B023
            assert living.head.version == version
        assert len(compact(living.store, RULES).rounds) == 1
        living.check()

    def test_compactions_of_small_and_of_large_groups_do_not_meet(self, living: Living) -> None:
        for part in range(4):
            living.put({f"large-{part}-{at}": 1 for at in range(20)})
        put_small(living, 4)
        small = once(lambda: compact(living.store, Rules(fan_out=4, group_rows=range(16))), 3)
        done = compact(living.store, Rules(fan_out=4, group_rows=range(16, 1 << 40)), stop=small)
        living.check()
        assert [round_.bytes_merged for round_ in done.rounds] == [0]
        assert len(groups_of(living.head)) == 2

    @pytest.mark.slow
    def test_two_compactions_and_a_writer_at_once(self, living: Living) -> None:
        threads = [Thread(target=lambda: [compact(living.store, RULES) for _ in range(8)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        draw = random.Random(1)
        for at in range(25):
            living.put({f"d{draw.randrange(40)}": draw.randint(1, 4) for _ in range(4)})
            if at % 5 == 4:
                living.delete([f"d{draw.randrange(40)}"])
        for thread in threads:
            thread.join()
        living.check()
        compact(living.store, RULES)
        living.check()
        assert max(len(group.vector_shards) for group in groups_of(living.head)) <= 4


def test_a_merged_shard_of_an_interrupted_compaction_is_found(living: Living) -> None:
    put_small(living, 4)
    asked = iter(range(10))
    compact(living.store, RULES, stop=lambda: next(asked) >= 2)
    made = {listed.name: listed.modified for listed in living.store.list("shards/")}
    assert len(made) == 5
    compact(living.store, RULES)
    assert {listed.name for listed in living.store.list("shards/")} == made.keys()
    assert living.head.vector_shards[0].path in made


def test_names_stay_plain(living: Living) -> None:
    put_small(living, 4)
    compact(living.store, RULES)
    assert all(names.is_safe(stored.path) for stored in living.head.objects())


@pytest.mark.engine
def test_in_a_bucket_beside_a_writer(gcs_bucket: GcsBucket) -> None:
    living = Living(open_store(f"{gcs_bucket.url}/store"))
    put_small(living, 4)
    ids = sorted({document_id for document_id, _ in living.model})
    changing = once(lambda: living.put({ids[0]: 2, "new": 1}), 3)
    assert len(compact(living.store, RULES, rounds=1, stop=changing).rounds) == 1
    add_tiers(living.store, [Tier(name="4", dimensions=4)])
    living.check()


DOCUMENTS = st.dictionaries(st.integers(0, 12).map(str), st.integers(1, 6), min_size=1, max_size=6)
CHANGES = st.one_of(
    DOCUMENTS.map(lambda chunks: lambda living: living.put(chunks)),
    st.sets(st.integers(0, 12).map(str), min_size=1).map(lambda ids: lambda living: living.delete(ids)),
    st.just(lambda living: compact(living.store, RULES, rounds=1)),
    st.just(lambda living: _turn_tier(living, Tier(name="4", dimensions=4))),
    st.just(lambda living: _turn_tier(living, Tier(name="8-binary", dimensions=8, kind="binary"))),
)


def _turn_tier(living: Living, tier: Tier) -> None:
    """Add the tier, or drop it if it is there."""
    if tier in living.head.collection.tiers:
        drop_tiers(living.store, [tier.name])
    else:
        add_tiers(living.store, [tier])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=8), st.lists(st.tuples(st.integers(1, 12), CHANGES), max_size=3))
def test_whatever_happens_before_and_between_its_steps(
    before: list[Callable[[Living], object]], between: list[tuple[int, Callable[[Living], object]]]
) -> None:
    with TemporaryDirectory() as folder:
        living = Living(LocalStore(Path(folder)), Sizes(vector_shard_rows=12, index_shard_rows=48))
        for change in before:
            change(living)
        steps, asked = dict(between), itertools.count(1)

        def stop() -> bool:
            steps.get(next(asked), _nothing)(living)
            return False

        compact(living.store, Rules(fan_out=2), stop=stop)
        living.check()


def _nothing(_: Living) -> None:
    """Most steps of a compaction are not disturbed."""
