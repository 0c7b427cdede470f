"""`--metrics-file`: what a run came to, as Prometheus reads it."""

import os
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.embedders.endpoint import Endpoint, error
from tests.pipelines.command_line import declare, head_of, init, ok, run, run_apart, write_records
from tierloom.stores.local import LocalStore
from tierloom.taking_turns import Turn

Samples = dict[tuple[str, str], float]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [{"id": f"d{n}", "sequence": 1, "text": f"number {n}"} for n in range(5)]
    return write_records(tmp_path / "r.jsonl", records)


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    init(tmp_path / "store", declare(tmp_path, endpoint))
    return tmp_path / "store"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "textfiles"
    folder.mkdir()
    return folder / "tierloom.prom"


def samples(file: Path, command: str, store: Path) -> Samples:
    """By name and kind; each is of this command and store."""
    found: Samples = {}
    for family in text_string_to_metric_families(file.read_text()):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("command") == command
            assert labels.pop("store") == str(store)
            kind = labels.pop("kind", "")
            assert not labels
            found[sample.name.removeprefix("tierloom_run_"), kind] = sample.value

    return found


def test_an_ingest_leaves_its_figures(store: Path, source: Path, file: Path) -> None:
    before = time.time()
    ok(run("ingest", store, source, "--sync", "--metrics-file", file))
    found = samples(file, "ingest", store)
    assert before <= found.pop(("timestamp_seconds", "")) <= time.time()
    assert before <= found.pop(("last_success_timestamp_seconds", "")) <= time.time()
    assert 0 < found.pop(("duration_seconds", "")) < 120
    record = head_of(store).run
    assert record.tokens > 0
    assert found == {
        ("success", ""): 1,
        ("exit_code", ""): 0,
        ("version", ""): 1,
        ("tokens", ""): record.tokens,
        ("documents", "in"): 5,
        ("documents", "superseded"): 0,
        ("documents", "deleted"): 0,
        ("documents", "dead_lettered"): 0,
        ("documents", "added"): 5,
        ("documents", "changed"): 0,
        ("documents", "removed"): 0,
        ("documents", "live"): 5,
        ("chunks", "embedded"): 5,
        ("chunks", "copied"): 0,
        ("chunks", "found"): 0,
        ("chunks", "live"): 5,
    }


@pytest.mark.parametrize("command", ["compact", "gc", "verify"])
def test_so_does_all_that_runs_on_a_schedule(store: Path, source: Path, file: Path, command: str) -> None:
    ok(run("ingest", store, source))
    ok(run(command, store, "--metrics-file", file))
    found = samples(file, command, store)
    assert (found["success", ""], found["exit_code", ""]) == (1, 0)
    own = {"compact": "version", "gc": "freed_bytes", "verify": "checked_objects"}[command]
    assert (own, "") in found


def test_a_run_that_failed_keeps_the_time_of_the_last_success(
    store: Path, source: Path, file: Path, endpoint: Endpoint
) -> None:
    ok(run("ingest", store, source, "--metrics-file", file))
    success = samples(file, "ingest", store)["last_success_timestamp_seconds", ""]
    source.write_text(source.read_text().replace("number", "No.").replace('"sequence": 1', '"sequence": 2'))
    endpoint.script = lambda asked: error(401, "no such key")
    for _ in range(2):
        assert run("ingest", store, source, "--metrics-file", file).status == 1
        found = samples(file, "ingest", store)
        assert (found["success", ""], found["exit_code", ""]) == (0, 1)
        assert found["last_success_timestamp_seconds", ""] == success < found["timestamp_seconds", ""]
        assert ("tokens", "") not in found


def test_one_that_never_succeeded_says_no_time(store: Path, file: Path) -> None:
    with Turn(LocalStore(store), "gc"):
        assert run("gc", store, "--metrics-file", file).status == 75
    found = samples(file, "gc", store)
    assert found["exit_code", ""] == 75
    assert ("last_success_timestamp_seconds", "") not in found


@pytest.mark.parametrize("content", ["", "not metrics {{{", 'tierloom_run_last_success_timestamp_seconds{a="b"} 1\n'])
def test_a_file_of_somebody_else_is_replaced(store: Path, file: Path, content: str) -> None:
    file.write_text(content)
    ok(run("gc", store, "--metrics-file", file))
    assert samples(file, "gc", store)["success", ""] == 1


def test_an_audit_that_finds_something_says_how_much(store: Path, source: Path, file: Path) -> None:
    ok(run("ingest", store, source))
    (shard,) = (store / "shards").glob("*")
    shard.chmod(0o600)
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run("verify", store, "--metrics-file", file).status == 1
    assert samples(file, "verify", store)["wrong_objects", ""] >= 1


def test_names_are_written_as_prometheus_wants(tmp_path: Path, endpoint: Endpoint, file: Path) -> None:
    odd = tmp_path / 'a "store"\\of\nmine'
    init(odd, declare(tmp_path, endpoint))
    ok(run("gc", odd, "--metrics-file", file))
    assert samples(file, "gc", odd)["success", ""] == 1


def test_where_it_cannot_go_nothing_is_begun(store: Path, source: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    for path in (tmp_path / "no-such-folder" / "x.prom", tmp_path / "x.txt"):
        refused = run("ingest", store, source, "--metrics-file", path)
        assert refused.status == 2
        assert str(path.parent) in refused.err.replace("\n", "")
    assert endpoint.requests == 0


def test_without_its_library_nothing_is_begun(store: Path, source: Path, file: Path) -> None:
    missing = "sys.modules['prometheus_client'] = None"
    finished = run_apart("ingest", store, source, "--metrics-file", file, before=missing)
    assert "tierloom[pipeline]" in finished.error
    assert head_of(store).version == 0


def test_a_disk_that_fills_up_is_told_and_changes_nothing(
    store: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prometheus_client

    def full(path: str, registry: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(prometheus_client, "write_to_textfile", full)
    finished = ok(run("gc", store, "--metrics-file", file))
    assert f"warning: {file} was not written: No space left on device" in finished.err


def test_a_stream_writes_while_it_lives(store: Path, source: Path, file: Path) -> None:
    """Its file is its heartbeat: it is there before the stream ends, without a status."""
    seen: list[Samples] = []
    written = threading.Event()

    def watch() -> None:
        while not written.wait(0.01):
            if file.exists():
                seen.append(samples(file, "stream", store))
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    ok(run_apart("stream", store, source, "--once", "--metrics-file", file))
    written.set()
    watcher.join()
    assert seen
    assert ("success", "") not in seen[0]
    assert samples(file, "stream", store)["success", ""] == 1
    assert samples(file, "stream", store)["documents", "added"] == 5
