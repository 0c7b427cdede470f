"""Flipping a channel from one generation of a version to the other, and back."""

import threading
from pathlib import Path

import msgspec
import pytest

import tierloom
from index_builder.upkeep.collect import collect
from index_builder.upkeep.retained import Kept
from tests.committer import commit_one
from tests.measured import gate_of
from tests.two_generations import NEW, OLD, generation, publish_both, rows_of, two_generations
from tierloom import names
from tierloom.channel import Channel, Served, read_channel
from tierloom.commit import commit
from tierloom.errors import CheckpointError, Corrupt, InputError, NotPulled, PromotionRefused
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.mirroring.pulling import pull
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.run_report import read_report
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head, read_manifest

BACK, FLIPPED = OLD.fingerprint, NEW.fingerprint


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    two_generations(store)
    return store


def channel(store: LocalStore, name: str = "prod") -> Channel:
    seen = read_channel(store, name)
    assert seen is not None
    return seen[0]


def replaced(store: LocalStore, **members: object) -> Manifest:
    """The next version: like the newest, its other generation with these members."""

    def change(head: Manifest) -> Manifest:
        assert head.other is not None
        other = msgspec.structs.replace(head.other, **members)
        return msgspec.structs.replace(head, version=head.version + 1, other=other)

    return commit(store, change)


def retired_generation(store: LocalStore) -> None:
    """As it is when the old generation was dropped: the newest version has the new one alone."""
    head = read_head(store).of(FLIPPED)
    publish_both(store, front=head.own)


def retire(store: LocalStore, version: int) -> None:
    for listed in list(store.list(names.manifest(version))):
        assert store.remove(listed)


class TestFlipping:
    @pytest.mark.parametrize("name", [FLIPPED, FLIPPED[:5], FLIPPED[:7].upper(), NEW.space.model])
    def test_a_channel_serves_the_generation_that_is_named(self, store: LocalStore, name: str) -> None:
        promote(store, 2, "prod")
        move = promote(store, 2, "prod", "better answers", checkpoint=name).move
        assert move is not None
        assert (move.before, move.serves, move.message) == (Served(2, BACK), Served(2, FLIPPED), "better answers")
        assert channel(store).serves == (2, FLIPPED)
        with tierloom.open(store.root, channel="prod") as snapshot:
            assert snapshot.checkpoint == NEW
            assert {chunk.document_id for chunk in snapshot.chunks()} == {row.document_id for row in rows_of("two")}

    def test_further_promotions_stay_with_the_generation_that_is_served(self, store: LocalStore) -> None:
        promote(store, 2, "prod", checkpoint=FLIPPED)
        assert promote(store, 3, "prod").channel.serves == (3, FLIPPED)
        assert promote(store, 3, "canary").channel.serves == (3, BACK)
        assert promote(store, 1, "prod").channel.serves == (1, BACK)

    def test_what_is_served_already_is_no_move(self, store: LocalStore) -> None:
        promote(store, 2, "prod", checkpoint=FLIPPED)
        assert promote(store, 2, "prod", checkpoint=NEW.space.model).move is None
        assert promote(store, 2, "prod").move is None

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("no-such-model", "version 2 has no generation 'no-such-model'; it has small-test-model"),
            ("", "version 2 has no generation ''"),
            ("g", "version 2 has no generation 'g'"),
        ],
    )
    def test_an_unknown_generation_is_told_with_those_there_are(self, store: LocalStore, name: str, said: str) -> None:
        with pytest.raises(CheckpointError, match=said) as refused:
            promote(store, 2, "prod", checkpoint=name)
        assert all(known in str(refused.value) for known in (BACK, FLIPPED, NEW.space.model))
        assert read_channel(store, "prod") is None

    def test_a_name_of_both_is_refused(self, store: LocalStore) -> None:
        space = msgspec.structs.replace(OLD.space, revision="2")
        twin = msgspec.structs.replace(OLD, space=space)
        publish_both(store, other=generation(store, [rows_of("three")], twin))
        with pytest.raises(
            CheckpointError, match=r"'small-test-model' may be either generation of version 4: .*fingerp"
        ):
            promote(store, 4, "prod", checkpoint=OLD.space.model)
        assert promote(store, 4, "prod", checkpoint=twin.fingerprint).channel.checkpoint == twin.fingerprint

    @pytest.mark.parametrize("force", [False, True])
    def test_what_is_not_complete_is_refused_even_by_force(self, store: LocalStore, force: bool) -> None:
        replaced(store, reached=KEY_UNITS // 8 * 3 + 1, gate=None)
        said = (
            rf"another-test-model \({FLIPPED[:8]}\) is not complete in version 4: its building has reached 37.5 % "
            r"\(1,610,612,737 of 4,294,967,296 keys\).*tierloom reembed .*store --model"
        )
        for name in ("prod", "latest"):
            with pytest.raises(PromotionRefused, match=said):
                promote(store, "latest", name, force=force, checkpoint=FLIPPED)
        assert read_channel(store, "prod") is None
        assert promote(store, 4, "prod").channel.serves == (4, BACK)

    def test_what_misses_the_floor_is_refused_and_forced(self, store: LocalStore) -> None:
        replaced(store, gate=gate_of(store, {"4": None, "8": 50, "16": 50}))
        said = rf"version 4 of another-test-model \({FLIPPED[:8]}\) is not promoted to prod: tier 4 reaches a recall"
        with pytest.raises(PromotionRefused, match=said):
            promote(store, 4, "prod", checkpoint=FLIPPED)
        with pytest.raises(PromotionRefused, match="is not brought to the front: tier 4"):
            promote(store, 4, "latest", checkpoint=FLIPPED)
        assert promote(store, 4, "prod").move
        forced = promote(store, 4, "prod", force=True, checkpoint=FLIPPED).move
        assert forced
        assert forced.forced

    def test_what_was_not_measured_is_refused(self, store: LocalStore) -> None:
        replaced(store, gate=None)
        with pytest.raises(PromotionRefused, match="were never measured"):
            promote(store, 4, "prod", checkpoint=FLIPPED)

    def test_each_generation_has_its_own_floor(self, store: LocalStore) -> None:
        collection = read_head(store).of(FLIPPED).collection
        replaced(store, collection=msgspec.structs.replace(collection, recall_floor=0.99))
        assert promote(store, 3, "prod").channel.serves == (3, BACK)
        with pytest.raises(PromotionRefused, match=r"the collection's is 0\.99 now"):
            promote(store, 3, "prod", checkpoint=FLIPPED)

    @pytest.mark.parametrize("gone", [BACK, FLIPPED])
    def test_only_what_is_served_must_be_there(self, store: LocalStore, gone: str) -> None:
        (store.root / read_manifest(store, 3).of(gone).index_shards[0].path).unlink()
        for checkpoint in (BACK, FLIPPED):
            if checkpoint == gone:
                with pytest.raises(Corrupt, match="version 3 cannot be served"):
                    promote(store, 3, "prod", checkpoint=checkpoint)
            else:
                assert promote(store, 3, "prod", checkpoint=checkpoint).channel.checkpoint == checkpoint


class TestLatest:
    def test_a_version_with_that_generation_in_front_is_published(self, store: LocalStore) -> None:
        before = read_head(store)
        moved = promote(store, "latest", "latest", checkpoint=NEW.space.model)
        head = read_head(store)
        assert (head.version, head.checkpoints, head.run.command) == (4, (FLIPPED, BACK), "promote")
        assert {generation.run.run for generation in head.generations} == {head.run.run}
        assert head.of(BACK).vector_shards == before.vector_shards
        assert head.of(BACK).gate == before.gate
        assert sorted(stored.path for stored in head.objects()) == sorted(stored.path for stored in before.objects())
        assert read_report(head.run.run, store).version == 4
        assert channel(store, "latest").serves == (4, None)
        assert moved.move
        assert (moved.move.before, moved.move.serves) == (Served(3, BACK), Served(4, FLIPPED))
        assert tierloom.open(store.root).checkpoint == NEW
        assert promote(store, 4, "latest", checkpoint=FLIPPED).move is None
        assert read_head(store).version == 4

    def test_nobody_is_overtaken(self, store: LocalStore) -> None:
        """Who flips beside others who publish does it on top of what they published."""
        others = threading.Thread(target=lambda: [commit_one(store, f"rival-{at}") for at in range(8)])
        others.start()
        promote(store, "latest", "latest", checkpoint=FLIPPED)
        others.join()
        head = read_head(store)
        assert (head.version, head.checkpoint) == (12, FLIPPED)
        # Each of the others counts a document, in the generation that was in front.
        assert sum(one.documents.documents_in for one in head.generations) == 120 + 8

    def test_only_the_newest_version_can_be(self, store: LocalStore) -> None:
        with pytest.raises(InputError, match="latest serves the newest version, which is 3, and never 2"):
            promote(store, 2, "latest", checkpoint=FLIPPED)
        with pytest.raises(InputError, match="latest keeps no history of moves: leave the message 'why' out"):
            promote(store, 3, "latest", "why", checkpoint=FLIPPED)
        with pytest.raises(InputError, match="not moved by hand"):
            promote(store, 3, "latest")


class TestRollingBack:
    def test_the_old_generation_comes_back_as_it_is_now(self, store: LocalStore) -> None:
        promote(store, 2, "prod")
        promote(store, 3, "prod", checkpoint=FLIPPED)
        moved = rollback(store, "prod")
        assert moved.channel.serves == (3, BACK)
        assert moved.doubts == ()
        with tierloom.open(store.root, channel="prod") as snapshot:
            assert {chunk.document_id for chunk in snapshot.chunks()} == {row.document_id for row in rows_of("three")}
        with pytest.raises(InputError, match="knows of none before"):
            rollback(store, "prod")

    def test_within_a_generation_it_goes_to_the_version_before(self, store: LocalStore) -> None:
        promote(store, 2, "prod", checkpoint=FLIPPED)
        promote(store, 3, "prod")
        assert rollback(store, "prod").channel.serves == (2, FLIPPED)

    def test_one_that_is_not_good_any_more_comes_back_as_it_was(self, store: LocalStore) -> None:
        promote(store, 2, "prod", checkpoint=FLIPPED)
        replaced(store, gate=gate_of(store, {"4": None, "8": 50, "16": 50}))
        promote(store, 4, "prod", checkpoint=BACK)
        moved = rollback(store, "prod")
        assert moved.channel.serves == (2, FLIPPED)
        (doubt,) = moved.doubts
        assert "version 2 of another-test-model" in doubt
        assert "is served as it was then: documents that changed since are not in it" in doubt

    def test_one_that_was_retired_comes_back_as_it_was_while_that_is_there(self, store: LocalStore) -> None:
        promote(store, 3, "prod")
        retired_generation(store)
        promote(store, 4, "prod")
        assert channel(store).serves == (4, FLIPPED)
        assert rollback(store, "prod").channel.serves == (3, BACK)

    def test_one_that_is_gone_is_told(self, store: LocalStore) -> None:
        promote(store, 3, "prod")
        retired_generation(store)
        promote(store, 4, "prod")
        retire(store, 3)
        said = rf"version 3, .* was retired, and version 4 has nothing of its checkpoint {BACK} that is good; there"
        with pytest.raises(InputError, match=said):
            rollback(store, "prod")
        assert channel(store).serves == (4, FLIPPED)

    def test_to_a_version_is_to_what_was_served_then(self, store: LocalStore) -> None:
        promote(store, 2, "prod")
        promote(store, 3, "prod")
        promote(store, 3, "prod", checkpoint=FLIPPED)
        assert rollback(store, "prod", to=2).channel.serves == (2, BACK)
        promote(store, 2, "prod", checkpoint=FLIPPED)
        assert rollback(store, "prod", to=2).channel.serves == (2, BACK)


def test_everything_that_either_generation_needs_is_kept(store: LocalStore) -> None:
    before = {listed.name for listed in store.list("")}
    collected = collect(store)
    assert collected.removed == ()
    kept = Kept()
    kept.add(read_head(store))
    assert {names.checkpoint(BACK), names.checkpoint(FLIPPED)} <= kept.names
    assert {names.run(one.run.run) for one in read_head(store).generations} <= kept.names
    assert {listed.name for listed in store.list("")} == before


def test_a_mirror_is_not_flipped(store: LocalStore, tmp_path: Path) -> None:
    promote(store, 3, "prod")
    pull(store, tmp_path / "mirror", "prod")
    with pytest.raises(NotPulled, match="is a mirror"):
        promote(LocalStore(tmp_path / "mirror"), 3, "prod", checkpoint=FLIPPED)
