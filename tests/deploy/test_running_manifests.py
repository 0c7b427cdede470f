"""The commands in the manifests, run as they stand on a real store."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.exit_codes import ExitCode
from tests.deploy.manifests import SECRETS, Container, container, containers
from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import head_of, init, ok, run, write_records
from tierloom.canaries import LONGEST_TEXT, canary_texts
from tierloom.stores.local import LocalStore
from tierloom.taking_turns import Turn

pytestmark = pytest.mark.slow

JOBS = [one.command for one in containers() if one.name.startswith("CronJob")]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def values(tmp_path: Path, endpoint: Endpoint) -> dict[str, str]:
    """Where things are on this machine; with a collection of ten documents, of which the source has lost one."""
    declared = tmp_path / "model.toml"
    declared.write_text(
        'provider = "openai"\nmodel = "test-model"\ndimensions = 16\ntrained_prefixes = [4, 8, 16]\n'
        f'endpoint = {{ base_url = "{endpoint.base_url}", api_key_env = "OPENAI_API_KEY" }}\n'
    )
    newer = tmp_path / "newer.toml"
    price = '\nprice = { usd_per_million_tokens = 0.02, as_of = 2026-11-01, page = "https://example.org/prices" }\n'
    newer.write_text(declared.read_text().replace("test-model", "newer-model") + price)
    (tmp_path / "source").mkdir()
    every = [{"id": name, "text": name} for name in ("kept", "gone", *"abcdefgh")]
    write_records(tmp_path / "source" / "r.jsonl", every)
    places = {
        "STORE": str(tmp_path / "store"),
        "SOURCE": str(tmp_path / "source"),
        "TOPIC": str(tmp_path / "topic"),
        "NEW_MODEL": str(newer),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-of-the-test")
        init(places["STORE"], declared, "--versions", "1", "--age", "0s", tiers="8")
        ok(run("ingest", places["STORE"], places["SOURCE"]))
    write_records(tmp_path / "source" / "r.jsonl", [one for one in every if one["id"] != "gone"])
    return places


def finished(one: Container, values: dict[str, str], scratch: Path) -> tuple[int, list[dict[str, Any]]]:
    """The exit status of a job, and its log."""
    with one.start(values, scratch) as process:
        _, logged = process.communicate(timeout=100)
    return process.returncode, [json.loads(line) for line in logged.splitlines()]


@pytest.mark.parametrize("command", JOBS)
def test_each_job_does_its_work(values: dict[str, str], scratch: Path, command: str) -> None:
    status, log = finished(container(command), values, scratch)
    assert status == 0, log[-1]["message"]
    assert (log[-1]["event"], log[-1]["command"], log[-1]["store"]) == ("result", command, values["STORE"])


def test_ingesting_pays_with_the_key_of_the_secret(values: dict[str, str], scratch: Path, endpoint: Endpoint) -> None:
    write_records(Path(values["SOURCE"]) / "new.jsonl", [{"id": "new", "text": "new"}])
    asked = len(endpoint.asked)
    assert finished(container("ingest"), values, scratch)[0] == 0
    assert head_of(values["STORE"]).documents.live == 10
    keys = {one.headers["authorization"] for one in endpoint.asked[asked:]}
    assert keys == {f"Bearer {SECRETS['openai-api-key']}"}


def test_reembedding_stops_at_the_cap_of_the_settings(
    values: dict[str, str], scratch: Path, endpoint: Endpoint
) -> None:
    job, paid, canaries = container("reembed"), endpoint.billed_tokens, endpoint.canary_tokens
    # The dollars of the canaries, of one more, and of ten tokens.
    tokens = sum(len(text.encode()) for text in canary_texts()) + LONGEST_TEXT + 10
    status, log = finished(job, values | {"MAX_USD": f"{tokens * 2e-8:.8f}"}, scratch)
    assert (status, log[-1]["type"]) == (ExitCode.CAPPED, "CapReached")
    assert endpoint.billed_tokens - paid <= tokens
    assert 0 < endpoint.billed_tokens - paid - (endpoint.canary_tokens - canaries) <= 10
    assert finished(job, values, scratch)[0] == 0
    assert [one.is_complete for one in head_of(values["STORE"]).generations] == [True, True]


def test_a_job_that_finds_another_at_it_is_to_be_tried_again(values: dict[str, str], scratch: Path) -> None:
    with Turn(LocalStore(Path(values["STORE"])), "gc"):
        status, log = finished(container("gc"), values, scratch)
    assert (status, log[-1]["type"]) == (75, "TurnHeld")


def test_verifying_finds_what_is_spoilt(values: dict[str, str], scratch: Path) -> None:
    shard = next(Path(values["STORE"], "shards").iterdir())
    shard.chmod(0o600)
    shard.write_bytes(shard.read_bytes()[:-1])
    status, log = finished(container("verify"), values, scratch)
    assert status == 1
    assert log[-1]["result"]["wrong_objects"] > 0


def test_a_model_that_changed_is_told(values: dict[str, str], scratch: Path, endpoint: Endpoint) -> None:
    endpoint.revision = "2"
    status, log = finished(container("canary"), values, scratch)
    assert status == 6
    assert log[-1]["result"]["state"] == "changed"
    write_records(Path(values["SOURCE"]) / "new.jsonl", [{"id": "new", "text": "new"}])
    status, log = finished(container("ingest"), values, scratch)
    assert (status, log[-1]["type"]) == (6, "ModelChanged")


@contextmanager
def running(one: Container, values: dict[str, str], scratch: Path) -> Iterator["subprocess.Popen[str]"]:
    with one.start(values, scratch) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Asked as fast as it answers: each question takes a moment."""
    while not true():
        assert process.poll() is None, process.communicate()


def test_the_stream_follows_lives_and_ends_when_told(values: dict[str, str], scratch: Path) -> None:
    Path(values["TOPIC"]).mkdir()
    stream = container("stream")
    assert not stream.probe("startupProbe", values, scratch)
    assert not stream.probe("livenessProbe", values, scratch)
    with running(stream, values, scratch) as process:
        wait_until(lambda: stream.probe("startupProbe", values, scratch), process)
        assert stream.probe("livenessProbe", values, scratch)
        version = head_of(values["STORE"]).version
        write_records(Path(values["TOPIC"]) / "t.jsonl", [{"id": "streamed", "text": "streamed"}])
        wait_until(lambda: head_of(values["STORE"]).version > version, process)
        process.send_signal(signal.SIGTERM)
        _, logged = process.communicate(timeout=60)
    assert process.returncode == 0, logged
    assert json.loads(logged.splitlines()[-1])["result"]["added"] == 1


def test_the_server_is_ready_asks_for_its_token_and_ends_when_told(values: dict[str, str], scratch: Path) -> None:
    ok(run("promote", values["STORE"], "latest", "--channel", "prod", "--force", "--message", "first"))
    serve = container("serve")
    with running(serve, values | {"PORT": "0"}, scratch) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip().replace("0.0.0.0", "127.0.0.1")
        probes = {name: serve.spec[name]["httpGet"]["path"] for name in serve.spec if name.endswith("Probe")}
        with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client:
            assert client.get(probes["startupProbe"]).status_code == 200
            wait_until(lambda: client.get(probes["readinessProbe"]).status_code == 200, process)
            assert client.get(probes["livenessProbe"]).status_code == 200
            question = {"query": "kept", "top": 1}
            assert client.post("/v1/search", json=question).status_code == 401
            token = {"Authorization": f"Bearer {SECRETS['query-token']}"}
            answer = client.post("/v1/search", json=question, headers=token)
            assert answer.json()["hits"][0]["document_id"] == "kept"
            assert client.get("/metrics").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
