"""An account pays from one budget with others, in threads, in processes, and after some of these were killed."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tierloom.errors import CapReached
from tierloom.spending.account import Account, Payment
from tierloom.spending.budget import Budget
from tierloom.spending.terms import Caps, Spending

PROCESSES = multiprocessing.get_context("spawn")


def never(_: float) -> None:
    raise AssertionError("nothing to wait for")


def spend_all(spending: Spending, bound: int, billed: int) -> int:
    """Requests until the cap; what was billed."""
    account, total = Account(spending), 0
    try:
        while True:
            payment = account.request(bound, never)
            total += billed
            payment.settle(billed)
    except CapReached:
        return total
    finally:
        account.close()


def spend_and_die(spending: Spending, bound: int) -> None:
    Account(spending).pay(bound)


def test_processes_together_spend_to_the_cap_and_no_more(tmp_path: Path) -> None:
    spending = Spending(Caps(tokens=10_000), folder=str(tmp_path))
    with PROCESSES.Pool(2) as pool:
        spent = pool.starmap(spend_all, [(spending, 13, 7), (spending, 31, 30), (spending, 5, 0 + 5)])
    assert 10_000 - 13 < sum(spent) <= 10_000


def test_threads_of_several_accounts_spend_to_the_cap_and_no_more(tmp_path: Path) -> None:
    spending = Spending(Caps(usd=0.001), picodollars_per_token=20_000, folder=str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        spent = list(pool.map(lambda bound: spend_all(spending, bound, bound - 1), range(11, 19)))
    assert 50_000 - 11 <= sum(spent) <= 50_000


def test_what_a_dead_worker_had_asked_for_stays_counted(tmp_path: Path) -> None:
    spending = Spending(Caps(tokens=100), folder=str(tmp_path))
    worker = PROCESSES.Process(target=spend_and_die, args=(spending, 60))
    worker.start()
    worker.join()
    account = Account(spending)
    with pytest.raises(CapReached, match=r"--max-tokens 100: a request of up to 41 tokens"):
        account.pay(41)
    account.pay(40)
    account.close()


def test_what_was_set_aside_is_not_refused_later() -> None:
    account = Account(Spending(Caps(tokens=100)))
    assert account.set_aside(60)
    assert not account.set_aside(41)
    account.pay(40).settle(10)
    # 30 tokens came back, and go to whoever asks first.
    assert account.set_aside(70)
    for bound in (20, 50, 20):
        account.pay(bound).settle(bound)
    with pytest.raises(CapReached):
        account.pay(1)


def test_a_request_that_waits_holds_nothing_when_it_gives_up() -> None:
    account = Account(Spending(Caps(tokens=100), requests_per_minute=1))
    account.request(10, never).settle(10)
    with pytest.raises(AssertionError, match="nothing to wait for"):
        account.request(90, never)
    account.pay(90)


def test_a_model_that_bills_more_than_its_tokenizer_says_is_believed() -> None:
    account = Account(Spending(Caps(tokens=1000)))
    account.pay(100).settle(150)
    assert account.set_aside(500)
    assert not account.set_aside(67)
    account.pay(500).settle(750)
    account.pay(66)
    with pytest.raises(CapReached):
        account.pay(1)


class Spenders(RuleBasedStateMachine):
    """Several accounts on one budget, against a plain sum: what is billed, and what may have been."""

    def __init__(self) -> None:
        super().__init__()
        self.spending = Spending(Caps(tokens=1000))
        self.budget = Budget(self.spending)
        self.accounts = [Account(self.spending), Account(self.spending)]
        for account in self.accounts:
            account._budget = self.budget
        self.open: list[Payment] = []
        self.billed = 0
        self.aside = 0

    @rule(which=st.integers(0, 1), bound=st.integers(1, 300))
    def set_aside(self, which: int, bound: int) -> None:
        self.aside += self.accounts[which].set_aside(bound) * bound

    @rule(which=st.integers(0, 1), bound=st.integers(1, 300))
    def pay(self, which: int, bound: int) -> None:
        account = self.accounts[which]
        before = account._set_aside
        try:
            self.open.append(account.pay(bound))
        except CapReached:
            assert self.counted + bound - before > 1000
        else:
            self.aside -= min(before, bound)

    @precondition(lambda self: self.open)
    @rule(share=st.floats(0, 1))
    def settle(self, share: float) -> None:
        payment = self.open.pop()
        billed = round(share * payment.bound)
        payment.settle(billed)
        self.billed += billed

    @property
    def counted(self) -> int:
        return self.billed + self.aside + sum(payment.bound for payment in self.open)

    @invariant()
    def the_budget_counts_it_all_and_stays_below_the_cap(self) -> None:
        assert self.budget.spent().tokens == self.counted <= 1000


Spenders.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSpenders = Spenders.TestCase


def test_a_killed_writer_leaves_the_value_whole(tmp_path: Path) -> None:
    spending = Spending(folder=str(tmp_path))
    for _ in range(5):
        worker = PROCESSES.Process(target=spend_for_ever, args=(spending,))
        worker.start()
        watcher = Account(spending)
        before = Budget(spending)
        reached, enough = before.spent().tokens, threading.Event()
        while before.spent().tokens < reached + 50 and worker.is_alive():
            enough.wait(0.001)
        worker.kill()
        worker.join()
        watcher.pay(1)
        watcher.close()
        before.close()


def spend_for_ever(spending: Spending) -> None:
    account = Account(spending)
    while True:
        account.pay(1)
