"""A provider replaces a model in silence: it is noticed before anything is paid for, or by the next request."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Asked, Endpoint, error, is_canary
from tests.generations import open_generation
from tests.pipelines.command_line import (
    Finished,
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    ok,
    run,
    write_records,
)
from tierloom import names

DOCUMENTS = 120
DRIFT = 3e-3


class Changing:
    """A script: with the n-th request from now on the model is another one."""

    def __init__(self, endpoint: Endpoint, at: int) -> None:
        self._endpoint = endpoint
        self._at = endpoint.requests + at
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> None:
        with self._lock:
            if asked.number >= self._at:
                self._endpoint.revision = "2"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records = [{"id": f"d{n}", "sequence": 1, "text": f"document number {n}"} for n in range(DOCUMENTS)]
    return write_records(tmp_path / "records.jsonl", records)


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    return new_store(tmp_path / "store", endpoint)


def new_store(path: Path, endpoint: Endpoint) -> Path:
    path.parent.mkdir(exist_ok=True)
    init(path, declare(path.parent, endpoint), "--block-chunks", 16, "--shard-rows", 50)
    return path


def canary_object(store: Path) -> Path:
    return store / names.canaries(head_of(store).collection.checkpoint)


def vectors_of(store: Path, checkpoint: str | None = None) -> dict[tuple[str, int], bytes]:
    """The full vector of every live chunk of a generation, to the bit."""
    with open_generation(store, head_of(store).of(checkpoint)) as snapshot:
        chunks = list(snapshot.chunks(vectors=True))
    return {(chunk.document_id, chunk.ordinal): np.asarray(chunk.vector).tobytes() for chunk in chunks}


def grow(source: Path, *texts: str) -> None:
    with source.open("a") as lines:
        lines.writelines(json.dumps({"id": text, "sequence": 1, "text": text}) + "\n" for text in texts)


@pytest.mark.parametrize(("at", "workers"), [(1, 1), (9, 1), (3, 2)])
def test_a_model_that_changes_during_a_run_publishes_nothing(
    tmp_path: Path, endpoint: Endpoint, store: Path, source: Path, at: int, workers: int
) -> None:
    engine = ("--direct_running_mode=multi_processing", "--direct_num_workers=2") if workers == 2 else ()
    endpoint.script = Changing(endpoint, at)
    failed = run("ingest", store, source, "--concurrency", 8, *engine)
    assert "no longer answers as it did" in failed.error
    assert endpoint.base_url in failed.error
    assert head_of(store).version == 0

    endpoint.script, endpoint.revision = None, ""
    closing = ok(run("ingest", store, source, "--json", *engine)).json
    assert closing["documents"]["live"] == closing["found_chunks"] + closing["embedded_chunks"] == DOCUMENTS
    assert_whole(store)
    clean = new_store(tmp_path / "clean" / "store", endpoint)
    ok(run("ingest", clean, source))
    assert vectors_of(store) == vectors_of(clean)


def test_a_model_that_changed_before_a_run_stops_it_first(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("ingest", store, source))
    grow(source, "new")
    endpoint.revision = "2"
    endpoint.asked.clear()
    failed = run("ingest", store, source)
    assert "minimum cosine" in failed.error
    assert "over 64 canaries" in failed.error
    assert [text for asked in endpoint.asked for text in asked.documents] == []
    assert head_of(store).version == 1
    endpoint.revision = ""
    ok(run("ingest", store, source))
    assert live_texts(store)["new", 0] == "new"


def test_what_is_billed_is_in_the_table(endpoint: Endpoint, store: Path, source: Path) -> None:
    first = ok(run("ingest", store, source, "--json")).json
    assert first["canary_tokens"] > 0
    assert first["tokens"] + first["canary_tokens"] == endpoint.billed_tokens
    texts = sum(len(f"document number {n}") for n in range(DOCUMENTS))
    assert endpoint.billed_tokens - endpoint.canary_tokens == texts
    assert head_of(store).run.canary_tokens == first["canary_tokens"]
    grow(source, "new")
    assert f"paid for, and {first['canary_tokens']:,} for canaries" in ok(run("ingest", store, source)).out


def test_a_run_that_embeds_nothing_asks_for_no_canaries(endpoint: Endpoint, store: Path, source: Path) -> None:
    write_records(source.with_name("other.jsonl"), [{"id": "other", "sequence": 1, "text": "other"}])
    sources = source.parent / "*.jsonl"
    ok(run("ingest", store, sources))
    asked = endpoint.requests
    assert ok(run("ingest", store, sources, "--json")).json["canary_tokens"] == 0
    source.unlink()
    ok(run("ingest", store, sources, "--sync", "--force"))
    ok(run("dead-letters", store, "--retry"))
    assert endpoint.requests == asked
    assert live_texts(store) == {("other", 0): "other"}


def test_a_model_that_drifts_is_told_and_goes_on(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("ingest", store, source))
    grow(source, "new")
    endpoint.noise = DRIFT
    warned = ok(run("ingest", store, source))
    assert "warning: test-model at" in warned.err
    assert "(under 0.999)" in warned.err
    assert head_of(store).version == 2


@pytest.mark.parametrize("command", ["ingest", "stream"])
def test_edited_canaries_are_named_and_nothing_is_paid(
    endpoint: Endpoint, store: Path, source: Path, command: str
) -> None:
    ok(run("ingest", store, source))
    grow(source, "new")
    path = canary_object(store)
    path.write_text(path.read_text(encoding="utf-8").replace("KING JOHN", "KING LEAR"), encoding="utf-8")
    billed = endpoint.billed_tokens
    finished = run(command, store, source, *(("--once",) if command == "stream" else ()))
    assert finished.status == 1
    assert f"{names.canaries(head_of(store).collection.checkpoint)}: states sha256" in finished.err
    assert "tierloom canary STORE --record" in finished.err
    assert endpoint.billed_tokens == billed
    assert "sha256" in run("canary", store).error
    verified = run("verify", store)
    assert (verified.status, verified.out.count("wrong: ")) == (1, 1)
    # The cure that the message names.
    path.unlink()
    assert "64 canaries recorded" in ok(run("canary", store, "--record")).out
    ok(run("ingest", store, source))
    ok(run("verify", store))


def test_a_stream_stops_when_the_model_changes(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("stream", store, source, "--once", "--max-batch", 40))
    texts, version = live_texts(store), head_of(store).version
    assert len(texts) == DOCUMENTS
    grow(source, *(f"new {n}" for n in range(30)))
    # One request for the canaries, five for a batch.
    endpoint.script = Changing(endpoint, 8)
    stopped = run("stream", store, source, "--once", "--max-batch", 10, "--interval", 0)
    assert stopped.status == ExitCode.CHANGED
    assert "no longer answers as it did" in stopped.err
    assert head_of(store).version > version
    assert DOCUMENTS < len(live_texts(store)) < DOCUMENTS + 30
    endpoint.script, endpoint.revision = None, ""
    closing = ok(run("stream", store, source, "--once", "--json")).json
    assert closing["canary_tokens"] > 0
    assert len(live_texts(store)) == DOCUMENTS + 30
    assert_whole(store)


def test_a_stream_to_which_nothing_comes_asks_for_no_canaries(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("stream", store, source, "--once"))
    asked = endpoint.requests
    closing = ok(run("stream", store, source, "--once", "--json")).json
    assert (closing["canary_tokens"], endpoint.requests) == (0, asked)


def test_a_retry_asks_the_canaries_first(endpoint: Endpoint, store: Path, source: Path) -> None:
    grow(source, "poison")
    endpoint.script = lambda asked: error(400, "no") if "poison" in asked.inputs else None
    ok(run("ingest", store, source))
    endpoint.script, endpoint.revision = None, "2"
    endpoint.asked.clear()
    assert "minimum cosine" in run("dead-letters", store, "--retry").error
    assert all(map(is_canary, (text for asked in endpoint.asked for text in asked.inputs)))
    endpoint.revision = ""
    ok(run("dead-letters", store, "--retry"))
    assert live_texts(store)["poison", 0] == "poison"


def test_canaries_stay_with_their_checkpoint(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("ingest", store, source))
    kept = canary_object(store).read_bytes()
    grow(source, "new")
    ok(run("ingest", store, source))
    ok(run("retention", store, "--versions", 1, "--age", "0s"))
    ok(run("gc", store, "--grace", "0s"))
    assert canary_object(store).read_bytes() == kept


class TestTheCommand:
    """`tierloom canary`, for a schedule."""

    def test_where_none_are_kept_it_says_how(self, endpoint: Endpoint, store: Path) -> None:
        assert f"tierloom canary {store} --record" in run("canary", store).error
        assert endpoint.requests == 0
        ok(run("canary", store, "--record"))
        kept = canary_object(store).read_bytes()
        assert "minimum cosine  1.000000" in ok(run("canary", store)).out
        endpoint.revision = "2"
        assert run("canary", store, "--record").status == 6
        assert canary_object(store).read_bytes() == kept

    @pytest.mark.parametrize(
        ("noise", "revision", "status", "state"),
        [(0, "", 0, "same"), (1e-5, "", 0, "same"), (DRIFT, "", 5, "drifted"), (0, "2", 6, "changed")],
    )
    def test_its_exit_status_tells_a_scheduler(
        self, endpoint: Endpoint, store: Path, noise: float, revision: str, status: int, state: str
    ) -> None:
        ok(run("canary", store, "--record"))
        endpoint.noise, endpoint.revision = noise, revision
        finished = run("canary", store, "--json")
        assert finished.status == status
        told = json.loads(finished.out)
        (checkpoint,) = told["checkpoints"]
        assert told["state"] == checkpoint["state"] == state
        assert checkpoint["minimum"] == checkpoint["worst"][0]["cosine"] <= checkpoint["median"]
        assert checkpoint["checkpoint"] == head_of(store).collection.checkpoint
        shown = run("canary", store)
        assert shown.status == status
        assert checkpoint["worst"][0]["text"] in shown.out or noise

    def test_an_endpoint_that_refuses_is_an_error_not_a_verdict(self, endpoint: Endpoint, store: Path) -> None:
        ok(run("canary", store, "--record"))
        endpoint.script = lambda _: error(401, "no such key")
        assert "no such key" in run("canary", store).error

    def test_a_model_in_this_process_is_watched_too(self, tmp_path: Path) -> None:
        init(tmp_path / "store", "wordllama", tiers="64")
        ok(run("canary", tmp_path / "store", "--record"))
        assert json.loads(ok(run("canary", tmp_path / "store", "--json")).out)["checkpoints"][0]["minimum"] == 1.0


class TestTwoGenerations:
    """Each is watched by the canaries of its own checkpoint."""

    @pytest.fixture
    def model(self, tmp_path: Path, endpoint: Endpoint) -> Path:
        folder = tmp_path / "second"
        folder.mkdir()
        return declare(folder, endpoint, document_prompt="second: ")

    @staticmethod
    def reembed(store: Path, model: Path) -> Finished:
        return run("reembed", store, "--model", model, "--untrained-prefixes", "--json")

    def test_a_reembedding_stops_when_the_model_changes(
        self, tmp_path: Path, endpoint: Endpoint, store: Path, source: Path, model: Path
    ) -> None:
        ok(run("ingest", store, source))
        endpoint.script = Changing(endpoint, 4)
        failed = self.reembed(store, model)
        assert failed.status == ExitCode.CHANGED
        assert "no longer answers as it did" in failed.err
        endpoint.script, endpoint.revision = None, ""
        closing = ok(self.reembed(store, model)).json
        assert closing["live_chunks"] == DOCUMENTS
        assert closing["found_chunks"] + closing["embedded_chunks"] == DOCUMENTS
        built = head_of(store)
        assert built.other

        clean = tmp_path / "clean" / "store"
        clean.parent.mkdir()
        init(clean, model, "--block-chunks", 16, "--shard-rows", 50)
        ok(run("ingest", clean, source))
        assert vectors_of(store, built.other.checkpoint) == vectors_of(clean)

    def test_one_that_has_no_place_pays_for_no_canaries(
        self, tmp_path: Path, endpoint: Endpoint, store: Path, source: Path, model: Path
    ) -> None:
        ok(run("ingest", store, source))
        ok(self.reembed(store, model))
        billed = endpoint.billed_tokens
        # All is there: nothing is asked.
        ok(self.reembed(store, model))
        third = tmp_path / "third"
        third.mkdir()
        refused = self.reembed(store, declare(third, endpoint, document_prompt="third: "))
        assert "has two generations already" in refused.error
        assert endpoint.billed_tokens == billed

    def test_both_are_asked_and_kept(self, endpoint: Endpoint, store: Path, source: Path, model: Path) -> None:
        ok(run("ingest", store, source))
        ok(self.reembed(store, model))
        told = json.loads(ok(run("canary", store, "--json")).out)
        head = head_of(store)
        assert [one["checkpoint"] for one in told["checkpoints"]] == list(head.checkpoints)
        ok(run("gc", store, "--grace", "0s"))
        kept = [store / names.canaries(checkpoint) for checkpoint in head.checkpoints]
        assert all(path.exists() for path in kept)
        # An edited one of either is enough to stop whoever writes to both.
        kept[1].write_text(kept[1].read_text(encoding="utf-8").replace("KING JOHN", "KING LEAR"), encoding="utf-8")
        grow(source, "new")
        assert names.canaries(head.checkpoints[1]) in run("ingest", store, source).error
        assert names.canaries(head.checkpoints[1]) in run("verify", store).out
