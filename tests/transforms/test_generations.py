"""Whatever happens while a corpus moves to another checkpoint, both generations hold what they should."""

import itertools
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from index_builder.audit import audit
from index_builder.reembedding.beginning import begin_generation
from index_builder.upkeep.compaction import compact
from tests.crashes import Crash, dying_at
from tests.embedders.endpoint import Endpoint
from tests.generations import texts_in
from tests.transforms.oracle import Arrival, State, chunks_of, deletion, deletions_of, to_embed, word_of
from tests.transforms.publishing.test_accounting import line_of
from tests.transforms.runs import (
    head_of,
    ingest_job,
    reembed_directly,
    run_directly,
    small_collection,
    split_of_lines,
)
from tests.transforms.test_histories import change_of
from tierloom.canary_check import check_model
from tierloom.commit import commit
from tierloom.manifest import Manifest
from tierloom.stores.opening import open_store
from tierloom.versions import read_checkpoint, read_manifest
from transforms.base import _bases, _versions
from transforms.micro_batch import MicroBatches
from transforms.streams.stream import Batch

ARRIVALS = st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 4))
EVENTS = st.lists(st.one_of(ARRIVALS, ARRIVALS, ARRIVALS.map(deletion)), min_size=1, max_size=6)
CRASHES = st.none() | st.tuples(st.integers(1, 120), st.booleans())


class Generations(RuleBasedStateMachine):
    """Changes, parts of a re-embedding, crashes, runs that began before, flips and retirements, against one dict."""

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.url = str(self.root / "store")
        self.store = open_store(self.url)
        self.endpoint = Endpoint(16).__enter__()
        small_collection(self.url, self.endpoint, block_chunks=8, shard_rows=6, tiers=(8, 16))
        self.state = State()
        self.states = {0: self.state}
        self.batches: MicroBatches | None = None
        self.pays_again = False
        self.numbers = itertools.count()

    @rule(events=EVENTS)
    def ingest(self, events: list[Arrival]) -> None:
        self._ingest(events, head_of(self.url).version)

    @precondition(lambda self: head_of(self.url).version > 1)
    @rule(events=EVENTS, behind=st.integers(1, 5))
    def ingest_that_began_before(self, events: list[Arrival], behind: int) -> None:
        """Also before the generation began, or while one was there that is no more."""
        base = max(0, head_of(self.url).version - behind)
        known = read_manifest(self.store, base).checkpoints
        if set(known) & set(head_of(self.url).checkpoints):
            self.pays_again = True
            self._ingest(events, base)

    @rule(events=EVENTS, crash=CRASHES)
    def stream(self, events: list[Arrival], crash: tuple[int, bool] | None) -> None:
        after = self._after(events, self.state)
        batch, run = Batch(tuple(map(change_of, events))), uuid.uuid4().hex
        self._step(lambda: self._open().publish(batch, run, None), crash, after)

    @precondition(lambda self: head_of(self.url).other is None)
    @rule()
    def begin(self) -> None:
        head = head_of(self.url)
        old = read_checkpoint(self.store, head.checkpoint)
        space = msgspec.structs.replace(old.space, document_prompt=f"{next(self.numbers)}: ")
        checkpoint = msgspec.structs.replace(old, space=space)
        chunking = head.collection.chunking.as_cut_by(old)
        collection = msgspec.structs.replace(head.collection, checkpoint=checkpoint.fingerprint, chunking=chunking)
        check_model(self.store, checkpoint)
        begin_generation(self.store, checkpoint, collection)

    @precondition(lambda self: bool(incomplete(head_of(self.url))))
    @rule(crash=CRASHES)
    def part(self, crash: tuple[int, bool] | None) -> None:
        (target,) = incomplete(head_of(self.url))
        self._step(lambda: self._build(target.checkpoint), crash, self.state)

    @precondition(lambda self: bool(incomplete(head_of(self.url))))
    @rule()
    def finish(self) -> None:
        while left := incomplete(head_of(self.url)):
            self._build(left[0].checkpoint)

    def _build(self, checkpoint: str) -> None:
        # Who crashed may have published it.
        if not head_of(self.url).of(checkpoint).is_complete:
            reembed_directly(self.url, checkpoint)

    @precondition(lambda self: len(head_of(self.url).generations) == 2 and not incomplete(head_of(self.url)))
    @rule()
    def flip(self) -> None:
        commit(self.store, lambda head: successor(head.turned(head.other), head) if head.other else None)

    @precondition(lambda self: len(head_of(self.url).generations) == 2 and head_of(self.url).is_complete)
    @rule()
    def retire(self) -> None:
        commit(self.store, lambda head: successor(msgspec.structs.replace(head, other=None), head))

    @rule(crash=CRASHES)
    def compact(self, crash: tuple[int, bool] | None) -> None:
        self._step(lambda: compact(self.store, apart=False), crash, self.state)

    def _ingest(self, events: list[Arrival], base: int) -> None:
        after = self._after(events, self.states[base])
        path = self.root / f"{next(self.numbers)}.jsonl"
        run_directly(ingest_job(self.url, base), [split_of_lines(path, list(map(line_of, events)))])
        self.state = after

    def _after(self, events: list[Arrival], base: State) -> State:
        rows = [chunk for arrival in to_embed(events, base) for chunk in chunks_of(arrival)]
        return self.state.settled(rows, (), deletions_of(events))

    def _open(self) -> MicroBatches:
        if self.batches is None:
            self.batches = MicroBatches(replace(ingest_job(self.url), base=None))
        return self.batches

    def _close(self) -> None:
        """A new process would have nothing open."""
        if self.batches:
            self.batches.close()
        self.batches = None
        _bases.cache_clear()
        _versions.cache_clear()

    def _step(self, work: Callable[[], object], crash: tuple[int, bool] | None, after: State) -> None:
        """Do it, or crash in the midst of it, and then do it again."""
        if crash:
            try:
                with dying_at(*crash):
                    work()
            except Crash:
                self.pays_again = True
                self._close()
        work()
        self.state = after

    @invariant()
    def both_generations_hold_what_they_should(self) -> None:
        if not hasattr(self, "state"):
            return
        head = head_of(self.url)
        for version in range(max(self.states) + 1, head.version + 1):
            self.states[version] = self.state
        for generation in head.generations:
            self._is_as_it_should_be(generation)
        assert audit(self.store).problems == ()

    def _is_as_it_should_be(self, generation: Manifest) -> None:
        live = texts_in(self.url, generation)
        assert live == {chunk: word_of(chunk) for chunk in live}
        if generation.is_complete:
            assert live.keys() == self.state.chunks
            return
        for document_id, sequence, _ in live:
            # It may be behind, but has nothing that was deleted, and of no document a part.
            assert sequence <= self.state.live[document_id][0]
        assert live.keys() == {chunk for arrival in {chunk[:2] for chunk in live} for chunk in chunks_of(arrival)}

    @invariant()
    def nothing_is_paid_for_twice(self) -> None:
        """Unless something crashed, or a run did not know what others had embedded since it began."""
        if hasattr(self, "state") and not self.pays_again:
            assert set(self.endpoint.billed.values()) <= {1}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self._close()
            self.endpoint.__exit__(None, None, None)
            self.folder.cleanup()


def incomplete(head: Manifest) -> list[Manifest]:
    return [generation for generation in head.generations if not generation.is_complete]


def successor(changed: Manifest, head: Manifest) -> Manifest:
    return msgspec.structs.replace(changed, version=head.version + 1)


TestGenerations = pytest.mark.timeout(600)(pytest.mark.slow(Generations.TestCase))
TestGenerations.settings = settings(
    max_examples=int(os.environ.get("TIERLOOM_HISTORIES", "12")),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
