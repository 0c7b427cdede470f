"""Starting that fails says why; stopping loses nothing."""

import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.pipelines.command_line import ROOT, run, run_apart
from tests.server.conftest import ENVIRONMENT
from tests.server.serving import Server, serving, started
from tests.server.test_limits import slow_model
from tests.server.test_refusals import UNIT, refused
from tierloom.stores.local import LocalStore

pytestmark = pytest.mark.slow


def test_a_store_without_a_collection_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with started(LocalStore(tmp_path / "empty")) as server:
        assert server.process.wait(30) == 1
        (line,) = server.log_lines()
        assert (line["level"], line["type"]) == ("error", "InputError"), line


def test_a_channel_that_is_not_there_ends_the_server(store: LocalStore) -> None:
    with started(store, channel="canary") as server:
        assert server.process.wait(30) == 1
        (line,) = server.log_lines()
        assert line["level"] == "error"
        assert "no channel 'canary'" in line["message"]


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = run("serve", tmp_path, "--port", port)
    assert f"cannot listen on 127.0.0.1 port {port}" in finished.error


def test_a_host_that_strangers_reach_is_warned_of(store: LocalStore) -> None:
    with started(store, "--host", "0.0.0.0") as server:
        assert server.client.get("/healthz").status_code == 200
        assert "warning: whoever reaches 0.0.0.0 can read this collection" in server.logged()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_how_a_server_ends(store: LocalStore, sent: signal.Signals) -> None:
    with serving(store, "--drain", 0, environment=ENVIRONMENT) as server:
        server.process.send_signal(sent)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.logged()


def test_what_is_under_way_is_finished(tmp_path: Path) -> None:
    with slow_model(tmp_path / "store", "--drain", 0, "--threads", 2) as (server, endpoint, gate):
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.search, query=f"question {at}") for at in range(4)]
            while endpoint.requests < 1 or server.metrics()["tierloom_requests_in_flight"] < 5:
                pass
            server.process.terminate()
            while not listens_no_more(server):
                pass
            gate.opened.set()
            assert all(len(future.result()["hits"]) == 5 for future in asked)
        assert server.process.wait(30) == 0


def test_what_never_ends_is_given_up_after_the_grace(tmp_path: Path) -> None:
    with slow_model(tmp_path / "store", "--drain", 0, "--grace", 1) as (server, endpoint, _):
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.client.post, "/v1/search", json={"query": "a question"})
            while endpoint.requests < 1:
                pass
            server.process.terminate()
            assert server.process.wait(30) == 0
            response = asked.result()
            assert (response.status_code, refused(response)["message"]) == (503, "the server is stopping")
        assert "1 searches unfinished" in server.logged()


def listens_no_more(server: Server) -> bool:
    try:
        return httpx2.get(f"{server.url}/healthz", trust_env=False).status_code != 200
    except (httpx2.ConnectError, httpx2.RemoteProtocolError):
        # Refused, or let in just as the port was closed.
        return True


def test_under_load_no_request_is_lost(store: LocalStore) -> None:
    """Eight clients behind a balancer that looks at `/readyz`, as balancers do."""
    ready, enough = threading.Event(), threading.Event()
    ready.set()

    def ask() -> int:
        answered = 0
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            while ready.is_set():
                response = client.post("/v1/search", json={"vector": UNIT})
                assert response.status_code == 200, response.text
                assert len(response.json()["hits"]) == 5
                answered += 1
                if answered == 25:
                    enough.set()
        return answered

    with serving(store, "--drain", 2, "--canary", 0, environment=ENVIRONMENT) as server, ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask) for _ in range(8)]
        enough.wait(60)
        server.process.terminate()
        while (response := server.client.get("/readyz")).status_code == 200:
            pass
        ready.clear()
        assert response.status_code == 503
        assert response.json()["error"]["message"] == "the server is stopping"
        assert response.headers["connection"] == "close"
        assert sum(client.result() for client in clients) > 50
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.logged()


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "swagger_ui_bundle"])
def test_an_extra_that_is_missing_is_named(store: LocalStore, missing: str) -> None:
    finished = run_apart("serve", store.root, "--port", 0, before=f"sys.modules[{missing!r}] = None")
    assert finished.error == (f"tierloom serve ({missing}) needs an optional dependency: pip install 'tierloom[serve]'")


def test_help_needs_nothing_heavy() -> None:
    finished = run_apart("serve", "--help", before="sys.modules['fastapi'] = sys.modules['apache_beam'] = None")
    assert "--token-env" in finished.out
    assert finished.status == 0


def test_beam_is_not_needed() -> None:
    """A fleet installs none: what it runs loads none."""
    loaded = "[name for name in sys.modules if name.partition('.')[0] in ('apache_beam', 'wordllama', 'openai')]"
    said = f"import sys, tierloom.server.running; print({loaded})"
    finished = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, cwd=ROOT, check=True)
    assert finished.stdout == "[]\n"
