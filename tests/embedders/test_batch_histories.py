"""Any history of failures and crashes ends with each input having its vector or its rejection, each paid for once."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crashes import METHODS, Calls, Crash
from tests.embedders.batch_server import BatchServer, Fate
from tests.embedders.conftest import bounds, checkpoint_at
from tests.embedders.endpoint import vector_of
from tierloom import names
from tierloom.checkpoint import Limits
from tierloom.digest import digest_of
from tierloom.embedders import gathering
from tierloom.embedders.batch_lane import BatchLane
from tierloom.embedders.openai_batches import OpenAIBatches
from tierloom.errors import BatchCancelled
from tierloom.stores.local import LocalStore

TEXTS = [f"text {n}" for n in range(14)]
POISON = frozenset({"text 3", "text 9"})
LIMITS = Limits(inputs_per_request=3)
PROVIDER = ("upload", "create", "look", "find", "files_named", "fetch", "delete")

# What becomes of a request that has this text, one time after the other; after that it is answered.
misfortunes = st.lists(st.sampled_from(["expired", "missing", 429, 500]), max_size=2)


@contextmanager
def dying_at(last: int, late: bool) -> Iterator[Calls]:
    """Within, the `last` call to the store or the provider crashes, before or after it is carried out."""
    calls = Calls(last, late)
    with ExitStack() as patches:
        for kind, methods in ((LocalStore, METHODS), (OpenAIBatches, PROVIDER)):
            for name in methods:
                patches.enter_context(mock.patch.object(kind, name, calls.wrap(getattr(kind, name))))
        yield calls


class World:
    """What outlives a crash: the provider, the store, and the outcomes that were stored."""

    def __init__(self, server: BatchServer, folder: Path) -> None:
        self.server = server
        self.store = LocalStore(folder)
        self.outcomes: dict[str, np.ndarray | str] = {}

    def live(self, size: int, at_once: int) -> None:
        """A run over all that is not stored, in vector shards of `size`."""
        lane = BatchLane(checkpoint_at(self.server.base_url, limits=LIMITS), self.store, at_once, sleep=lambda _: None)
        try:
            self._embed(lane, self._shards(size))
            lane.finish()
        finally:
            lane.close()

    def _shards(self, size: int) -> dict[str, list[str]]:
        left = [text for text in TEXTS if text not in self.outcomes]
        parts = [left[at : at + size] for at in range(0, len(left), size)]
        return {digest_of("shard", part): part for part in parts}

    def _embed(self, lane: BatchLane, shards: dict[str, list[str]]) -> None:
        for shard, texts in shards.items():
            lane.want(shard, lane.to_send(texts, bounds(texts)).values())
        while shards:
            for shard, texts in list(shards.items()):
                wanted = lane.to_send(texts, bounds(texts))
                if (standing := lane.standing(wanted)) == "open":
                    lane.want(shard, wanted.values())
                if standing == "settled":
                    self._store(lane, shard, shards.pop(shard))
            lane.check()
            if shards and not lane.send():
                lane.wait()

    def _store(self, lane: BatchLane, shard: str, texts: Sequence[str]) -> None:
        embedded = lane.embed(texts, bounds(texts))
        try:
            self.store.create(names.vector_shard(shard), b"stored")
        finally:
            # It is stored, whether or not whoever did it lived to know.
            if (self.store.root / names.vector_shard(shard)).exists():
                for at, text in enumerate(texts):
                    rejected = embedded.rejected.get(at)
                    self.outcomes[text] = rejected.reason if rejected else embedded.vectors[at]
        lane.stored(shard)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    fates=st.dictionaries(st.sampled_from(TEXTS), misfortunes, max_size=6),
    crashes=st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=5),
    sizes=st.lists(st.integers(1, 14), min_size=1, max_size=6),
    at_once=st.integers(1, 3),
    per_batch=st.sampled_from([4, 7, 50]),
    cancelled=st.sets(st.integers(1, 6), max_size=1),
    seed=st.integers(0, 1 << 16),
)
def test_every_history_ends_well(
    fates: dict[str, list[Fate]],
    crashes: list[tuple[int, bool]],
    sizes: list[int],
    at_once: int,
    per_batch: int,
    cancelled: set[int],
    seed: int,
) -> None:
    left = {text: list(misfortune) for text, misfortune in fates.items()}

    def fate(texts: list[str]) -> Fate:
        if POISON.intersection(texts):
            return 400
        return next((left[text].pop(0) for text in texts if left.get(text)), "answered")

    with (
        BatchServer(seed=seed) as server,
        TemporaryDirectory() as folder,
        mock.patch.object(gathering, "MAX_INPUTS", per_batch),
    ):
        server.fate = fate
        server.ending = lambda batch: "cancelled" if list(server.batches).index(batch.id) + 1 in cancelled else None
        world = World(server, Path(folder))
        for at, (last, late) in enumerate(crashes):
            with dying_at(last, late), suppress(Crash, BatchCancelled):
                world.live(sizes[at % len(sizes)], at_once)
        # The run that is told of a cancelled batch is not the last.
        for _ in (*cancelled, None):
            with suppress(BatchCancelled):
                world.live(sizes[-1], at_once)
        assert_all_is_well(world)


def assert_all_is_well(world: World) -> None:
    world.server.run_out()
    assert {text for text, outcome in world.outcomes.items() if isinstance(outcome, str)} == POISON
    for text in set(TEXTS) - POISON:
        assert np.array_equal(world.outcomes[text], vector_of(text, 16))
        assert world.server.billed[text] == 1
    assert not world.server.violations


@pytest.mark.slow
def test_a_crash_at_any_call_costs_nothing() -> None:
    """Between any two calls to the store or the provider, or with a call that was carried out and never answered."""
    reached = True
    for last in itertools.count(1):
        if not reached:
            break
        for late in (False, True):
            with BatchServer() as server, TemporaryDirectory() as folder:
                server.fate = lambda texts: 400 if POISON.intersection(texts) else "answered"
                world = World(server, Path(folder))
                with dying_at(last, late) as calls, suppress(Crash):
                    world.live(5, 2)
                reached = calls.crashed
                # Otherwise cut than before.
                world.live(4, 2)
                assert_all_is_well(world)
    assert last > 30
