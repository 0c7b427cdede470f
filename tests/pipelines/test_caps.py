"""Caps on whole runs of the command line: never passed, with an exit status of their own, and easy to go on from."""

import json
import random
from pathlib import Path

import pytest

from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.one_canary import ASIDE, WATCHED, keep_one_canary
from tests.pipelines.command_line import (
    SEEDS,
    Finished,
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    ok,
    run,
    run_apart,
    write_records,
)
from tests.pipelines.priced import priced_collection
from tests.pipelines.report.written_page import WrittenPage
from tierloom.canaries import canary_texts

# What a run is billed for its canaries before it begins.
CANARIES = sum(len(text.encode()) for text in canary_texts())
CAP = 1500 + CANARIES
WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def capped(finished: Finished) -> str:
    """What is said of a run that stopped at its cap."""
    assert finished.status == ExitCode.CAPPED, finished
    [line] = [line for line in finished.err.splitlines() if line.startswith("error: ")]
    return line


def documents_billed(endpoint: Endpoint) -> int:
    """The tokens billed for anything but canaries."""
    return endpoint.billed_tokens - endpoint.canary_tokens


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Forty documents in four files, each file a split of its own; a document has one to six chunks."""
    folder = tmp_path / "source"
    folder.mkdir()
    drawn = random.Random(3)
    for part in range(4):
        records = [
            {"id": f"d{part}{n}", "sequence": 1, "text": f"text {part} {n}. " * drawn.choice([1, 3, 20]), "n": n}
            for n in range(10)
        ]
        records[0]["padding"] = "y" * (2 << 20)
        write_records(folder / f"{part}.jsonl", records)
    return folder


@pytest.mark.parametrize(
    "cap",
    [("--max-tokens", 1500 + CANARIES), ("--max-usd", 0.00002 * 1.5 + CANARIES * 2e-8)],
    ids=["tokens", "dollars"],
)
def test_a_run_stops_before_its_cap_and_the_next_goes_on(
    tmp_path: Path, endpoint: Endpoint, source: Path, cap: tuple[str, object]
) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    total = ok(run("plan", store, "ingest", source, "--json")).json["tokens"]
    runs, live = 0, 0
    while (finished := run("ingest", store, source, "--json", *cap)).status:
        said = capped(finished)
        assert f"{cap[0]} " in said
        assert "the same command goes on with the rest" in said
        assert endpoint.billed_tokens <= CAP * (runs + 1)
        assert head_of(store).documents.live > live
        live, runs = head_of(store).documents.live, runs + 1
        assert_whole(store)
    assert runs >= total // 1500
    assert head_of(store).documents.live == 40
    assert documents_billed(endpoint) == total
    assert_whole(store)


def test_what_a_cap_left_is_told_of_the_version(tmp_path: Path, endpoint: Endpoint, source: Path) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    left = int(json.loads(run("ingest", store, source, "--json", "--max-tokens", CAP).out)["left_documents"])
    assert 0 < left < 40
    shown = ok(run("show", store)).out
    assert f"  left          {left} documents that the ingest of this version left at its cap\n" in shown
    assert ok(run("history", store, "--last", 1)).out.endswith(f"  latest, {left} left at the cap\n")
    assert ok(run("history", store, "--last", 1, "--json")).json["left_documents"] == left
    ok(run("report", store, "-o", tmp_path / "page.html"))
    page = WrittenPage((tmp_path / "page.html").read_text())
    assert page.column("runs", "left at cap") == [f"{left}", "0"]
    assert f"The ingest of version 1 left {left} documents at its cap: the same command goes on" in page.text
    ok(run("ingest", store, source))
    assert "at its cap" not in ok(run("show", store)).out
    ok(run("report", store, "-o", tmp_path / "page.html", "--last", 1))
    assert "left at cap" not in (tmp_path / "page.html").read_text()


def test_a_cap_smaller_than_any_document_names_the_smallest_that_would_do(tmp_path: Path, endpoint: Endpoint) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text {n}"} for n in range(4)]
    source = write_records(tmp_path / "r.jsonl", records)
    said = capped(run("ingest", store, source, "--max-tokens", CANARIES))
    assert f"--max-tokens {CANARIES} is less than any of 4 documents takes beside the canaries" in said
    least = CANARIES + ASIDE + len("text 0")
    assert said.endswith(f"the smallest needs --max-tokens {least}")
    assert endpoint.document_requests == 0
    dollars = capped(run("ingest", store, source, "--max-usd", CANARIES * 2e-8))
    assert dollars.endswith(f"the smallest needs --max-usd {f'{least * 2e-8:.12f}'.rstrip('0')}")
    finished = run("ingest", store, source, "--max-tokens", least, "--json")
    assert finished.status == ExitCode.CAPPED
    assert documents_billed(endpoint) == len("text 0")


@pytest.mark.parametrize("command", ["ingest", "stream"])
def test_a_cap_smaller_than_the_canaries_sends_nothing(
    tmp_path: Path, endpoint: Endpoint, source: Path, command: str
) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    once = ("--once",) if command == "stream" else ()
    said = capped(run(command, store, source / "0.jsonl", "--max-tokens", CANARIES - 1, *once))
    assert f"--max-tokens {CANARIES - 1}: the canaries of test-model, which every run asks first" in said
    assert f"may take {CANARIES:,} tokens, so nothing was sent" in said
    assert endpoint.requests == 0


def test_dollars_without_a_price_are_refused_before_anything_is_read(
    tmp_path: Path, endpoint: Endpoint, source: Path
) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint))
    for command in (("ingest", store, source), ("stream", store, source), ("dead-letters", store, "--retry")):
        finished = run(*command, "--max-usd", 1)
        assert finished.error.startswith("--max-usd 1: the price of test-model is not known; declare it")
        assert "reading" not in finished.err
    assert endpoint.requests == 0


def test_dollars_do_not_stop_the_embedded_model(tmp_path: Path, source: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="64")
    assert ok(run("ingest", store, source, "--max-usd", 0.01, "--json")).json["documents"]["live"] == 40


def test_letters_are_retried_as_far_as_the_cap_reaches(tmp_path: Path, endpoint: Endpoint) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text number {n}"} for n in range(4)]
    endpoint.script = lambda asked: error(400, "no") if {*asked.documents} - {"hello"} else None
    keep_one_canary(store)
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records)))
    assert head_of(store).documents.dead_lettered == 4
    endpoint.script, endpoint.billed_tokens, endpoint.canary_tokens = None, 0, 0
    cap = WATCHED + ASIDE + 2 * len("text number 0")
    capped(run("dead-letters", store, "--retry", "--max-tokens", cap))
    assert documents_billed(endpoint) == 2 * len("text number 0")
    assert (head_of(store).documents.live, head_of(store).documents.dead_lettered) == (2, 2)
    ok(run("dead-letters", store, "--retry"))
    assert head_of(store).documents.live == 4
    assert documents_billed(endpoint) == 4 * len("text number 0")
    assert_whole(store)


def test_a_stream_ends_at_its_cap_and_the_next_takes_up_what_was_left(tmp_path: Path, endpoint: Endpoint) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text number {n}"} for n in range(9)]
    growing = write_records(tmp_path / "r.jsonl", records)
    keep_one_canary(store)
    endpoint.billed_tokens = endpoint.canary_tokens = 0
    each = len("text number 0")
    arguments = ("stream", store, growing, "--once", "--interval", 0, "--max-batch", 2, "--json")
    # Those of the start, and of two batches of two; then there is enough for one of the next two.
    finished = run(*arguments, "--max-tokens", 3 * WATCHED + 5 * each + ASIDE + 3)
    assert "1 document left. The same command goes on with them" in capped(finished)
    assert documents_billed(endpoint) == 5 * each
    assert head_of(store).documents.live == 5
    ok(run(*arguments))
    assert head_of(store).documents.live == 9
    assert documents_billed(endpoint) == 9 * each
    assert_whole(store)


def test_a_reembedding_stops_at_its_cap_and_goes_on(tmp_path: Path, endpoint: Endpoint, source: Path) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    ok(run("ingest", store, source))
    with Endpoint(dimensions=16) as other:
        model = declare(tmp_path, other, revision="2")
        total = ok(run("plan", store, "reembed", "--model", model, "--json")).json["tokens"]
        refused = run("reembed", store, "--model", model, "--max-usd", 1)
        assert "the price of test-model is not known" in refused.error
        assert head_of(store).other is None
        cap, runs = total // 3 + 300 + CANARIES, 0
        while (finished := run("reembed", store, "--model", model, "--max-tokens", cap)).status:
            assert "the same command goes on with the rest" in capped(finished)
            runs += 1
            assert other.billed_tokens <= cap * runs
            assert runs < 6
        assert runs >= 2
        assert documents_billed(other) == total
        built = head_of(store).other
        assert built is not None
        assert built.is_complete
        assert built.documents.live == 40
    assert_whole(store)


def test_the_price_of_the_model_that_is_left_behind_is_not_asked_for(tmp_path: Path, endpoint: Endpoint) -> None:
    """Unless it may have to be paid too."""
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint))
    source = write_records(tmp_path / "r.jsonl", [{"id": "d", "text": "text"}])
    ok(run("ingest", store, source))
    model = tmp_path / "priced.toml"
    price = (
        'revision = "2"\nprice = { usd_per_million_tokens = 0.02, as_of = 2026-11-01, page = "https://example.org" }\n'
    )
    model.write_text(price + (tmp_path / "model.toml").read_text())
    command = ("reembed", store, "--model", model, "--max-usd", 1)
    assert "the price of test-model is not known" in run(*command, "--chunk-tokens", 8, source).error
    assert head_of(store).other is None
    ok(run(*command))
    assert [one.is_complete for one in head_of(store).generations] == [True, True]


def test_what_is_left_of_one_generation_is_found_by_whoever_builds_it(
    tmp_path: Path, endpoint: Endpoint, source: Path
) -> None:
    """The cap lets both generations have some of a change; the one in front takes it up, the other one is behind."""
    store = priced_collection(tmp_path / "store", endpoint)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text number {n}"} for n in range(4)]
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records)))
    with Endpoint(dimensions=16) as other:
        model = declare(tmp_path, other, revision="2")
        ok(run("reembed", store, "--model", model))
        news = write_records(tmp_path / "n.jsonl", [{"id": "e", "sequence": 1, "text": "text number 5"}])
        said = capped(run("ingest", store, news, "--max-tokens", 2 * CANARIES + ASIDE + len("text number 5")))
        assert documents_billed(other) + documents_billed(endpoint) == 9 * len("text number 5")
        head = head_of(store)
        if head.documents.live == 5:
            assert "tierloom reembed goes on with it" in said
            assert head.other is not None
            assert not head.other.is_complete
            ok(run("reembed", store, "--model", model))
        else:
            ok(run("ingest", store, news))
        head = head_of(store)
        assert head.other is not None
        assert head.other.is_complete
        assert head.documents.live == head.other.documents.live == 5
        assert documents_billed(other) + documents_billed(endpoint) == 10 * len("text number 5")


class Flaky:
    """Fails now and then, and bills some of what it fails."""

    def __init__(self, endpoint: Endpoint, seed: int) -> None:
        self._endpoint = endpoint
        self._drawn = random.Random(seed)

    def __call__(self, asked: Asked) -> Reply | None:
        kind = self._drawn.random()
        if kind < 0.1:
            return error(429, "slow down", retry_after_ms="1")
        if kind < 0.2:
            with self._endpoint._lock:
                self._endpoint.billed_tokens += sum(len(text.encode()) for text in asked.inputs)
            return error(500, "after the work was done", retry_after_ms="1")
        return None


@pytest.mark.engine
@pytest.mark.parametrize("seed", SEEDS)
def test_two_worker_processes_do_not_pass_the_cap_together(
    tmp_path: Path, endpoint: Endpoint, source: Path, seed: int
) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    endpoint.script = Flaky(endpoint, seed)
    finished = run_apart("ingest", store, source, "--json", "--max-tokens", CAP + 1500, *WORKERS)
    capped(finished)
    assert CAP < endpoint.billed_tokens <= CAP + 1500
    assert head_of(store).documents.adds_up
    assert_whole(store)
    endpoint.script = None
    ok(run("ingest", store, source))
    assert len({document_id for document_id, _ in live_texts(store)}) == 40


def test_machines_share_a_cap(tmp_path: Path, endpoint: Endpoint, source: Path) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    # The canaries are asked once, and the machines have a share of what is left.
    capped(run("ingest", store, source, "--max-tokens", CANARIES + 3000, "--machines", 4))
    assert CANARIES + 500 < endpoint.billed_tokens <= CANARIES + 750
    refused = run("ingest", store, source, "--max-tokens", 3000, "--runner=FlinkRunner")
    assert refused.error.startswith("--max-tokens 3000: FlinkRunner does not say over how many machines")
