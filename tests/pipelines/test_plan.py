"""A plan says exactly what the ingest after it is billed, and leaves the store as it is."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from semantic_text_splitter import TextSplitter

from tests.embedders.endpoint import Endpoint, error
from tests.one_canary import ASIDE
from tests.pipelines.command_line import ROOT, declare, head_of, init, ok, run, write_records
from tests.pipelines.priced import priced_collection
from tests.pipelines.test_caps import CANARIES
from tierloom.checkpoint import Limits

TIKTOKEN = "tiktoken:text-embedding-3-small"


@cache
def counted(text: str) -> int:
    """The tokens of a whole text, by the capacity into which it fits; never by its words."""
    capacity = 1
    while len(TextSplitter.from_tiktoken_model("text-embedding-3-small", capacity, trim=False).chunks(text + " a")) > 1:
        capacity += 1
    return capacity - 1


def files_of(store: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in store.rglob("*") if path.is_file()}


def planned(store: Path, *sources: object) -> Any:
    before = files_of(store)
    plan = ok(run("plan", store, "ingest", *sources, "--json")).json
    assert files_of(store) == before
    return plan


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Pages of our own, records, and what cannot be read."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for page in ("gate.md", "tiers.md"):
        (folder / page).write_text((ROOT / "docs" / page).read_text()[:3000])
    (folder / "empty.txt").write_text(" \n")
    records = [{"id": f"d{n}", "sequence": 1, "text": f"naïve café number {n} 😀 " * (n + 1)} for n in range(9)]
    write_records(folder / "records.jsonl", [*records, {"id": 7, "text": 7}])
    return folder


def documents_billed(endpoint: Endpoint) -> int:
    """The tokens billed for anything but canaries: they are in no plan."""
    return endpoint.billed_tokens - endpoint.canary_tokens


def test_the_embedded_model_is_billed_what_was_planned(tmp_path: Path, docs: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="64,256")
    plan = planned(store, docs)
    assert plan["requests"]["usd"] == 0.0
    assert plan["batches"] is None
    closing = ok(run("ingest", store, docs, "--json")).json
    assert (plan["tokens"], plan["exact"]) == (closing["tokens"], True)
    assert plan["chunks"]["embedded"] == closing["embedded_chunks"]
    assert plan["documents"]["read"] == closing["documents"]["documents_in"]
    assert plan["documents"]["unreadable"] == closing["documents"]["dead_lettered"] == 2
    assert plan["documents"]["new"] == closing["added"] == 11


def test_an_endpoint_bills_what_was_planned(tmp_path: Path, docs: Path) -> None:
    with Endpoint(dimensions=16, count=lambda texts: sum(map(counted, texts))) as endpoint:
        limits = Limits(inputs_per_request=7, tokens_per_request=600, requests_per_minute=3000, tokens_per_minute=10**6)
        store = priced_collection(tmp_path / "store", endpoint, tokenizer=TIKTOKEN, limits=limits)
        plan = planned(store, docs)
        assert endpoint.requests == 0
        closing = ok(run("ingest", store, docs, "--json")).json
        assert plan["tokens"] == documents_billed(endpoint)
        assert closing["tokens"] + closing["canary_tokens"] == endpoint.billed_tokens
        assert endpoint.canary_tokens <= plan["canary_tokens"] == CANARIES + ASIDE * endpoint.document_requests
        assert plan["requests"]["count"] == endpoint.document_requests
        assert plan["requests"]["usd"] == pytest.approx(0.02 * documents_billed(endpoint) / 1e6)
        assert plan["batches"] == {"count": 1, "usd": plan["requests"]["usd"] / 2, "seconds": 86_400.0}
        assert plan["price"]["as_of"] == "2026-11-01"

        # A second page, a changed record, and what lives already.
        (docs / "more.md").write_text("# More\n\nSomething else entirely.\n")
        write_records(docs / "new.jsonl", [{"id": "d8", "sequence": 2, "text": "naïve café number 8 😀 " * 9 + "end"}])
        endpoint.document_requests = endpoint.billed_tokens = endpoint.canary_tokens = 0
        plan = planned(store, docs)
        assert (plan["documents"]["new"], plan["documents"]["changed"]) == (1, 1)
        assert plan["chunks"]["copied"] > 0
        closing = ok(run("ingest", store, docs, "--json")).json
        assert plan["tokens"] == documents_billed(endpoint) > 0
        assert plan["chunks"]["copied"] == closing["copied_chunks"]
        assert plan["requests"]["count"] == endpoint.document_requests


def test_what_an_interrupted_run_had_finished_is_not_planned_again(
    tmp_path: Path, endpoint: Endpoint, docs: Path
) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    endpoint.script = lambda _: error(401, "no such key") if endpoint.document_requests >= 4 else None
    assert run("ingest", store, docs, "--concurrency", 1).status == 1
    endpoint.script = None
    paid = documents_billed(endpoint)
    plan = planned(store, docs)
    assert plan["chunks"]["found"] > 0
    closing = ok(run("ingest", store, docs, "--json")).json
    assert plan["tokens"] == documents_billed(endpoint) - paid
    assert plan["chunks"]["found"] == closing["found_chunks"]


def test_the_table_names_what_is_not_known(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint))
    table = ok(run("plan", store, "ingest", docs)).out
    assert "at most " in table
    assert "utf8-bytes only bounds them" in table
    assert "not known: the checkpoint does not declare it" in table
    assert "price not known" in table
    assert re.search(r"canaries +up to [0-9,]+ tokens more", table)
    assert planned(store, docs)["requests"]["seconds"] is None


def test_the_table_tells_price_time_and_bytes(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    limits = Limits(requests_per_minute=3000, tokens_per_minute=10**6)
    store = priced_collection(tmp_path / "store", endpoint, tokenizer=TIKTOKEN, limits=limits)
    table = ok(run("plan", store, "ingest", docs, "--requests-per-minute", 1)).out
    assert "$0.02 a million tokens, $0.01 by the Batch API, as of 2026-11-01: https://example.org/prices" in table
    assert "at 1 request and 1,000,000 tokens a minute" in table
    assert "within 24 hours" in table


def test_the_bytes_are_about_those_that_are_stored(tmp_path: Path, endpoint: Endpoint) -> None:
    store = priced_collection(tmp_path / "store", endpoint, block_chunks=4000)
    records = [{"id": f"d{n}", "sequence": 1, "text": f"the text of number {n}"} for n in range(4000)]
    docs = write_records(tmp_path / "r.jsonl", records)
    plan = planned(store, docs)
    ok(run("ingest", store, docs))
    head = head_of(store)
    shards = sum(shard.bytes for shard in head.vector_shards)
    assert plan["vector_shard_bytes"] == pytest.approx(shards, rel=0.25)
    for tier, expected in plan["tier_bytes"].items():
        assert expected == pytest.approx(sum(index.bytes for index in head.index_shards_of(tier)), rel=0.1)


def test_a_second_generation_is_billed_what_was_planned(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    ok(run("ingest", store, docs))
    with Endpoint(dimensions=16, count=lambda texts: sum(map(counted, texts))) as other:
        model = declare(tmp_path, other, tokenizer=TIKTOKEN, revision="2", document_prompt="passage: ")
        before = files_of(store)
        plan = ok(run("plan", store, "reembed", "--model", model, "--json")).json
        assert files_of(store) == before
        ok(run("reembed", store, "--model", model))
        assert plan["tokens"] == documents_billed(other)
        assert plan["requests"]["count"] == other.document_requests
        assert plan["documents"]["read"] == plan["documents"]["new"] == 11
        # What is ingested now goes into both.
        (docs / "more.md").write_text("# More\n\nSomething else entirely.\n")
        for served in (endpoint, other):
            served.billed_tokens = served.canary_tokens = 0
        plan = planned(store, docs)
        ok(run("ingest", store, docs))
        [beside] = plan["others"]
        assert (plan["tokens"], beside["tokens"]) == (documents_billed(endpoint), documents_billed(other))
        assert beside["tokens"] > 0
        assert ok(run("plan", store, "reembed", "--model", model, "--json")).json["tokens"] == 0


def test_nothing_new_costs_nothing(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    ok(run("ingest", store, docs))
    plan = planned(store, docs)
    assert (plan["tokens"], plan["requests"]["count"], plan["batches"]["count"]) == (0, 0, 0)
    assert plan["canary_tokens"] == 0


def test_a_plan_needs_a_source(tmp_path: Path, endpoint: Endpoint) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    assert "name at least one source" in run("plan", store, "ingest", "--runner=FnApiRunner").error
    assert str(tmp_path / "nowhere") in run("plan", store, "ingest", tmp_path / "nowhere").error
