"""The channel flips to another checkpoint under load: no request fails, and each answer is of one generation."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.embedders.endpoint import Endpoint, error
from tests.server.conftest import ENVIRONMENT
from tests.server.serving import KEY_VARIABLE, Server, serving
from tests.two_generations import QUESTIONS, SHIFT, asked_checkpoints, asked_generations, query_vector, question
from tierloom.checkpoint import Checkpoint
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.server.canary import Canary
from tierloom.server.limits import ServerOptions
from tierloom.server.metrics import Metrics
from tierloom.server.served import Served
from tierloom.stores.local import LocalStore

FLIPS = 24
CLIENTS = 4


@dataclass(frozen=True)
class Flipping:
    store: LocalStore
    server: Server
    endpoint: Endpoint
    old: Checkpoint
    new: Checkpoint

    def serves(self) -> Any:
        return self.server.client.get("/v1/version").json()

    def wait_for(self, checkpoint: Checkpoint) -> None:
        while self.serves()["checkpoint"] != checkpoint.fingerprint:
            assert self.server.process.poll() is None


@pytest.fixture
def flipping(tmp_path: Path) -> Iterator[Flipping]:
    """`prod` serves the old generation."""
    with Endpoint(dimensions=32) as endpoint:
        old, new = asked_checkpoints(endpoint.base_url)
        store = LocalStore(tmp_path / "store")
        asked_generations(store, old, new)
        promote(store, 1, "prod")
        options = ("--interval", 0.05, "--canary", 0.2, "--log-format", "text")
        with serving(store, *options, environment=ENVIRONMENT) as server:
            yield Flipping(store, server, endpoint, old, new)


def assert_answered(flipping: Flipping, reply: Any, at: int) -> None:
    shift = 0 if reply["checkpoint"] == flipping.old.fingerprint else SHIFT
    assert reply["hits"][0]["document_id"] == f"{(at + shift) % QUESTIONS}"
    assert reply["hits"][0]["score"] > 0.99


def test_the_version_tells_the_checkpoint_and_the_model(flipping: Flipping) -> None:
    assert (flipping.serves()["version"], flipping.serves()["model"]) == (1, "small-test-model")
    promote(flipping.store, 1, "prod", checkpoint=flipping.new.fingerprint)
    flipping.wait_for(flipping.new)
    assert (flipping.serves()["version"], flipping.serves()["model"]) == (1, "another-test-model")
    rollback(flipping.store, "prod")
    flipping.wait_for(flipping.old)
    assert flipping.serves()["model"] == "small-test-model"


def test_a_flip_that_cannot_be_followed_is_told(flipping: Flipping) -> None:
    flipping.endpoint.script = lambda asked: error(401, "no such key") if "new: " in asked.inputs[0] else None
    promote(flipping.store, 1, "prod", checkpoint=flipping.new.fingerprint)
    while (told := flipping.serves())["last_error"] is None:
        assert flipping.server.process.poll() is None
    assert (told["model"], flipping.server.client.get("/readyz").status_code) == ("small-test-model", 200)
    assert "names another-test-model" in told["last_error"]
    assert "HTTP 401: no such key" in told["last_error"]
    assert_answered(flipping, flipping.server.search(query=question(3)), 3)
    flipping.endpoint.script = None
    flipping.wait_for(flipping.new)
    assert flipping.serves()["last_error"] is None
    assert ENVIRONMENT["TIERLOOM_TEST_KEY"] not in flipping.server.logged()


def test_the_canary_compares_no_vector_of_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, ENVIRONMENT[KEY_VARIABLE])
    with Endpoint(dimensions=32) as endpoint:
        checkpoints = asked_checkpoints(endpoint.base_url)
        store = LocalStore(tmp_path / "store")
        asked_generations(store, *checkpoints)
        promote(store, 1, "prod")
        options = ServerOptions(store.url, "prod", interval=0.01)
        metrics = Metrics()
        served = Served(options, metrics, failed=lambda: None)
        canary = Canary(options, served, metrics)
        served.start()
        while served.unready:
            assert served.failure is None
        for compared, (checkpoint, then) in enumerate(pairwise((*checkpoints, checkpoints[1]))):
            vector = list(query_vector(3, checkpoint))
            canary.offer(vector, served.follower.search(vector, checkpoint=checkpoint.fingerprint), local_model=False)
            promote(store, 1, "prod", checkpoint=then.fingerprint)
            while served.follower.checkpoint != then.fingerprint:
                assert served.failure is None
            canary._compare()
            counted = [
                line for line in metrics.exposition().decode().splitlines() if "canary_comparisons_total{" in line
            ]
            assert [float(line.split()[-1]) for line in counted] == [1.0] * compared
        served.close()


@dataclass
class _Client:
    """Asks by text, in batches, and by vectors that say of which checkpoint they are."""

    flipping: Flipping
    stopped: threading.Event
    seen: set[str] = field(default_factory=set)
    answered: int = 0

    def ask(self) -> None:
        with httpx2.Client(base_url=self.flipping.server.url, trust_env=False, timeout=60) as client:
            for at in itertools.cycle(range(QUESTIONS)):
                if self.stopped.is_set():
                    return
                self._by_text(client, at)
                self._by_vector(client, at, (self.flipping.old, self.flipping.new)[at % 2])

    def _by_text(self, client: httpx2.Client, at: int) -> None:
        response = client.post("/v1/search", json={"queries": [question(at), question(at)]})
        assert response.status_code == 200, response.text
        replies = response.json()["answers"]
        assert len({reply["checkpoint"] for reply in replies}) == 1
        for reply in replies:
            assert_answered(self.flipping, reply, at)
            self.seen.add(reply["checkpoint"])
            self.answered += 1

    def _by_vector(self, client: httpx2.Client, at: int, mine: Checkpoint) -> None:
        asked = {"vector": query_vector(at, mine), "checkpoint": mine.fingerprint}
        response = client.post("/v1/search", json=asked)
        if response.status_code == 200:
            assert response.json()["checkpoint"] == mine.fingerprint
            assert_answered(self.flipping, response.json(), at)
        else:
            assert response.json()["error"]["type"] == "CheckpointMismatch"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_promotions_under_load_fail_no_query(flipping: Flipping) -> None:
    stopped = threading.Event()
    clients = [_Client(flipping, stopped) for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(client.ask) for client in clients]
        try:
            for at in range(FLIPS):
                wanted = (flipping.new, flipping.old)[at % 2]
                if at % 4 == 3:
                    rollback(flipping.store, "prod")
                else:
                    promote(flipping.store, 1, "prod", checkpoint=wanted.fingerprint)
                flipping.wait_for(wanted)
        finally:
            stopped.set()
        for asked in asking:
            asked.result()
    assert set.union(*(client.seen for client in clients)) == {flipping.old.fingerprint, flipping.new.fingerprint}
    assert sum(client.answered for client in clients) > FLIPS * CLIENTS
    metrics = flipping.server.metrics()
    assert metrics["tierloom_channel_moves_total"] == FLIPS
    assert metrics["tierloom_following_errors_total"] == 0
    assert flipping.server.stop() == 0
    assert "Traceback" not in flipping.server.logged()
