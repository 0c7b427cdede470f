"""Whatever runs on a schedule is safe to start twice."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.commands.ingest import turn_to_sync
from tests.embedders.endpoint import Asked, Endpoint
from tests.pipelines.command_line import (
    HEEDS_CTRL_C,
    ROOT,
    Finished,
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
from tierloom.errors import StoreError
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision
from tierloom.taking_turns import Turn
from tierloom.turn import read_turn

DOCUMENTS = 12


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [{"id": f"d{n}", "sequence": 1, "text": f"document number {n}"} for n in range(DOCUMENTS)]
    return write_records(tmp_path / "records.jsonl", records)


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    init(store.root, declare(tmp_path, endpoint))
    return store


def deed_of(command: str, source: Path) -> str:
    return turn_to_sync([str(source)]) if command == "ingest" else command


COMMANDS = {
    "ingest": ("ingest", "STORE", "SOURCE", "--sync"),
    "compact": ("compact", "STORE", "--fan-out", "2"),
    "gc": ("gc", "STORE", "--grace", "0s"),
    "verify": ("verify", "STORE"),
    "reembed": ("reembed", "STORE", "--model", "SECOND", "--untrained-prefixes"),
}


def another_model(folder: Path) -> Path:
    """The declaration of another checkpoint at the endpoint of the one in the folder."""
    path = folder / "second.toml"
    path.write_text(f'document_prompt = "second: "\n{(folder / "model.toml").read_text()}')
    return path


def filled(command: str, store: LocalStore, source: Path) -> list[str]:
    places = {"STORE": str(store.root), "SOURCE": str(source), "SECOND": str(another_model(source.parent))}
    return [places.get(argument, argument) for argument in COMMANDS[command]]


def objects(store: LocalStore) -> dict[str, str]:
    """Every object but the turns, as it is."""
    return {listed.name: listed.mark for listed in store.list("") if not listed.name.startswith("turns/")}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_does_nothing_and_says_who_is_at_it(
    store: LocalStore, source: Path, endpoint: Endpoint, command: str
) -> None:
    ok(run("ingest", store.root, source))
    source.write_text(source.read_text().replace("number", "No."))
    before, asked = objects(store), endpoint.requests
    with Turn(store, deed_of(command, source)):
        refused = run(*filled(command, store, source))
        assert refused.status == 75
        assert refused.out == ""
        assert f"pid {os.getpid()} is at {deed_of(command, source)} since 20" in refused.error
        assert (objects(store), endpoint.requests) == (before, asked)
    ok(run(*filled(command, store, source)))
    last = read_turn(store, deed_of(command, source))
    assert last is not None
    assert last[0].ended


def test_others_are_not_held_up(store: LocalStore, source: Path, tmp_path: Path) -> None:
    elsewhere = write_records(tmp_path / "others.jsonl", [{"id": "x", "text": "elsewhere"}])
    with Turn(store, turn_to_sync([str(source)])), Turn(store, "gc"):
        ok(run("ingest", store.root, source))
        ok(run("ingest", store.root, elsewhere, "--sync"))
        ok(run("gc", store.root, "--dry-run"))
    assert head_of(store.root).documents.live == DOCUMENTS + 1


def test_the_same_sources_are_the_same_however_they_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert turn_to_sync(["a", "gs://b/c"]) == turn_to_sync(["gs://b/c", str(tmp_path / "a")])
    assert turn_to_sync(["a"]) != turn_to_sync(["b"])


def test_waiting_is_for_a_sync(store: LocalStore, source: Path) -> None:
    refused = run("ingest", store.root, source, "--wait", "1m")
    assert refused.status == 2
    assert "--wait goes with --sync" in refused.err


@contextmanager
def started(*arguments: object, before: str = "") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        apart(arguments, before), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate(timeout=60)
    return Finished(process.returncode, out, err)


def test_the_second_waits_if_it_is_told_to(store: LocalStore, source: Path) -> None:
    turn = Turn(store, "compact")
    with started("compact", store.root, "--wait", "10m") as second:
        assert second.stderr is not None
        assert second.stderr.readline().startswith(f"waiting: {store.url}: ")
        turn.close()
        assert "nothing to compact" in ok(ended(second)).out


class Signaller:
    """Sends a signal to the process that asks for vectors, and says so."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self.victim: subprocess.Popen[str] | None = None
        self.sent = threading.Event()

    def __call__(self, asked: Asked) -> None:
        if self.victim is not None and not self.sent.is_set():
            os.kill(self.victim.pid, self._number)
            self.sent.set()


SHORT = """
from datetime import timedelta
import pipelines.turns
from tierloom.turn import Term
pipelines.turns.TERM = Term(duration=timedelta(seconds=2), skew=timedelta(0))
"""


def test_a_stopped_sync_publishes_nothing_once_another_has_begun(
    store: LocalStore, source: Path, endpoint: Endpoint
) -> None:
    """SIGSTOP, as a laptop that sleeps: its turn runs out, another takes it, and then it goes on."""
    endpoint.script = stopper = Signaller(signal.SIGSTOP)
    with started("ingest", store.root, source, "--sync", before=SHORT) as sleeper:
        stopper.victim = sleeper
        assert stopper.sent.wait(timeout=60)
        source.write_text(source.read_text().replace("number", "No."))
        with started("ingest", store.root, source, "--sync", "--wait", "60s", before=SHORT) as second:
            assert "1 published" in ok(ended(second)).out
        os.kill(sleeper.pid, signal.SIGCONT)
        lost = ended(sleeper)
    assert lost.status == 75
    assert "has taken over ingest-sync-" in lost.err.splitlines()[-1]
    assert head_of(store.root).version == 1
    assert live_texts(store.root)["d3", 0] == "document No. 3"
    assert_whole(store.root)


def test_a_stopped_reembedding_begins_nothing_once_another_has_taken_over(
    store: LocalStore, source: Path, endpoint: Endpoint
) -> None:
    """It wakes when all is over, and the generation that it was to begin was thrown away."""
    ok(run("ingest", store.root, source))
    command = filled("reembed", store, source)
    endpoint.script = stopper = Signaller(signal.SIGSTOP)
    with started(*command, before=SHORT) as sleeper:
        stopper.victim = sleeper
        assert stopper.sent.wait(timeout=60)
        with started(*command, "--wait", "60s", before=SHORT) as second:
            ok(ended(second))
        ok(run("retire", store.root, "--checkpoint", head_of(store.root).generations[1].checkpoint))
        retired = head_of(store.root).version
        os.kill(sleeper.pid, signal.SIGCONT)
        lost = ended(sleeper)
    assert lost.status == 75, lost
    assert "has taken over reembed" in lost.err.splitlines()[-1]
    assert head_of(store.root).version == retired


def test_a_stopped_sync_that_nobody_replaced_goes_on(store: LocalStore, source: Path, endpoint: Endpoint) -> None:
    endpoint.script = stopper = Signaller(signal.SIGSTOP)
    with started(
        "ingest", store.root, source, "--sync", before=SHORT.replace("seconds=2", "milliseconds=40")
    ) as sleeper:
        stopper.victim = sleeper
        assert stopper.sent.wait(timeout=60)
        os.kill(sleeper.pid, signal.SIGCONT)
        ok(ended(sleeper))
    assert head_of(store.root).documents.live == DOCUMENTS


def test_a_sync_that_was_killed_is_started_again_at_once(store: LocalStore, source: Path, endpoint: Endpoint) -> None:
    endpoint.script = killer = Signaller(signal.SIGKILL)
    with started("ingest", store.root, source, "--sync") as victim:
        killer.victim = victim
        assert victim.wait(timeout=60) == -signal.SIGKILL
    ok(run("ingest", store.root, source, "--sync"))
    assert head_of(store.root).documents.live == DOCUMENTS


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_go_of_the_turn(
    store: LocalStore, source: Path, endpoint: Endpoint, number: signal.Signals, status: int
) -> None:
    endpoint.script = sender = Signaller(number)
    metrics = store.root.parent / "run.prom"
    with started("ingest", store.root, source, "--sync", "--metrics-file", metrics, before=HEEDS_CTRL_C) as victim:
        sender.victim = victim
        finished = ended(victim)
    assert finished.status == status
    assert finished.err.splitlines()[-1] == f"ended by {number.name}; what was finished stays"
    assert f'\ntierloom_run_exit_code{{command="ingest",store="{store.root}"}} {status}.0\n' in metrics.read_text()
    turn = read_turn(store, turn_to_sync([str(source)]))
    assert turn is not None
    assert turn[0].ended
    assert head_of(store.root).version == 0
    assert list(store.list("leases/")) == []
    ok(run("ingest", store.root, source, "--sync"))


def test_who_may_only_read_verifies_all_the_same(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
        raise StoreError(f"{name}: Permission denied")

    monkeypatch.setattr(LocalStore, "swap", refuse)
    verified = ok(run("verify", store.root))
    assert "0 wrong" in verified.out
    assert "others may verify it at the same time: turns/verify.json: Permission denied" in verified.err


def test_a_mirror_is_verified_and_stays_as_it_is(store: LocalStore, source: Path, tmp_path: Path) -> None:
    ok(run("ingest", store.root, source))
    ok(run("pull", store.root, tmp_path / "mirror"))
    ok(run("verify", tmp_path / "mirror"))
    assert not (tmp_path / "mirror" / "turns").exists()


def test_where_there_is_no_collection_nothing_is_left_behind(tmp_path: Path) -> None:
    assert "holds no collection" in run("gc", tmp_path / "nowhere").error
    assert not (tmp_path / "nowhere").exists()


def test_an_erasure_looks_into_turns_too(store: LocalStore, source: Path) -> None:
    ok(run("ingest", store.root, source, "--sync"))
    receipt = run("erase", store.root, "d3", "--force", "--json").json
    assert any(scanned["path"].startswith("turns/") for scanned in receipt["scanned"])
