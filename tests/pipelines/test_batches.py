"""`tierloom ingest --lane batch`, whole: also when it is killed."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tierloom
from tests.embedders.batch_server import BatchServer, Call
from tests.embedders.endpoint import Reply, error, vector_of
from tests.pipelines.command_line import (
    HEEDS_CTRL_C,
    KEY_VARIABLE,
    ROOT,
    apart,
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    ok,
    run,
    write_records,
)
from tierloom.embedders import batch_lane, gathering
from tierloom.embedders.batch_pace import Looks
from tierloom.quantizer import to_unit_float16

DOCUMENTS = 60
TEXTS = [f"document number {n}" for n in range(DOCUMENTS)]
TOKENS = sum(map(len, TEXTS))
# In a process of its own: no waiting, and several batches.
AT_ONCE = """
from tierloom.embedders import batch_lane, batch_pace, gathering
batch_lane.LOOKS = batch_pace.Looks(0.0, 1.0, 0.0)
gathering.MAX_INPUTS = 25
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lane, "LOOKS", Looks(0.0, 1.0, 0.0))
    monkeypatch.setattr(gathering, "MAX_INPUTS", 25)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as served:
        yield served
        assert not served.violations


def write_texts(path: Path, texts: list[str]) -> Path:
    return write_records(path, [{"id": f"d{n}", "sequence": 1, "text": text} for n, text in enumerate(texts)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "records.jsonl", TEXTS)


@pytest.fixture
def store(tmp_path: Path, server: BatchServer) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, server.base_url), "--block-chunks", 32, "--shard-rows", 20)
    return path


def assert_all_is_embedded(server: BatchServer, store: Path, texts: list[str] = TEXTS) -> None:
    server.run_out()
    assert server.billed == dict.fromkeys(texts, 1)
    assert live_texts(store) == {(f"d{n}", 0): text for n, text in enumerate(texts)}
    assert_whole(store)


def assert_nothing_left(server: BatchServer, store: Path) -> None:
    assert not server.files
    assert not list((store / "batches").glob("*"))


def test_a_collection_is_embedded_by_batches(server: BatchServer, store: Path, source: Path) -> None:
    closing = ok(run("ingest", store, source, "--lane", "batch", "--json")).json
    assert closing["embedded_chunks"] == DOCUMENTS
    assert server.billed_tokens - server.canary_tokens == TOKENS
    assert closing["tokens"] + closing["canary_tokens"] == server.billed_tokens
    assert len(server.batches) > 1
    assert_all_is_embedded(server, store)
    assert_nothing_left(server, store)


def nth(method: str, path: str, number: int) -> Callable[[Call], bool]:
    """Whether a call is the n-th of its kind."""
    seen = 0

    def is_it(call: Call) -> bool:
        nonlocal seen
        seen += call.is_(method, path)
        return call.is_(method, path) and seen == number

    return is_it


@pytest.fixture
def victims() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes of their own; none outlives its test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait(timeout=20)


MOMENTS = {
    "after the upload": ("after", "POST", "/files", 2),
    "after the submission": ("after", "POST", "/batches", 2),
    "after the record": ("before", "GET", "/batches/", 1),
    "during the wait": ("before", "GET", "/batches/", 6),
    "during the collection": ("before", "GET", "/files/", 1),
    "during a later collection": ("before", "GET", "/files/", 3),
    "when something is stored": ("before", "DELETE", "/files/", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_is_finished_by_the_next(
    server: BatchServer, store: Path, source: Path, victims: list["subprocess.Popen[str]"], moment: str
) -> None:
    when, method, path, number = MOMENTS[moment]
    is_it = nth(method, path, number)

    def kill(call: Call) -> Reply | None:
        if is_it(call):
            os.kill(victims[0].pid, signal.SIGKILL)
        return None

    server.looks = 3
    setattr(server, when, kill)
    command = apart(("ingest", store, source, "--lane", "batch"), AT_ONCE)
    with server.held():
        victims.append(
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        )
    assert victims[0].wait(timeout=100) == -signal.SIGKILL
    assert head_of(store).version == 0

    closing = ok(run("ingest", store, source, "--lane", "batch", "--json")).json
    assert closing["found_chunks"] + closing["embedded_chunks"] == DOCUMENTS
    assert closing["documents"]["live"] == DOCUMENTS
    assert_all_is_embedded(server, store)
    if moment != "when something is stored":
        assert_nothing_left(server, store)
    ok(run("gc", store))


def test_ctrl_c_ends_the_wait_and_says_how_to_go_on(
    server: BatchServer, store: Path, source: Path, victims: list["subprocess.Popen[str]"]
) -> None:
    is_it = nth("GET", "/batches/", 5)

    def interrupt(call: Call) -> Reply | None:
        if is_it(call):
            os.kill(victims[0].pid, signal.SIGINT)
        return None

    server.looks = 1 << 30
    server.before = interrupt
    command = apart(("ingest", store, source, "--lane", "batch"), f"{HEEDS_CTRL_C}\n{AT_ONCE}")
    with server.held():
        victims.append(
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
    _, said = victims[0].communicate(timeout=100)
    assert victims[0].returncode == 128 + signal.SIGINT
    assert "error: stopped; batches that are under way and on record: " in said
    assert "Traceback" not in said
    server.looks = 1
    ok(run("ingest", store, source, "--lane", "batch"))
    assert_all_is_embedded(server, store)
    assert_nothing_left(server, store)


def test_the_commands_of_the_docs_run(
    server: BatchServer, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    source.rename(tmp_path / "docs" / source.name)
    init("my-store", declare(tmp_path, server.base_url))
    shown = re.findall(r"^\$ tierloom (.*)$", (ROOT / "docs" / "batches.md").read_text(), re.MULTILINE)
    assert [ok(run(*command.split())).out for command in shown][-1] == "0 on record\n"
    assert set(server.billed) == set(TEXTS)


def submit_and_stop(server: BatchServer, store: Path, source: Path) -> None:
    """A run that may submit, and not look."""
    server.before = lambda call: error(401, "key withdrawn") if call.is_("GET", "/batches/") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "MAX_INPUTS", 2 * DOCUMENTS)
        assert "key withdrawn" in run("ingest", store, source, "--lane", "batch").error
    server.before = lambda call: None


def test_a_model_that_changes_meanwhile_is_noticed(server: BatchServer, store: Path, source: Path) -> None:
    """Nothing of it is published, its batches are forgotten, and a later run pays for what they would have brought."""
    submit_and_stop(server, store, source)
    server.revision = "2"
    assert "minimum cosine" in run("ingest", store, source, "--lane", "batch").error
    server.revision = ""

    def change(call: Call) -> None:
        if call.is_("GET", "/batches/"):
            server.revision = "2"

    server.before = change
    stopped = run("ingest", store, source, "--lane", "batch")
    assert stopped.status == 6
    assert "no longer answers as it did" in stopped.err
    assert head_of(store).version == 0
    assert_nothing_left(server, store)
    server.before, server.revision = lambda call: None, ""
    ok(run("ingest", store, source, "--lane", "batch"))
    assert live_texts(store) == {(f"d{n}", 0): text for n, text in enumerate(TEXTS)}
    with tierloom.open(str(store)) as snapshot:
        for chunk in snapshot.chunks(vectors=True):
            right = to_unit_float16(vector_of(chunk.text, 16)[np.newaxis])[0]
            assert np.array_equal(np.asarray(chunk.vector), right)
    assert_whole(store)
    assert_nothing_left(server, store)


def test_documents_that_change_meanwhile_cost_only_themselves(server: BatchServer, store: Path, source: Path) -> None:
    submit_and_stop(server, store, source)
    changed = [text + " changed" if n in (0, 31) else text for n, text in enumerate(TEXTS)]
    write_texts(source, [*changed, "a new one"])
    ok(run("ingest", store, source, "--lane", "batch"))
    server.run_out()
    assert server.billed == dict.fromkeys([*TEXTS, *changed, "a new one"], 1)
    assert_whole(store)


def test_a_chunk_that_is_refused_is_a_dead_letter(server: BatchServer, store: Path, source: Path) -> None:
    server.fate = lambda texts: 400 if TEXTS[7] in texts else "answered"
    closing = ok(run("ingest", store, source, "--lane", "batch", "--json")).json
    assert closing["dead_letters"] == 1
    (letter,) = map(json.loads, ok(run("dead-letters", store, "--json")).out.splitlines())
    assert (letter["reason"], letter["chunk"]["text"]) == ("refused-by-model", TEXTS[7])
    assert_whole(store)
    assert_nothing_left(server, store)


def test_a_lost_batch_is_told_and_forgotten_on_demand(server: BatchServer, store: Path, source: Path) -> None:
    submit_and_stop(server, store, source)
    server.lose_everything()
    lost = json.loads(ok(run("batches", store, "--json")).out)
    assert lost["inputs"] == DOCUMENTS
    assert re.search(rf"{lost['digest']}  {lost['batch']}  60 inputs, .*\n1 on record", ok(run("batches", store)).out)
    told = run("ingest", store, source, "--lane", "batch").error
    assert f"batch {lost['batch']}, on record in batches/{lost['digest']}.json" in told
    assert f"--forget {lost['digest']}" in told
    ok(run("batches", store, "--forget", lost["digest"]))
    ok(run("ingest", store, source, "--lane", "batch"))
    assert_all_is_embedded(server, store)
    for digest in (lost["digest"], "../manifests/0"):
        assert f"has no record of a batch {digest!r}" in run("batches", store, "--forget", digest).error


def test_wordllama_has_no_batches(tmp_path: Path, source: Path) -> None:
    init(tmp_path / "local", "wordllama", tiers="64")
    refused = run("ingest", tmp_path / "local", source, "--lane", "batch").error
    assert "of wordllama has no Batch API: only provider openai has one; leave out --lane batch" in refused


def test_a_second_generation_is_built_by_batches(
    server: BatchServer, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside one whose model is in this process, and has none."""
    monkeypatch.setattr(gathering, "MAX_INPUTS", 1000)
    store = tmp_path / "local"
    init(store, "wordllama", tiers="64")
    ok(run("ingest", store, source))
    model = declare(tmp_path, server.base_url)
    ok(run("reembed", store, "--model", model, "--tiers", "8,16", "--untrained-prefixes", "--lane", "batch"))
    assert server.billed == dict.fromkeys(TEXTS, 1)
    write_texts(source, [*TEXTS, "another"])
    ok(run("ingest", store, source, "--lane", "batch"))
    assert server.billed == dict.fromkeys([*TEXTS, "another"], 1)
    assert_nothing_left(server, store)
    assert_whole(store)


def test_a_stream_has_no_lane(store: Path, source: Path) -> None:
    assert (
        "it publishes within seconds, and a batch may take a day"
        in run("stream", store, source, "--lane", "batch").error
    )


def test_no_key_no_batch(store: Path, source: Path, monkeypatch: pytest.MonkeyPatch, server: BatchServer) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "no\tkey")
    assert "holds no API key" in run("ingest", store, source, "--lane", "batch").error
    assert not server.calls
