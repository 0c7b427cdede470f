"""Positions move on over what is published without a gap, in whatever order and however often it comes."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tierloom.manifest import Cursor
from transforms.bundle import BundleOutcome, Passed
from transforms.elements import Tally
from transforms.publishing.stream_position import Taken, cursor_move

FIRST = 100


def outcome_of(*passed: Passed) -> BundleOutcome:
    return BundleOutcome("b", Tally(), {}, (), passed)


def passed(start: int, stop: int, partition: str = "0") -> Passed:
    return Passed(partition, FIRST, start, stop)


@given(st.sets(st.integers(FIRST + 1, FIRST + 60), max_size=8), st.randoms(use_true_random=False))
def test_every_order_ends_at_the_end(cuts: set[int], dice: random.Random) -> None:
    edges = [FIRST, *sorted(cuts), FIRST + 61]
    spans = [passed(start, stop) for start, stop in pairwise(edges)]
    spans += spans[::2]
    dice.shuffle(spans)
    taken, seen = Taken(), set[int]()
    for span in spans:
        taken = taken.with_outcomes([outcome_of(span)])
        seen |= set(range(span.start, span.stop))
        # Exactly what a set of positions says.
        assert taken.positions["0"] == next(at for at in range(FIRST, FIRST + 63) if at not in seen)
    assert taken.positions == {"0": FIRST + 61}
    assert not taken.beyond["0"]


def test_a_gap_holds_the_position_back() -> None:
    taken = Taken().with_outcomes([outcome_of(passed(110, 120), passed(0, 5, "1"))])
    assert (taken.positions, taken.beyond["0"]) == ({"0": FIRST, "1": FIRST}, ((110, 120),))
    assert taken.with_outcomes([outcome_of(passed(100, 110))]).positions["0"] == 120


def cursor(holder: str, **positions: int) -> Cursor:
    return Cursor(source="s", positions=positions, holder=holder, moved="2026-01-01T00:00:00Z")


TAKEN_UP = {"0": FIRST, "1": 0}


def move(held: Cursor | None, *spans: Passed) -> dict[str, int] | None:
    moved = cursor_move("s", "me", TAKEN_UP, Taken().with_outcomes([outcome_of(*spans)]), held)
    if moved is None:
        return None
    assert moved.before == (held.positions if held else None)
    return dict(moved.after)


def test_a_source_without_positions_has_no_cursor() -> None:
    assert move(None) is None


def test_other_partitions_stay_where_they_were_taken_up() -> None:
    assert move(None, passed(100, 110)) == {"0": 110, "1": 0}


def test_a_cursor_never_goes_back_behind_what_it_moved_itself() -> None:
    # It moved it, and died before that was remembered.
    assert move(cursor("me", **{"0": 130, "1": 7}), passed(100, 110)) == {"0": 130, "1": 7}


def test_what_another_left_is_replaced() -> None:
    # Of a topic that was made anew, and has fewer partitions and lower offsets.
    assert move(cursor("other", **{"0": 5000, "1": 70, "2": 3}), passed(100, 110)) == {"0": 110, "1": 0}
