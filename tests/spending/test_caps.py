"""The promise: no run ever passes its cap, whatever its chunks, its workers and its endpoint are like.

The endpoint counts what it bills, also where its answer never arrives.
"""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.embedders.conftest import KEY_VARIABLE, bounds, checkpoint_at
from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error, items
from tierloom.checkpoint import Limits
from tierloom.embedders.embedder import PaidInPart
from tierloom.embedders.openai_compatible import OpenAICompatibleEmbedder
from tierloom.embedders.retrying import Patience
from tierloom.errors import EmbedderError
from tierloom.spending.account import Account
from tierloom.spending.terms import Caps, Spending

PICODOLLARS = 130_000


class Unruly:
    """A script that answers as real endpoints do on a bad day, by lot: some of its failures are billed."""

    def __init__(self, endpoint: Endpoint, seed: int) -> None:
        self._endpoint = endpoint
        self._drawn = random.Random(seed)
        self._lock = threading.Lock()
        self._badness = self._drawn.choice([0.0, 0.1, 0.5])

    def __call__(self, asked: Asked) -> Reply | None:
        with self._lock:
            if self._drawn.random() >= self._badness:
                return None
            kind = self._drawn.randrange(7)
        if kind == 0:
            return error(429, "slow down", Retry_After="0")
        if kind == 1:
            return error(400, "I do not like this")
        self._bill(asked)
        if kind == 2:
            return error(500, "something broke after the work was done")
        if kind == 3:
            raise ConnectionAbortedError
        if kind == 4:
            return Reply(200, b"<html>a proxy</html>")
        data = items(asked.inputs, 16)
        if kind == 5:
            data[0]["embedding"] = [0.0] * 16
        return answer(data, None if kind == 6 else sum(bounds(asked.inputs)))

    def _bill(self, asked: Asked) -> None:
        with self._endpoint._lock:
            self._endpoint.billed_tokens += sum(bounds(asked.inputs))


def worker(endpoint: Endpoint, spending: Spending, seed: int, blocks: int) -> None:
    """One worker process of a run, in a thread: its own connections, its own account, the shared folder."""
    drawn = random.Random(seed)
    limits = Limits(inputs_per_request=drawn.choice([1, 3, 50]), tokens_per_request=drawn.choice([400, 3000]))
    account = Account(spending)
    embedder = OpenAICompatibleEmbedder(
        checkpoint_at(endpoint.base_url, limits=limits),
        concurrency=drawn.choice([1, 4]),
        patience=Patience(attempts=3, brief_attempts=2),
        sleep=lambda _: None,
        account=account,
    )
    with suppress(EmbedderError):
        for block in range(blocks):
            texts = [f"{seed} {block} {at} " + "x" * drawn.choice([0, 5, 60, 300]) for at in range(drawn.randint(1, 9))]
            exact = bounds(texts)
            claimed = [round(tokens * drawn.choice([1.0, 1.0, 2.5])) for tokens in exact]
            if drawn.random() < 0.5 and not account.set_aside(sum(claimed)):
                continue
            with suppress(PaidInPart):
                embedder.embed(texts, claimed)
    embedder.close()
    account.close()


@contextmanager
def opened() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as endpoint:
        yield endpoint


def spent_in_run(endpoint: Endpoint, folder: Path, seed: int) -> tuple[int, int]:
    """A run of one or two workers under a cap: the tokens billed, and those allowed."""
    drawn = random.Random(seed)
    allowed = drawn.choice([1, 50, 700, 3000])
    caps = Caps(tokens=allowed) if drawn.random() < 0.5 else Caps(usd=allowed * PICODOLLARS / 1e12)
    spending = Spending(caps, PICODOLLARS, folder=str(folder / str(seed)))
    endpoint.billed_tokens = 0
    endpoint.script = Unruly(endpoint, seed)
    workers = drawn.choice([1, 2])
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(worker, endpoint, spending, 10 * seed + at, 4) for at in range(workers)]:
            done.result()
    return endpoint.billed_tokens, allowed


def assert_never_passed(folder: Path, seeds: range) -> None:
    close = 0
    with opened() as endpoint:
        for seed in seeds:
            billed, allowed = spent_in_run(endpoint, folder, seed)
            assert billed <= allowed, f"seed {seed}: {billed} tokens were billed under a cap of {allowed}"
            close += billed > allowed / 2
    # The caps were in reach, or nothing would be shown.
    assert close >= len(seeds) / 10


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-of-nobody")


def test_a_cap_is_never_passed(tmp_path: Path) -> None:
    assert_never_passed(tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.parametrize("quarter", range(4))
def test_a_cap_is_never_passed_in_a_thousand_runs(tmp_path: Path, quarter: int) -> None:
    assert_never_passed(tmp_path, range(1000 + 250 * quarter, 1250 + 250 * quarter))
