import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep.collect import COLLECTED, collect
from index_builder.upkeep.retention import set_retention
from index_builder.upkeep.retire import retire, tokens_paid
from tests.index_builder.upkeep.living import SECOND, Living
from tests.small_shards import CHECKPOINT
from tierloom import names
from tierloom.channel import move_channel
from tierloom.commit import commit
from tierloom.errors import CheckpointMismatch, RetirementRefused
from tierloom.manifest import KEY_UNITS, Manifest, RunRecord
from tierloom.run_report import read_report
from tierloom.stores.local import LocalStore
from tierloom.versions import read_manifest, stored_versions

FIRST = CHECKPOINT.fingerprint
OTHER = SECOND.fingerprint
HALF = KEY_UNITS // 2


@pytest.fixture
def living(tmp_path: Path) -> Living:
    living = Living(LocalStore(tmp_path / "store"))
    living.put({f"d{at}": 2 for at in range(12)})
    living.delete(["d3"])
    return living


def paid(living: Living, checkpoint: str, run: str, tokens: int) -> Manifest:
    """A version in which a run paid for tokens of one generation."""

    def change(head: Manifest) -> Manifest:
        record = RunRecord(run=run, command="reembed", tokens=tokens)
        generation = msgspec.structs.replace(head.of(checkpoint).own, run=record)
        return msgspec.structs.replace(head.with_generation(generation), version=head.version + 1)

    return commit(living.store, change)


class TestWhatIsLeft:
    @pytest.mark.parametrize(("gone", "left"), [(FIRST, OTHER), (OTHER, FIRST)])
    def test_is_in_front_and_serves_the_same_documents(self, living: Living, gone: str, left: str) -> None:
        before = living.begin()
        retired = retire(living.store, gone)
        head = living.head
        assert (head.version, head.checkpoints, head.other) == (before.version + 1, (left,), None)
        same = msgspec.structs.replace(before.of(left).own, run=head.run, gate=head.gate)
        assert head.own == same
        assert (retired.version, retired.checkpoint, retired.chunks) == (head.version, gone, 22)
        assert head.run.command == f"retire {retired.model}"
        assert read_report(head.run.run, living.store).version == head.version
        living.check()
        living.put({"later": 2})
        living.check()

    def test_versions_that_have_it_can_be_opened(self, living: Living) -> None:
        before = living.begin()
        retire(living.store, FIRST)
        assert read_manifest(living.store, before.version) == before
        with tierloom.open(living.store.url, version=before.version) as snapshot:
            assert snapshot.checkpoint == CHECKPOINT
            assert {chunk.document_id for chunk in snapshot.chunks()} == living.documents
        with tierloom.open(living.store.url) as snapshot:
            assert snapshot.checkpoint == SECOND

    def test_another_one_may_be_begun_then(self, living: Living) -> None:
        living.begin()
        retire(living.store, FIRST)
        living.begin(CHECKPOINT, tiers=(4, 8))
        living.check()
        assert living.head.checkpoints == (OTHER, FIRST)


class TestRefused:
    def refused(self, living: Living, checkpoint: str, said: str, force: bool = False) -> None:
        before = living.head
        with pytest.raises(RetirementRefused, match=said):
            retire(living.store, checkpoint, force)
        assert living.head == before

    @pytest.mark.parametrize("force", [False, True])
    def test_the_only_one(self, living: Living, force: bool) -> None:
        said = rf"small-test-model \({FIRST[:12]}\) is the only generation of .*build another one first, with tierloom "
        self.refused(living, FIRST, f"{said}reembed", force)

    @pytest.mark.parametrize("force", [False, True])
    def test_all_that_serves_while_the_other_is_being_built(self, living: Living, force: bool) -> None:
        living.begin(reached=HALF)
        said = (
            r"is all that serves: second-test-model .* is still being built \(50 %\).*"
            r"tierloom reembed .* --model second-test-model, or retire it instead"
        )
        self.refused(living, FIRST, said, force)

    def test_one_that_is_being_built_without_force(self, living: Living) -> None:
        chunks = living.begin(reached=HALF).of(OTHER).live_chunks
        paid(living, OTHER, "one", 1200)
        paid(living, FIRST, "two", 50)
        paid(living, OTHER, "three", 34)
        assert tokens_paid(living.store, OTHER) == 1234
        self.refused(living, OTHER, rf"\(50 %\): {chunks:,} chunks, for which at least 1,234 tokens were paid.*--force")
        retired = retire(living.store, OTHER, force=True)
        assert (retired.chunks, retired.tokens, retired.serves) == (chunks, 1234, "small-test-model")
        assert living.head.checkpoints == (FIRST,)
        living.check()

    def test_what_serves_where_the_other_may_not_be_promoted(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "store"), tiers=(16,))
        living.put({f"d{at}": 100 for at in range(14)})
        living.begin(tiers=(4,))
        self.refused(living, FIRST, r"second-test-model .* may not be promoted: tier 4 reaches a recall of .*--force")
        retire(living.store, FIRST, force=True)
        assert living.head.checkpoints == (OTHER,)

    def test_what_serves_nobody_may_go_however_good_the_other_is(self, tmp_path: Path) -> None:
        living = Living(LocalStore(tmp_path / "store"), tiers=(16,))
        living.put({f"d{at}": 100 for at in range(14)})
        living.begin(tiers=(4,))
        retire(living.store, OTHER)
        assert living.head.checkpoints == (FIRST,)

    @pytest.mark.parametrize("force", [False, True])
    def test_one_that_channels_serve(self, living: Living, force: bool) -> None:
        move_channel(living.store, "old", living.head.version, None)
        version = living.begin().version
        move_channel(living.store, "prod", version, None)
        move_channel(living.store, "first", 0, None)
        said = (
            rf"small-test-model \({FIRST[:12]}\) is what channels serve: first, old, prod. Move them first: "
            rf"tierloom promote {re.escape(living.store.url)} VERSION --channel first"
        )
        self.refused(living, FIRST, said, force)
        retire(living.store, OTHER)

    def test_one_that_a_channel_was_flipped_to(self, living: Living) -> None:
        """Though that is not what is in the front of the version that it names."""
        move_channel(living.store, "prod", living.begin().version, None, checkpoint=OTHER)
        self.refused(living, OTHER, rf"second-test-model \({OTHER[:12]}\) is what channels serve: prod", False)
        retire(living.store, FIRST)
        assert living.head.checkpoints == (OTHER,)

    def test_a_channel_whose_version_is_gone_serves_nothing(self, living: Living) -> None:
        version = living.begin().version
        move_channel(living.store, "broken", 999, None)
        retire(living.store, FIRST)
        assert living.head.version == version + 1

    def test_what_is_not_there(self, living: Living) -> None:
        living.begin()
        with pytest.raises(CheckpointMismatch, match=f"nothing of checkpoint {'f' * 32}; it has {FIRST} and {OTHER}"):
            retire(living.store, "f" * 32)


def raced(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Do something between the decision of the next commit and its publication."""
    claim, waiting = commit.__globals__["_claim"], [work]

    def racing(*arguments: object) -> None:
        while waiting:
            waiting.pop()()
        claim(*arguments)

    monkeypatch.setitem(commit.__globals__, "_claim", racing)


class TestRaces:
    def test_who_retires_the_same_one_at_once_is_told(self, living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
        living.begin()
        raced(monkeypatch, lambda: retire(living.store, OTHER))
        with pytest.raises(CheckpointMismatch, match=f"nothing of checkpoint {OTHER}; it has {FIRST}"):
            retire(living.store, OTHER)
        living.check()

    def test_two_that_would_leave_nothing_leave_one(self, living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
        living.begin()
        raced(monkeypatch, lambda: retire(living.store, OTHER))
        with pytest.raises(RetirementRefused, match="is the only generation"):
            retire(living.store, FIRST)
        assert living.head.checkpoints == (FIRST,)
        living.check()

    def test_what_is_published_meanwhile_is_kept(self, living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
        living.begin()
        raced(monkeypatch, lambda: living.put({"new": 3}))
        assert retire(living.store, FIRST).chunks == 25
        living.check()


class TestGarbage:
    def listing(self, living: Living) -> set[str]:
        return {listed.name for prefix in COLLECTED for listed in living.store.list(prefix)}

    def test_goes_once_no_version_that_is_kept_names_it(self, living: Living) -> None:
        both = living.begin()
        retired = retire(living.store, FIRST)
        own = {stored.path for stored in both.own_objects()} - {stored.path for stored in living.head.objects()}
        kinds = {path.split("/")[0] for path in own}
        assert kinds == {"shards", "deletes", "indexes"} or kinds == {"shards", "deletes", "indexes", "gates"}
        collect(living.store, timedelta())
        assert own <= self.listing(living)
        set_retention(living.store, {"versions": 1, "versions_seconds": 0})
        move_channel(living.store, "old", both.version, None)
        collect(living.store, timedelta())
        assert own <= self.listing(living)
        living.store.fetch(names.channel("old"), Path()).unlink()
        sizes = {listed.name: listed.bytes for prefix in COLLECTED for listed in living.store.list(prefix)}
        collected = collect(living.store, timedelta())
        removed = {listed.name for listed in collected.removed}
        assert own <= removed
        assert sum(sizes[path] for path in own) == retired.bytes
        head = living.head
        # The first version says what the collection was made with, and is kept; so is its checkpoint.
        assert stored_versions(living.store) == [0, head.version]
        assert self.listing(living) == {
            *(stored.path for stored in head.objects()),
            names.run(head.run.run),
            names.checkpoint(OTHER),
            names.checkpoint(FIRST),
        }
        assert audit(living.store).problems == ()
        living.check()

    def test_of_the_second_one_nothing_is_left_but_what_the_first_has(self, living: Living) -> None:
        collect(living.store, timedelta())
        before = self.listing(living)
        both = living.begin()
        assert names.checkpoint(OTHER) in self.listing(living)
        collect(living.store, timedelta())
        assert {stored.path for stored in both.objects()} <= self.listing(living)
        retire(living.store, OTHER)
        set_retention(living.store, {"versions": 1, "versions_seconds": 0})
        collect(living.store, timedelta())
        head = living.head
        left = self.listing(living)
        assert left - {names.run(head.run.run)} == {
            *(stored.path for stored in head.objects()),
            names.checkpoint(FIRST),
        }
        assert {path for path in before if path.startswith("shards/")} == {
            path for path in left if path.startswith("shards/")
        }
        living.check()
