"""Caps on whole runs with --lane batch: never passed, at the prices of the Batch API, and easy to go on from."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedders.batch_server import BatchServer, Fate
from tests.one_canary import ASIDE, WATCHED, keep_one_canary
from tests.pipelines.command_line import assert_whole, declare, head_of, init, live_texts, ok, run, write_records
from tests.pipelines.priced import priced_collection
from tests.pipelines.test_caps import CANARIES, capped
from tierloom.embedders import batch_lane, gathering
from tierloom.embedders.batch_pace import Looks

BY_BATCHES = ("--lane", "batch")
CAP = 2000 + CANARIES


def documents_billed(server: BatchServer) -> int:
    """The tokens billed for anything but canaries."""
    return server.billed_tokens - server.canary_tokens


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lane, "LOOKS", Looks(0.0, 1.0, 0.0))
    monkeypatch.setattr(gathering, "MAX_INPUTS", 20)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as served:
        yield served
        assert not served.violations


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Forty documents in four files; each has one to six chunks."""
    folder = tmp_path / "source"
    folder.mkdir()
    drawn = random.Random(3)
    for part in range(4):
        records = [
            {"id": f"d{part}{n}", "sequence": 1, "text": sentences(f"{part} {n}", drawn.choice([1, 3, 20]))}
            for n in range(10)
        ]
        write_records(folder / f"{part}.jsonl", records)
    return folder


def sentences(name: str, count: int) -> str:
    return " ".join(f"text {name} {at:02}." for at in range(count))


def unlucky(seed: int) -> Iterator[Fate]:
    drawn = random.Random(seed)
    while True:
        yield drawn.choice(["expired", "missing", 429, 500]) if drawn.random() < 0.1 else "answered"


# A cent buys a million tokens by batches, and half a million of the canaries that are asked first.
@pytest.mark.parametrize(
    "cap",
    [("--max-tokens", CAP), ("--max-usd", 2000 * 1e-8 + CANARIES * 2e-8)],
    ids=["tokens", "dollars"],
)
def test_a_run_stops_before_its_cap_and_the_next_goes_on(
    tmp_path: Path, server: BatchServer, source: Path, cap: tuple[str, object]
) -> None:
    store = priced_collection(tmp_path / "store", server)
    total = ok(run("plan", store, "ingest", source, "--json")).json["tokens"]
    fates = unlucky(1)
    server.fate = lambda texts: next(fates)
    runs, live, paid = 0, 0, 0
    while (finished := run("ingest", store, source, "--json", *BY_BATCHES, *cap)).status:
        said = capped(finished)
        assert f"{cap[0]} " in said
        assert "the same command goes on with the rest" in said
        server.run_out()
        assert server.billed_tokens - paid <= CAP
        assert head_of(store).documents.live > live
        live, runs, paid = head_of(store).documents.live, runs + 1, server.billed_tokens
        assert_whole(store)
    assert runs >= total // 2000
    assert head_of(store).documents.live == 40
    probes = server.billed[gathering.PROBE] * len(gathering.PROBE)
    assert documents_billed(server) == total + probes
    # What was left over is stored, so nothing is kept for anybody.
    assert not server.files
    assert ok(run("batches", store)).out.endswith("0 on record\n")
    assert_whole(store)


def test_a_cap_smaller_than_any_document_names_the_smallest_that_would_do(
    tmp_path: Path, server: BatchServer, source: Path
) -> None:
    store = priced_collection(tmp_path / "store", server)
    said = capped(run("ingest", store, source, *BY_BATCHES, "--max-usd", CANARIES * 2e-8))
    assert "is less than any of 40 documents takes beside the canaries" in said
    least = len(sentences("0 0", 1)) + ASIDE
    assert said.endswith(f"the smallest needs --max-usd {f'{least * 1e-8 + CANARIES * 2e-8:.12f}'.rstrip('0')}")
    assert not server.batches


def test_what_an_earlier_run_submitted_costs_nothing_again(tmp_path: Path, server: BatchServer) -> None:
    """A run is stopped while it waits; the next has a cap that is less than what it collects."""
    store = priced_collection(tmp_path / "store", server)
    keep_one_canary(store)
    texts = [f"document number {n}" for n in range(20)]
    source = tmp_path / "r.jsonl"
    write_records(source, [{"id": f"d{n}", "sequence": 1, "text": text} for n, text in enumerate(texts)])
    server.ending = lambda batch: "cancelled"
    assert "was cancelled" in run("ingest", store, source, *BY_BATCHES).error
    server.ending = lambda batch: None
    more = [*texts, "one that is new", "and another one"]
    write_records(source, [{"id": f"d{n}", "sequence": 1, "text": text} for n, text in enumerate(more)])
    capped(run("ingest", store, source, *BY_BATCHES, "--max-tokens", WATCHED + ASIDE + len(more[-2]) + 3))
    assert sorted(live_texts(store).values()) == sorted(more[:-1])
    ok(run("ingest", store, source, *BY_BATCHES))
    assert server.billed == dict.fromkeys(more, 1)
    assert_whole(store)


def test_a_reembedding_stops_at_its_cap_and_goes_on(tmp_path: Path, server: BatchServer, source: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="64")
    ok(run("ingest", store, source))
    model = declare(tmp_path, server.base_url)
    command = ("reembed", store, "--model", model, "--tiers", "8,16", "--untrained-prefixes", *BY_BATCHES)
    assert "is not known for its Batch API" in run(*command, "--max-usd", 1).error
    total = sum(len(text) for text in live_texts(store).values())
    cap, runs = total // 2 + 400 + CANARIES, 0
    while (finished := run(*command, "--max-tokens", cap)).status:
        assert "the same command goes on with the rest" in capped(finished)
        runs += 1
        assert server.billed_tokens <= cap * runs
    assert runs >= 1
    assert documents_billed(server) == total
    built = head_of(store).other
    assert built is not None
    assert (built.is_complete, built.documents.live) == (True, 40)
    assert_whole(store)


def test_letters_are_retried_by_batches_as_far_as_the_cap_reaches(tmp_path: Path, server: BatchServer) -> None:
    store = priced_collection(tmp_path / "store", server)
    keep_one_canary(store)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text number {n}"} for n in range(5)]
    server.fate = lambda texts: 400 if {*texts} & {f"text number {n}" for n in range(4)} else "answered"
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records), *BY_BATCHES))
    assert head_of(store).documents.dead_lettered == 4
    server.fate = lambda texts: "answered"
    server.billed_tokens = server.canary_tokens = 0
    capped(
        run("dead-letters", store, "--retry", *BY_BATCHES, "--max-tokens", WATCHED + ASIDE + 2 * len("text number 0"))
    )
    assert documents_billed(server) == 2 * len("text number 0")
    assert (head_of(store).documents.live, head_of(store).documents.dead_lettered) == (3, 2)
    ok(run("dead-letters", store, "--retry", *BY_BATCHES))
    assert head_of(store).documents.live == 5
    assert_whole(store)


def test_nothing_is_published_of_a_document_whose_later_chunks_are_found(tmp_path: Path, server: BatchServer) -> None:
    """A run stores the end of a document, and never gets its beginning; the next one has too little for that."""
    store = priced_collection(tmp_path / "store", server, max_tokens=24)
    keep_one_canary(store)
    text = sentences("of a long one", 6)
    source = write_records(tmp_path / "r.jsonl", [{"id": "d", "sequence": 1, "text": text}])
    server.fate = lambda texts: "expired" if any("00." in text for text in texts) else "answered"
    assert "sent 5 times in batches, and no answer" in run("ingest", store, source, *BY_BATCHES).error
    server.fate = lambda texts: "answered"
    before = server.billed_tokens
    finished = run("ingest", store, source, *BY_BATCHES, "--max-tokens", WATCHED + ASIDE, "--json")
    capped(finished)
    told = json.loads(finished.out)
    assert (told["found_chunks"], told["left_documents"]) == (2, 1)
    assert server.billed_tokens - before == WATCHED
    assert (head_of(store).documents.live, head_of(store).documents.documents_in) == (0, 0)
    ok(run("ingest", store, source, *BY_BATCHES))
    assert head_of(store).documents.live == 1
    assert_whole(store)
