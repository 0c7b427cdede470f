"""Flips: a channel goes from one generation to the other, and no query meets vectors of another checkpoint."""

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

import tierloom
from tests.embedders.endpoint import Asked, Endpoint, Reply, error, items
from tests.embedders.endpoint import answer as proper
from tests.two_generations import QUESTIONS, SHIFT, asked_checkpoints, asked_generations, query_vector, question
from tierloom.channel import move_channel, read_channel
from tierloom.checkpoint import Checkpoint
from tierloom.errors import CheckpointError, CheckpointMismatch, Corrupt, FlipRefused
from tierloom.following import Follower
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.stores.local import LocalStore

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=32) as served:
        yield served


@pytest.fixture
def checkpoints(endpoint: Endpoint) -> tuple[Checkpoint, Checkpoint]:
    return asked_checkpoints(endpoint.base_url)


@pytest.fixture
def store(tmp_path: Path, checkpoints: tuple[Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """`prod` serves the old generation of version 1."""
    monkeypatch.setenv("TIERLOOM_TEST_KEY", KEY)
    store = LocalStore(tmp_path / "store")
    asked_generations(store, *checkpoints)
    promote(store, 1, "prod")
    return store


@pytest.fixture
def follower(store: LocalStore) -> Iterator[Follower]:
    with tierloom.follow(store.root, poll=False) as follower:
        yield follower


def flip(store: LocalStore, checkpoint: Checkpoint) -> None:
    promote(store, 1, "prod", checkpoint=checkpoint.fingerprint)


def assert_answered(answer: tierloom.Answer, at: int, checkpoints: tuple[Checkpoint, Checkpoint]) -> None:
    """By the generation that the answer states, and by nothing of the other."""
    old, _ = checkpoints
    shift = 0 if answer.checkpoint == old.fingerprint else SHIFT
    assert answer[0].document_id == f"{(at + shift) % QUESTIONS}"
    assert answer[0].score > 0.99


def test_a_flip_takes_the_model_with_it(
    store: LocalStore, follower: Follower, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    old, new = checkpoints
    for moves, checkpoint in ((False, old), (True, new), (True, old)):
        flip(store, checkpoint)
        assert follower.check() is moves
        assert (follower.version, follower.checkpoint, follower.last_error) == (1, checkpoint.fingerprint, None)
        answer = follower.search(question(3))
        assert answer.checkpoint == checkpoint.fingerprint
        assert_answered(answer, 3, checkpoints)


def test_a_query_stays_on_its_generation(
    store: LocalStore, follower: Follower, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    with follower.pinned() as pinned:
        flip(store, checkpoints[1])
        assert follower.check()
        assert_answered(pinned.search(question(5)), 5, checkpoints)
        assert pinned.manifest.checkpoint == checkpoints[0].fingerprint
    assert_answered(follower.search(question(5)), 5, checkpoints)


def test_a_vector_of_the_other_space_is_refused(
    store: LocalStore, follower: Follower, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    old, new = checkpoints
    vector = query_vector(2, old)
    assert_answered(follower.search(vector, checkpoint=old.fingerprint), 2, checkpoints)
    flip(store, new)
    follower.check()
    with pytest.raises(CheckpointMismatch, match=f"is of checkpoint {old.fingerprint}, the collection of"):
        follower.search(vector, checkpoint=old.fingerprint)
    assert_answered(follower.search(query_vector(2, new), checkpoint=new.fingerprint), 2, checkpoints)


def test_a_generation_is_opened_by_its_model_or_fingerprint(
    store: LocalStore, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    for name in (checkpoints[1].space.model, checkpoints[1].fingerprint, checkpoints[1].fingerprint[:6]):
        with tierloom.open(store.root, channel="prod", checkpoint=name, lease=timedelta(minutes=1)) as snapshot:
            answer = snapshot.search(question(1))
        assert answer.checkpoint == checkpoints[1].fingerprint
        assert_answered(answer, 1, checkpoints)
    with pytest.raises(CheckpointError, match=r"no generation 'other'; it has small-test-model \(.*another-test-model"):
        tierloom.open(store.root, checkpoint="other")
    with pytest.raises(CheckpointError, match="''"):
        tierloom.open(store.root, checkpoint="")


def test_what_the_channel_serves_is_opened(store: LocalStore, checkpoints: tuple[Checkpoint, Checkpoint]) -> None:
    flip(store, checkpoints[1])
    for lease in (None, timedelta(minutes=1)):
        with tierloom.open(store.root, channel="prod", lease=lease) as snapshot:
            assert snapshot.manifest.checkpoint == checkpoints[1].fingerprint
    with tierloom.open(store.root) as snapshot:
        assert snapshot.manifest.checkpoint == checkpoints[0].fingerprint


def no_key(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> str:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "sk-\u00e9")
    return "TIERLOOM_TEST_KEY holds no API key"


def wrong_key(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> str:
    endpoint.script = lambda asked: error(401, "no such key") if "new: " in asked.inputs[0] else None
    return "HTTP 401: no such key"


def other_model(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> str:
    def other_dimensions(asked: Asked) -> Reply | None:
        return proper(items(asked.inputs, 16)) if "new: " in asked.inputs[0] else None

    endpoint.script = other_dimensions
    return "16"


@pytest.mark.parametrize("cause", [no_key, wrong_key, other_model])
def test_a_fleet_that_cannot_embed_for_the_new_checkpoint_refuses_the_flip_by_name(
    store: LocalStore,
    follower: Follower,
    endpoint: Endpoint,
    checkpoints: tuple[Checkpoint, Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
    cause: Callable[[pytest.MonkeyPatch, Endpoint], str],
) -> None:
    said = cause(monkeypatch, endpoint)
    flip(store, checkpoints[1])
    for at in range(3):
        assert follower.check() is False
        assert_answered(follower.search(question(at)), at, checkpoints)
        assert follower.checkpoint == checkpoints[0].fingerprint
    assert isinstance(follower.last_error, FlipRefused)
    told = str(follower.last_error)
    assert f"channel prod names another-test-model ({checkpoints[1].fingerprint[:8]}) in version 1" in told
    assert said in told
    assert f"small-test-model ({checkpoints[0].fingerprint[:8]}) is served on" in told
    assert KEY not in told
    monkeypatch.setenv("TIERLOOM_TEST_KEY", KEY)
    endpoint.script = None
    assert follower.check()
    assert follower.last_error is None
    assert_answered(follower.search(question(1)), 1, checkpoints)


def test_a_missing_extra_is_named(
    tmp_path: Path, checkpoints: tuple[Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = msgspec.structs.replace(checkpoints[1].space, provider="wordllama", model="l2_supercat")
    new = msgspec.structs.replace(checkpoints[1], space=space)
    store = LocalStore(tmp_path / "store")
    asked_generations(store, checkpoints[0], new)
    promote(store, 1, "prod")
    with tierloom.follow(store.root, poll=False) as follower:
        flip(store, new)
        monkeypatch.setitem(sys.modules, "tierloom.embedders.wordllama", None)
        assert follower.check() is False
        assert isinstance(follower.last_error, FlipRefused)
        assert "the model l2_supercat needs an optional dependency: pip install 'tierloom[local]'" in str(
            follower.last_error
        )


def test_a_fleet_that_is_asked_by_vectors_alone_needs_no_model(
    store: LocalStore,
    endpoint: Endpoint,
    checkpoints: tuple[Checkpoint, Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = checkpoints
    monkeypatch.setenv(old.endpoint.api_key_env, "sk-\u00e9")
    monkeypatch.setenv(new.endpoint.api_key_env, "sk-\u00e9")
    with tierloom.follow(store.root, poll=False) as follower:
        flip(store, new)
        assert follower.check()
        assert_answered(follower.search(query_vector(2, new), checkpoint=new.fingerprint), 2, checkpoints)
    assert endpoint.requests == 0


def test_a_model_is_tried_once_however_long_its_generation_cannot_be_opened(
    store: LocalStore, follower: Follower, endpoint: Endpoint, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    flip(store, checkpoints[1])
    with tierloom.open(store.root, checkpoint=checkpoints[1].fingerprint) as snapshot:
        path = store.root / snapshot.manifest.vector_shards[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"!" + whole[-8:])
    for _ in range(4):
        assert follower.check() is False
        assert isinstance(follower.last_error, Corrupt)
    assert endpoint.requests == 1
    path.write_bytes(whole)
    assert follower.check()
    assert endpoint.requests == 1
    assert_answered(follower.search(question(4)), 4, checkpoints)


def test_a_flip_that_is_taken_back_meanwhile_is_no_failure(
    store: LocalStore, follower: Follower, endpoint: Endpoint, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    wrong_key(pytest.MonkeyPatch(), endpoint)
    flip(store, checkpoints[1])
    follower.check()
    assert follower.last_error
    rollback(store, "prod")
    assert follower.check() is False
    assert follower.last_error is None
    assert follower.checkpoint == checkpoints[0].fingerprint


def test_latest_flips_by_a_version(store: LocalStore, checkpoints: tuple[Checkpoint, Checkpoint]) -> None:
    with tierloom.follow(store.root, "latest", poll=False) as follower:
        for version, checkpoint in ((2, checkpoints[1]), (3, checkpoints[0])):
            promote(store, "latest", "latest", checkpoint=checkpoint.fingerprint)
            assert follower.check()
            assert (follower.version, follower.checkpoint) == (version, checkpoint.fingerprint)
            assert_answered(follower.search(question(6)), 6, checkpoints)


def test_a_channel_that_names_no_generation_serves_the_front(
    store: LocalStore, follower: Follower, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    flip(store, checkpoints[1])
    follower.check()
    move_channel(store, "prod", 1, read_channel(store, "prod"))
    assert follower.check()
    assert follower.checkpoint == checkpoints[0].fingerprint


class _Asking:
    """Asks by text and by vector until it is stopped; `seen` are the checkpoints that answered."""

    def __init__(self, follower: Follower, checkpoints: tuple[Checkpoint, Checkpoint]) -> None:
        self.seen: set[str] = set()
        self.stop = threading.Event()
        self._follower = follower
        self._checkpoints = checkpoints

    def ask(self, seed: int) -> None:
        for at in itertools.islice(itertools.cycle(range(QUESTIONS)), seed, None):
            if self.stop.is_set():
                return
            self._by_text(at)
            with contextlib.suppress(CheckpointMismatch):
                self._by_vector(at, self._checkpoints[at % 2])

    def _by_text(self, at: int) -> None:
        answers = self._follower.search_many([question(at)] * 2, tier=(4, 8, 16)[at % 3], shortlist=QUESTIONS)
        assert len({answer.checkpoint for answer in answers}) == 1
        for answer in answers:
            assert_answered(answer, at, self._checkpoints)
        self.seen.add(answers[0].checkpoint)

    def _by_vector(self, at: int, mine: Checkpoint) -> None:
        answer = self._follower.search(query_vector(at, mine), checkpoint=mine.fingerprint)
        assert answer.checkpoint == mine.fingerprint
        assert_answered(answer, at, self._checkpoints)


@pytest.mark.slow
def test_no_query_is_answered_across_two_checkpoints(
    store: LocalStore, checkpoints: tuple[Checkpoint, Checkpoint]
) -> None:
    """Threads ask while the channel flips back and forth."""
    with tierloom.follow(store.root, poll=False) as follower, ThreadPoolExecutor(4) as pool:
        asking = _Asking(follower, checkpoints)
        threads = [pool.submit(asking.ask, seed) for seed in range(4)]
        try:
            for at in range(40):
                flip(store, checkpoints[(at + 1) % 2])
                assert follower.check()
                assert follower.last_error is None
        finally:
            asking.stop.set()
        for thread in threads:
            thread.result()
    assert asking.seen == {checkpoint.fingerprint for checkpoint in checkpoints}
