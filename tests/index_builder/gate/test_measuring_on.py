"""Measuring what is new gives what measuring everything gives: whatever was put, deleted, merged or forgotten."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from index_builder.gate import asking, exact, nearest, quality
from index_builder.gate.answers import Answers
from index_builder.gate.asking import Asked, Asking
from index_builder.gate.recall_gate import RecallGate
from index_builder.gate.sample import Sample, drawn_sample
from index_builder.upkeep.compaction import compact
from tests.index_builder.upkeep.living import Living
from tierloom.collection import Sizes
from tierloom.column_files import ColumnFiles
from tierloom.gate import TOP
from tierloom.manifest import IndexShard, Manifest
from tierloom.search import TierShard
from tierloom.shards.live import LiveShard
from tierloom.stores.local import LocalStore

pytestmark = pytest.mark.slow

NAMES = st.sampled_from([f"doc-{at}" for at in range(12)])


def not_opened(shard: IndexShard) -> TierShard:
    raise AssertionError(f"{shard.path} is small: it is scanned")


class Measuring(RuleBasedStateMachine):
    """One sample, asked on from version to version, against the same sample asked of each version anew."""

    @initialize()
    def begin(self) -> None:
        self._folder = TemporaryDirectory()
        self._living = Living(LocalStore(Path(self._folder.name)), Sizes(4, 8, 16))
        self._living.put({f"doc-{at}": 3 for at in range(8)})
        self._sample = drawn_sample(self._shards(self._living.head), 6, seed=5)
        self._asked = self._ask(None)

    def teardown(self) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    @rule(chunks=st.dictionaries(NAMES, st.integers(1, 4), min_size=1, max_size=4))
    def put(self, chunks: dict[str, int]) -> None:
        self._living.put(chunks)

    @rule(gone=st.sets(NAMES, min_size=1, max_size=3))
    def delete(self, gone: set[str]) -> None:
        self._living.delete(gone)

    @rule()
    def merge(self) -> None:
        compact(self._living.store, apart=False)

    @rule()
    def forget(self) -> None:
        """Another process goes on with what is stored."""
        self._asked = Asked(
            Answers.from_bytes(self._asked.answers.to_bytes(), "answers"), self._asked.vectors, self._asked.present
        )

    @rule()
    def measure(self) -> None:
        self._asked = self._ask(self._asked.answers)

    @invariant()
    def equals_asking_anew(self) -> None:
        if not self._living.head.live_chunks:
            return
        on, anew = self._ask(self._asked.answers), self._ask(None)
        kept = on.present
        assert (anew.present | ~kept).all()
        for mine, true in zip(self._bests(on, kept), self._bests(anew, kept), strict=True):
            assert mine == pytest.approx(true, abs=1e-5)
        for name, tier in on.answers.tiers.items():
            for mine, true in zip(
                _lists(tier.nearest, kept), _lists(anew.answers.tiers[name].nearest, kept), strict=True
            ):
                # What died is made up for by asking on, unless it is little.
                assert mine == pytest.approx(true[: len(mine)], abs=1e-5)
                assert len(mine) >= 0.9 * len(true) - 1

    def _bests(self, asked: Asked, kept: Any) -> list[list[float]]:
        return [one[:TOP] for one in _lists(asked.answers.exact, kept)]

    def _ask(self, before: Answers | None) -> Asked:
        head = self._living.head
        return Asking(head, self._shards(head), self._sample, not_opened).after(before)

    def _shards(self, head: Manifest) -> list[LiveShard]:
        files = ColumnFiles(self._living.store)
        return [LiveShard(shard, files) for shard in head.vector_shards]


def _lists(ranked: Any, kept: Any) -> list[list[float]]:
    chosen = ranked.of(kept)
    return [scores[np.isfinite(scores)].tolist() for scores in chosen.scores]


@pytest.mark.parametrize("few", [14, 100])
def test_measuring_on_equals_measuring_anew(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Also where so few answers are kept that they run out."""
    for module in (asking, exact, quality):
        monkeypatch.setattr(module, "KEPT", few)
    run_state_machine_as_test(Measuring, settings=settings(max_examples=15, stateful_step_count=12, deadline=None))


def test_answers_come_back_from_their_bytes(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path))
    head = living.put({"a": 3, "b": 4})
    shards = [LiveShard(shard, ColumnFiles(living.store)) for shard in head.vector_shards]
    sample = drawn_sample(shards, 5, seed=0)
    answers = Asking(head, shards, sample, not_opened).after(None).answers
    again = Answers.from_bytes(answers.to_bytes(), "answers")
    assert again.to_bytes() == answers.to_bytes()
    assert Sample.from_bytes(sample.to_bytes(), "sample").to_bytes() == sample.to_bytes()
    assert again.tiers["8"].nearest.width == nearest.MOST


def test_a_sample_is_drawn_anew_when_the_collection_has_doubled(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path))
    gate = RecallGate(ColumnFiles(living.store))

    def sample_after(manifest: Manifest, before: Manifest | None) -> tuple[Manifest, str]:
        carried = msgspec.structs.replace(manifest, gate=before.gate if before else None)
        measured = gate.measured(carried, carried if before is None else before)
        assert measured.gate is not None
        return measured, measured.gate.sample.path

    first, drawn = sample_after(living.put({"a": 4, "b": 4}), None)
    second, same = sample_after(living.put({"c": 4}), first)
    _, anew = sample_after(living.put({"d": 4}), second)
    assert same == drawn
    assert anew != drawn
