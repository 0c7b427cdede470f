"""Upkeep of two generations, in any order: after each step both hold exactly the documents of a plain dict."""

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from index_builder.upkeep.collect import COLLECTED, collect
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules
from index_builder.upkeep.erase import erase
from index_builder.upkeep.publishing import publish_change
from index_builder.upkeep.retention import set_retention
from index_builder.upkeep.retire import retire
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.index_builder.upkeep.erased import found_in
from tests.index_builder.upkeep.living import SECOND, Living
from tests.small_shards import CHECKPOINT
from tierloom import names
from tierloom.collection import Sizes, Tier
from tierloom.errors import RetirementRefused
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.stores.local import LocalStore
from tierloom.versions import read_manifest, stored_versions

# None is a part of another.
NAMES = st.sampled_from([f"document-{letter}" for letter in "abcdefghij"])
FOUR = Tier("4", 4)
_SIZES = Sizes(block_chunks=8, vector_shard_rows=12, index_shard_rows=48)
_CHECKPOINTS = {CHECKPOINT.fingerprint: CHECKPOINT, SECOND.fingerprint: SECOND}


class Generations(RuleBasedStateMachine):
    """A collection that is changed, looked after, re-embedded and flipped."""

    @initialize()
    def make(self) -> None:
        self._folder = TemporaryDirectory()
        self._store = LocalStore(Path(self._folder.name))
        self._living = Living(self._store, _SIZES, tiers=(8, "16-binary"))
        set_retention(self._store, {"versions": 2, "versions_seconds": 0})
        self._erased: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    @property
    def _two(self) -> bool:
        return self._living.head.other is not None

    @property
    def _building(self) -> bool:
        return not all(generation.is_complete for generation in self._living.head.generations)

    @rule(chunks=st.dictionaries(NAMES, st.integers(1, 4), min_size=1, max_size=4))
    def put(self, chunks: dict[str, int]) -> None:
        self._living.put(chunks)
        self._erased -= chunks.keys()

    @rule(gone=st.sets(NAMES, min_size=1, max_size=3))
    def delete(self, gone: set[str]) -> None:
        self._living.delete(gone)

    @rule(gone=st.sets(NAMES, min_size=1, max_size=2))
    def erase(self, gone: set[str]) -> None:
        assert erase(self._store, gone, apart=False).complete
        self._living.erased(gone)
        self._erased |= gone

    @rule(fan_out=st.integers(2, 3))
    def compact(self, fan_out: int) -> None:
        assert compact(self._store, Rules(fan_out=fan_out), apart=False).overtaken is None

    @rule(other=st.booleans())
    def turn_tier(self, other: bool) -> None:
        """Add a tier to one generation, or drop it."""
        generation = self._living.head.generations[-1 if other else 0]
        if FOUR in generation.collection.tiers:
            drop_tiers(self._store, [FOUR.name], generation.checkpoint)
        else:
            add_tiers(self._store, [FOUR], apart=False, checkpoint=generation.checkpoint)

    @precondition(lambda self: not self._two)
    @rule(reached=st.sampled_from([0, KEY_UNITS // 3, KEY_UNITS]))
    def begin(self, reached: int) -> None:
        (there,) = self._living.head.checkpoints
        (absent,) = _CHECKPOINTS.keys() - {there}
        self._living.begin(_CHECKPOINTS[absent], tiers=(8, "8-binary"), reached=reached)

    @precondition(lambda self: self._building)
    @rule()
    def finish(self) -> None:
        self._living.reach()

    @precondition(lambda self: self._two and not self._building)
    @rule()
    def flip(self) -> None:
        def turned(head: Manifest) -> Manifest:
            return head.generations[1]

        publish_change("flip", turned, self._store)

    @rule(other=st.booleans(), force=st.booleans())
    def retire(self, other: bool, force: bool) -> None:
        head = self._living.head
        gone = head.generations[-1 if other else 0]
        left = [one for one in head.generations if one.checkpoint != gone.checkpoint]
        serves = bool(left) and left[0].is_complete
        # What was never measured is no other's successor.
        fit = other or not gone.live_chunks or (bool(left) and left[0].gate is not None)
        if serves and (force or (gone.is_complete and fit)):
            assert retire(self._store, gone.checkpoint, force).checkpoint == gone.checkpoint
            assert gone.checkpoint not in self._living.head.checkpoints
        else:
            with pytest.raises(RetirementRefused):
                retire(self._store, gone.checkpoint, force)
            assert self._living.head == head

    @rule()
    def collect(self) -> None:
        """Afterwards there is nothing but what the versions that are kept name."""
        collect(self._store, timedelta())
        kept = [read_manifest(self._store, version) for version in stored_versions(self._store)]
        named = {stored.path for manifest in kept for stored in manifest.objects()}
        named |= {names.checkpoint(checkpoint) for manifest in kept for checkpoint in manifest.checkpoints}
        assert {listed.name for prefix in set(COLLECTED) - {names.RUNS} for listed in self._store.list(prefix)} == named

    @invariant()
    def both_hold_the_documents(self) -> None:
        self._living.check()
        assert [document_id for document_id in self._erased if found_in(self._store, document_id)] == []

    @invariant()
    def both_tell_the_same(self) -> None:
        """Which run it was, and how many deletions hold."""
        head = self._living.head
        assert len({generation.documents.deleted for generation in head.generations}) == 1
        assert {(one.run.run, one.run.command) for one in head.generations} == {(head.run.run, head.run.command)}


@pytest.mark.slow
def test_both_generations_hold_the_documents_whatever_is_done() -> None:
    run_state_machine_as_test(Generations, settings=settings(max_examples=30, stateful_step_count=16, deadline=None))


def test_a_short_history_of_both() -> None:
    run_state_machine_as_test(Generations, settings=settings(max_examples=4, stateful_step_count=8, deadline=None))
