import threading
from collections.abc import Callable

import pytest

from pipelines.streaming import patience
from pipelines.streaming.patience import patiently, said_when_slow
from tierloom.errors import (
    CommitConflict,
    Corrupt,
    EmbedderRefused,
    EmbedderUnavailable,
    NotFound,
    PreconditionsIgnored,
    SourceHeld,
    StoreError,
    TierloomError,
)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_SECONDS", 0.002)


def failing(error: TierloomError, times: int) -> Callable[[], str]:
    left = [error] * times

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    return work


@pytest.mark.parametrize(
    "error",
    [StoreError("no route"), NotFound("retired"), EmbedderUnavailable("503"), CommitConflict("lost races")],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_tried_again_and_said(error: TierloomError) -> None:
    said: list[str] = []
    assert patiently(failing(error, 3), 60.0, threading.Event(), said.append) == "done"
    assert len(said) == 3
    assert all(line.startswith(f"waiting: {error}; trying again in ") for line in said)


@pytest.mark.parametrize(
    "error",
    [SourceHeld("by another"), PreconditionsIgnored("by the store"), EmbedderRefused("no key"), Corrupt("damaged")],
    ids=lambda error: type(error).__name__,
)
def test_what_will_not_pass_ends_at_once(error: TierloomError) -> None:
    said: list[str] = []
    with pytest.raises(type(error), match=str(error)):
        patiently(failing(error, 1), 60.0, threading.Event(), said.append)
    assert said == []


def test_it_ends_when_patience_does() -> None:
    said: list[str] = []
    with pytest.raises(StoreError, match="no route"):
        patiently(failing(StoreError("no route"), 1 << 20), 0.05, threading.Event(), said.append)
    assert said


def test_one_who_is_to_stop_waits_no_longer() -> None:
    stop = threading.Event()
    with pytest.raises(StoreError, match="no route"):
        patiently(failing(StoreError("no route"), 1 << 20), 3600.0, stop, lambda _: stop.set())


def test_what_takes_long_is_said_once() -> None:
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    with said_when_slow(say, 0.01):
        assert told.wait(60)
    assert said == ["still publishing after 0 s: the store or the model is slow"]


def test_what_is_done_in_time_is_not_said() -> None:
    said: list[str] = []
    with said_when_slow(said.append, 3600.0):
        pass
    assert said == []
