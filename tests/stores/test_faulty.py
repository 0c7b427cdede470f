"""The faults themselves: what they do to a store, and that they are counted over threads and processes."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.stores.faulty import ENDED, Counter, ExitAt, Fault, FaultyStore, LoseAnswer, NoFault, Outages
from tierloom.errors import StoreError
from tierloom.stores.local import LocalStore


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[[Fault], FaultyStore]:
    return lambda fault: FaultyStore(LocalStore(tmp_path / "store"), fault, Counter(tmp_path / "calls"))


def in_child(act: Callable[[], object]) -> int:
    """How a forked process ends that does this."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_every_call_is_counted_once(faulty: Callable[[Fault], FaultyStore], tmp_path: Path) -> None:
    store = faulty(NoFault())
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.create(f"a/{number}", b""), range(40)))
    assert in_child(lambda: [store.size(f"a/{number}") for number in range(10)]) == 0
    assert [found.name for found in store.list("a/1")]
    calls = store.counter.calls()
    assert [call.number for call in calls] == [*range(1, 52)]
    assert {call.name for call in calls if call.method == "create"} == {f"a/{number}" for number in range(40)}
    assert (calls[-1].method, calls[-1].name) == ("list", "a/1")


@pytest.mark.parametrize("late", [False, True])
def test_the_process_is_gone_before_or_after_a_call(faulty: Callable[[Fault], FaultyStore], late: bool) -> None:
    store = faulty(ExitAt(2, late))
    assert in_child(partial(create_three, store)) == ENDED
    assert [store.inner.size(f"a/{number}") for number in range(3)] == [0, 0 if late else None, None]


def test_a_lost_answer_leaves_what_was_written(faulty: Callable[[Fault], FaultyStore]) -> None:
    store = faulty(LoseAnswer(1))
    with pytest.raises(StoreError, match=r"^a: "):
        store.create("a", b"1")
    store.create("a", b"1")
    assert store.read("a") == b"1"


def test_outages_are_those_of_their_seed(faulty: Callable[[Fault], FaultyStore]) -> None:
    def failures(seed: int) -> list[str]:
        store = faulty(Outages(seed, share=0.3))
        return [told for number in range(200) if (told := refusal(partial(store.create, f"a/{number}", b"")))]

    first = failures(1)
    assert 30 < len(first) < 90
    assert {word for told in first for word in ("429", "503", "Timeout", "Connection") if word in told} == {
        "429",
        "503",
        "Timeout",
        "Connection",
    }
    assert failures(1) == first != failures(2)


def create_three(store: FaultyStore) -> None:
    for number in range(3):
        store.create(f"a/{number}", b"")


def refusal(act: Callable[[], object]) -> str:
    try:
        act()
    except StoreError as error:
        return str(error)
    return ""
