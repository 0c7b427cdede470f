"""One holder at a time, told by the rules alone: every moment is given, none passes."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tierloom import names
from tierloom.errors import Corrupt, RevisionMismatch, StoreError, TurnHeld, TurnLost
from tierloom.living import ProcessMark, is_gone, this_process_mark
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision
from tierloom.turn import Fence, Term, TurnRecord, check_turn, end_turn, read_turn, renew_turn, take_turn

TERM = Term(duration=timedelta(seconds=60), skew=timedelta(seconds=10))
NOON = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def record(store: LocalStore, deed: str = "gc") -> TurnRecord:
    seen = read_turn(store, deed)
    assert seen is not None
    return seen[0]


def test_the_second_is_told_who_and_since_when(store: LocalStore) -> None:
    take_turn(store, "gc", "first pid 7", NOON, TERM)
    with pytest.raises(TurnHeld) as told:
        take_turn(store, "gc", "second", NOON + 59, TERM)
    said = str(told.value)
    assert "first pid 7 is at gc since 2023-11-14T22:13:20Z; nothing was done" in said
    assert "--wait" in said
    assert "taken over after 2023-11-14T22:14:30Z" in said
    assert record(store).holder == "first pid 7"


def test_turns_to_other_deeds_are_others(store: LocalStore) -> None:
    take_turn(store, "gc", "me", NOON, TERM)
    assert take_turn(store, "compact", "me", NOON, TERM).number == 1


def test_one_that_was_let_go_is_free_at_once_and_its_number_rises(store: LocalStore) -> None:
    first = take_turn(store, "gc", "first", NOON, TERM)
    end_turn(store, first)
    assert take_turn(store, "gc", "second", NOON, TERM).number == first.number + 1
    with pytest.raises(TurnLost, match="second has taken over gc at 2023"):
        check_turn(store, first, NOON, TERM)


def test_it_is_free_only_when_every_clock_says_so(store: LocalStore) -> None:
    take_turn(store, "gc", "first", NOON, TERM)
    with pytest.raises(TurnHeld):
        take_turn(store, "gc", "second", NOON + 70, TERM)
    assert take_turn(store, "gc", "second", NOON + 70.1, TERM).number == 2


def test_renewing_moves_the_end(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "first", NOON, TERM)
    assert renew_turn(store, fence, NOON + 50, TERM) == NOON + 110
    with pytest.raises(TurnHeld):
        take_turn(store, "gc", "second", NOON + 119, TERM)


def test_a_clock_that_is_behind_does_not_shorten_it(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "first", NOON, TERM)
    assert renew_turn(store, fence, NOON - 30, TERM) == NOON + 60


def test_one_that_ran_out_and_that_nobody_took_is_held_again_by_a_check(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "sleeper", NOON, TERM)
    check_turn(store, fence, NOON + 3600, TERM)
    with pytest.raises(TurnHeld):
        take_turn(store, "gc", "second", NOON + 3610, TERM)


def test_a_check_that_is_early_enough_writes_nothing(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "first", NOON, TERM)
    check_turn(store, fence, NOON + 29, TERM)
    assert record(store).serial == 0
    check_turn(store, fence, NOON + 31, TERM)
    assert record(store).serial == 1


@pytest.mark.parametrize("ask", [check_turn, renew_turn])
def test_who_slept_through_it_is_told_who_took_over(
    store: LocalStore, ask: Callable[[LocalStore, Fence, float, Term], object]
) -> None:
    slept = take_turn(store, "gc", "sleeper", NOON, TERM)
    take_turn(store, "gc", "other pid 9", NOON + 71, TERM)
    with pytest.raises(TurnLost, match=r"other pid 9 has taken over gc at 2023-11-14T22:14:31Z.*nothing is lost"):
        ask(store, slept, NOON + 72, TERM)
    end_turn(store, slept)
    assert not record(store).ended


def test_one_that_was_let_go_is_not_held_any_more(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "first", NOON, TERM)
    end_turn(store, fence)
    with pytest.raises(TurnLost, match="has been let go of"):
        check_turn(store, fence, NOON, TERM)
    end_turn(store, fence)


def test_a_turn_whose_object_was_removed_by_hand_is_lost(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "first", NOON, TERM)
    (store.root / names.turn("gc")).unlink()
    with pytest.raises(TurnLost, match=r"turns/gc\.json is gone"):
        check_turn(store, fence, NOON, TERM)


def test_one_that_was_edited_is_refused(store: LocalStore) -> None:
    take_turn(store, "gc", "first", NOON, TERM)
    path = store.root / names.turn("gc")
    path.write_bytes(path.read_bytes().replace(b"first", b"worst"))
    with pytest.raises(Corrupt, match=r"turns/gc\.json: .*if nobody is at gc, remove this object"):
        take_turn(store, "gc", "second", NOON, TERM)


class LostAnswers(LocalStore):
    """Swaps, and says that it did not."""

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        super().swap(name, data, expected)
        raise RevisionMismatch("asked twice, because the first answer was lost")


def test_a_turn_is_ours_though_the_answer_was_lost(store: LocalStore) -> None:
    assert take_turn(LostAnswers(store.root), "gc", "first", NOON, TERM) == Fence("gc", 1, record(store).token)


def test_of_many_at_once_one_gets_it(store: LocalStore) -> None:
    """Between the look and the swap of one, another is faster."""

    class Raced(LocalStore):
        def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
            if expected is None:
                take_turn(store, "gc", "faster", NOON, TERM)
            return super().swap(name, data, expected)

    with pytest.raises(TurnHeld, match="faster is at gc"):
        take_turn(Raced(store.root), "gc", "slower", NOON, TERM)


def test_of_a_process_that_died_here_the_turn_is_free_at_once(store: LocalStore) -> None:
    """Killed with the turn in its hands, and its parent has not even asked how it ended."""
    program = "from tests.test_turn import hold; hold()"
    with subprocess.Popen([sys.executable, "-c", program, str(store.root)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TurnHeld):
            take_turn(store, "gc", "second", NOON, TERM)
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert take_turn(store, "gc", "second", NOON, TERM).number == 2


def hold() -> None:
    """What the process of that test does."""
    take_turn(LocalStore(Path(sys.argv[1])), "gc", "doomed", NOON, TERM, this_process_mark())
    print("held", flush=True)
    sys.stdin.read()


def test_of_a_living_process_and_of_strangers_nothing_is_free() -> None:
    mine = this_process_mark()
    assert mine is not None
    assert not is_gone(mine)
    assert not is_gone(ProcessMark("another boot pid:[1]", mine.pid, mine.started))
    # The number is somebody else's by now.
    assert is_gone(msgspec.structs.replace(mine, started=mine.started - 1))
    assert is_gone(msgspec.structs.replace(mine, pid=2**22 + 1))


@dataclass
class Holder:
    """One process: how far its clock is off, what it holds, and how long it is sure of that by a clock that is right
    in its pace."""

    off: float
    fence: Fence | None = None
    sure_until: float = 0.0


# On a slow disk the files of a thousand steps take minutes.
_MEMORY = Path("/dev/shm")


class Turns(RuleBasedStateMachine):
    """Processes with clocks that differ by as much as they may take, renew, let go, sleep for any time, and publish.

    However they do, no two are sure at once, and nobody publishes after one that began later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        self.store = LocalStore(Path(self.folder.name) / "store")
        self.time = NOON
        self.published: list[int] = []
        self.highest = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(clocks=st.lists(st.floats(-5, 5), min_size=2, max_size=4))
    def start(self, clocks: list[float]) -> None:
        self.holders = [Holder(off) for off in clocks]

    def _of(self, at: int) -> Holder:
        return self.holders[at % len(self.holders)]

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0, 31.0, 59.5, 70.0, 80.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    @rule(at=st.integers(0, 3))
    def take(self, at: int) -> None:
        holder = self._of(at)
        try:
            fence = take_turn(self.store, "gc", f"holder {at}", self.time + holder.off, TERM)
        except TurnHeld:
            assert not record(self.store).is_free(self.time + holder.off, TERM.skew)
            return
        assert fence.number == self.highest + 1
        self.highest = fence.number
        holder.fence, holder.sure_until = fence, self.time + TERM.duration.total_seconds()

    @rule(at=st.integers(0, 3))
    def renew(self, at: int) -> None:
        holder = self._of(at)
        if holder.fence is None:
            return
        try:
            renew_turn(self.store, holder.fence, self.time + holder.off, TERM)
        except TurnLost:
            assert holder.fence.number < self.highest
            holder.fence = None
        else:
            assert holder.fence.number == self.highest
            holder.sure_until = self.time + TERM.duration.total_seconds()

    @rule(at=st.integers(0, 3))
    def publish(self, at: int) -> None:
        holder = self._of(at)
        if holder.fence is None:
            return
        try:
            check_turn(self.store, holder.fence, self.time + holder.off, TERM)
        except TurnLost:
            assert holder.fence.number < self.highest
            holder.fence = None
            return
        self.published.append(holder.fence.number)
        # And for a while nobody else can begin.
        for other in self.holders:
            assert not record(self.store).is_free(self.time + 25 + other.off, TERM.skew)

    @rule(at=st.integers(0, 3))
    def let_go(self, at: int) -> None:
        holder = self._of(at)
        if holder.fence is not None:
            end_turn(self.store, holder.fence)
            holder.fence = None

    @invariant()
    def one_at_a_time(self) -> None:
        sure = [holder for holder in getattr(self, "holders", ()) if holder.fence and self.time < holder.sure_until]
        assert len(sure) <= 1
        assert self.published == sorted(self.published)


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_store_that_fails_is_told(store: LocalStore) -> None:
    store.root.parent.joinpath("store").write_text("a file")
    with pytest.raises(StoreError):
        take_turn(store, "gc", "first", NOON, TERM)
