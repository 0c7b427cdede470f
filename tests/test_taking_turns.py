"""A turn that is held while time passes: renewed by its thread, waited for by others."""

import threading
from datetime import timedelta
from pathlib import Path
from queue import Queue

import pytest

from tierloom import taking_turns
from tierloom.errors import StoreError, TurnHeld, TurnLost
from tierloom.lease import CLOCK_SKEW
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision
from tierloom.taking_turns import Turn
from tierloom.turn import Term, TurnRecord, read_turn, take_turn

SHORT = Term(duration=timedelta(milliseconds=40), skew=timedelta())


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def record(store: LocalStore) -> TurnRecord:
    seen = read_turn(store, "gc")
    assert seen is not None
    return seen[0]


class Swaps:
    """Counts the swaps of turns, lets a test wait for them, and fails those that it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.failing = False
        self._changed = threading.Condition()
        swap = LocalStore.swap

        def watched(store: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
            try:
                if self.failing:
                    raise StoreError("out of reach")
                return swap(store, name, data, expected)
            finally:
                with self._changed:
                    self.count += 1
                    self._changed.notify_all()

        monkeypatch.setattr(LocalStore, "swap", watched)

    def wait_for_more(self, count: int) -> None:
        with self._changed:
            until = self.count + count
            assert self._changed.wait_for(lambda: self.count >= until, timeout=30)


def test_it_is_held_until_it_is_closed(store: LocalStore) -> None:
    with Turn(store, "gc") as turn:
        turn.check()
        turn.check_now()
        with pytest.raises(TurnHeld, match=r"pid \d+ is at gc since"):
            Turn(store, "gc")
        assert not record(store).ended
    assert record(store).ended
    with Turn(store, "gc") as turn:
        assert turn.fence.number == 2


def test_a_failure_lets_go_of_it_too(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), Turn(store, "gc"):
        raise ZeroDivisionError
    assert record(store).ended


def test_it_is_renewed_in_the_background(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    swaps = Swaps(monkeypatch)
    with Turn(store, "gc", term=SHORT) as turn:
        began = record(store)
        swaps.wait_for_more(4)
        assert record(store).expires > began.expires
        turn.check_now()
        assert record(store).token == began.token


def test_a_store_out_of_reach_is_asked_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    swaps = Swaps(monkeypatch)
    with Turn(store, "gc", term=SHORT) as turn:
        swaps.failing = True
        swaps.wait_for_more(3)
        swaps.failing = False
        swaps.wait_for_more(2)
        turn.check_now()


def test_who_lost_it_must_do_nothing_more(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the machine slept: its clock has gone on, and another has begun."""
    with Turn(store, "gc") as turn:
        take_turn(store, "gc", "other", record(store).expires + CLOCK_SKEW.total_seconds() + 1)
        # Until its own clock says so, it need not ask.
        turn.check()
        now = taking_turns._clock()
        monkeypatch.setattr(taking_turns, "_clock", lambda: now + 121)
        with pytest.raises(TurnLost, match="other has taken over gc"):
            turn.check()
        with pytest.raises(TurnLost, match="other has taken over gc"):
            turn.check_now()
    assert not record(store).ended


def test_that_it_is_lost_is_told_at_once(store: LocalStore) -> None:
    told: Queue[TurnLost] = Queue()
    with Turn(store, "gc", term=SHORT, lost=told.put):
        take_turn(store, "gc", "other", record(store).expires + 3600)
        assert "other has taken over gc" in str(told.get(timeout=30))


def test_one_waits_for_the_other(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_turns, "_LOOK_SECONDS", 0.01)
    said: list[TurnHeld] = []
    first = Turn(store, "gc")

    def hear(held: TurnHeld) -> None:
        said.append(held)
        first.close()

    with Turn(store, "gc", wait=timedelta(minutes=1), waiting=hear) as second:
        assert second.fence.number == 2
    assert len(said) == 1


def test_who_waits_in_vain_is_told_after_his_time(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_turns, "_LOOK_SECONDS", 0.01)
    said: list[TurnHeld] = []
    with Turn(store, "gc"):
        with pytest.raises(TurnHeld):
            Turn(store, "gc", wait=timedelta(milliseconds=50), waiting=said.append)
        assert len(said) == 1
