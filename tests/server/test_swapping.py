"""The channel moves under load: no request fails, no answer mixes two versions, and no memory is lost."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.server.serving import DECLARED, SCHEMA, Server, declare, point, serving
from tests.server.test_refusals import UNIT
from tests.small_shards import Row, make_collection, publish, store_shard
from tierloom.stores.local import LocalStore

MOVES = 200
CLIENTS = 8
ROWS = 3000
# What the allocator keeps of two versions of a few megabytes.
MARGIN = 24 << 20


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[tuple[LocalStore, Server]]:
    """Versions 2 and 3 have no document in common, and say in each id which one they are."""
    store = LocalStore(tmp_path / "store")
    make_collection(store)
    declare(store, DECLARED)
    for version in (2, 3):
        publish(store, [[store_shard(store, [Row(f"{version}-{at}") for at in range(ROWS)], SCHEMA)]])
    point(store, 2)
    with serving(store, "--interval", 0.05, "--canary", 0.2, "--log-format", "text") as server:
        yield store, server


def resident(server: Server) -> int:
    """Bytes that are the server's own, and no file's."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def ask(server: Server, stopped: threading.Event, seen: dict[int, int]) -> None:
    """Until it is stopped: every request is answered, and every hit of an answer is of the version that it states."""
    questions = ({"vector": UNIT}, {"vector": UNIT, "class": "autocomplete"}, {"queries": [UNIT, UNIT], "top": 4})
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        while not stopped.is_set():
            for question in questions:
                response = client.post("/v1/search", json=question)
                assert response.status_code == 200, response.text
                reply = response.json()
                answers = reply.get("answers", [reply])
                assert len({answer["version"] for answer in answers}) == 1
                for answer in answers:
                    assert {hit["document_id"].partition("-")[0] for hit in answer["hits"]} == {str(answer["version"])}
                    seen[answer["version"]] = seen.get(answer["version"], 0) + 1


def move(store: LocalStore, server: Server, times: int) -> None:
    for at in range(times):
        wanted = 3 - at % 2
        point(store, wanted)
        while server.client.get("/v1/version").json()["version"] != wanted:
            pass


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_moves_under_eight_clients(moving: tuple[LocalStore, Server]) -> None:
    store, server = moving
    stopped = threading.Event()
    seen: list[dict[int, int]] = [{} for _ in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, server, stopped, mine) for mine in seen]
        try:
            move(store, server, 20)
            before = resident(server)
            move(store, server, MOVES)
        finally:
            stopped.set()
        for client in clients:
            client.result()
    answered = {version: sum(mine.get(version, 0) for mine in seen) for version in (2, 3)}
    assert min(answered.values()) > MOVES
    metrics = server.metrics()
    assert metrics["tierloom_channel_moves_total"] == MOVES + 20
    assert metrics["tierloom_following_errors_total"] == 0
    grown = resident(server) - before
    print(f"{sum(answered.values()):,} answers over {MOVES} moves; resident memory grew by {grown / (1 << 20):.1f} MiB")
    assert grown < MARGIN
    assert server.stop() == 0
    assert "Traceback" not in server.logged()
