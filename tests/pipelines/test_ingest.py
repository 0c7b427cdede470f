"""From files to answers: every kind of input, both embedders, many blocks and many shards."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tierloom
from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import (
    assert_whole,
    declare,
    head_of,
    identity_of,
    init,
    live_texts,
    ok,
    run,
    write_records,
)
from tierloom.letters import read_letters
from tierloom.object_files import ObjectFiles
from tierloom.stores.opening import open_store

QUESTIONS = {
    "how do I close a file": "docs/files.md",
    "cats and kittens": "docs/pets/cats.txt",
    "kneading dough for bread": "docs/bread.html",
    "network sockets": "docs/net.rst",
    "the moon orbits the earth": "moon",
    "compiling rust programs": "row-1",
}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """One document of each kind, two of the record kinds, and one line that is broken."""
    folder = tmp_path / "docs"
    (folder / "pets").mkdir(parents=True)
    (folder / "files.md").write_text("# Files\n\nUse open() to open a file.\n\n## Closing\n\nAlways close the file.\n")
    (folder / "pets" / "cats.txt").write_text("Cats purr, and kittens play.\n")
    (folder / "bread.html").write_text(
        "<html><head><title>Bread</title></head><body><h1>Baking</h1><p>Knead the dough, then bake.</p></body></html>"
    )
    (folder / "net.rst").write_text("Networks\n========\n\nSockets connect the hosts of a network.\n")
    lines = ['{"id": "moon", "text": "The moon orbits the earth.", "lang": "en"}', "{broken", '{"id": 7, "text": "7"}']
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")
    table = pa.table({"id": ["row-1", "row-2"], "text": ["Rust programs compile slowly.", "Rain in spring."]})
    pq.write_table(table, folder / "rows.parquet")
    return folder


def test_every_kind_of_document_is_found_at_every_tier(tmp_path: Path, documents: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="64,128,256")
    closing = ok(run("ingest", store, documents, "--json")).json
    assert closing["documents"] == {
        "documents_in": 9,
        "live": 8,
        "superseded": 0,
        "deleted": 0,
        "dead_lettered": 1,
    }
    assert closing["version"] == 1
    assert closing["published"]
    assert set(closing["tiers"]) == {"64", "128", "256"}
    with tierloom.open(str(store)) as snapshot:
        for tier in (64, 128, 256):
            for question, document_id in QUESTIONS.items():
                assert snapshot.search(question, tier=tier, top=1)[0].document_id == document_id
        [moon] = snapshot.search("moon", top=1)
        assert moon.metadata == {"lang": "en"}
    assert_whole(store)


def test_the_closing_table_holds_the_identity_that_the_manifest_holds(tmp_path: Path, documents: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="256")
    table = ok(run("ingest", store, documents)).out
    assert re.search(r"documents in +9 = 8 live \+ 0 superseded \+ 0 deleted \+ 1 dead-lettered", table)
    assert "1 published" in table
    assert f"tierloom dead-letters {store}" in table
    head = head_of(store)
    assert (head.documents.documents_in, head.documents.live, head.documents.dead_lettered) == (9, 8, 1)
    assert head.run.documents == head.documents
    assert "9 = 8 live + 0 superseded" in ok(run("show", store)).out


def test_the_broken_line_is_listed_with_its_file_and_number(tmp_path: Path, documents: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", tiers="256")
    ok(run("ingest", store, documents))
    listed = ok(run("dead-letters", store)).out
    assert f"invalid-json  {documents / 'records.jsonl'}:2" in listed
    [letter] = [json.loads(line) for line in ok(run("dead-letters", store, "--json")).out.splitlines()]
    assert (letter["line"], letter["reason"]) == (2, "invalid-json")


def many_records(count: int) -> list[dict[str, object]]:
    return [{"id": f"d{n}", "sequence": 1, "text": f"text number {n} " * (1 + n % 4), "n": n} for n in range(count)]


def test_blocks_shards_and_tiers_hold_every_chunk_once(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    sizes = ("--block-chunks", 7, "--shard-rows", 50, "--chunk-tokens", 20)
    init(store, declare(tmp_path, endpoint), *sizes, tiers="4,8,16")
    source = write_records(tmp_path / "records.jsonl", many_records(120))
    closing = ok(run("ingest", store, source, "--json")).json
    assert closing["documents"]["live"] == 120
    assert identity_of(closing["documents"])
    assert closing["vector_shards"] > 3
    assert closing["embedded_chunks"] == closing["live_chunks"] == len(live_texts(store)) > 120
    assert closing["tokens"] + closing["canary_tokens"] == endpoint.billed_tokens
    assert endpoint.violations == []
    assert_whole(store)


def test_a_search_asks_with_the_query_prompt_and_documents_with_theirs(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    prompts = {"document_prompt": "passage: ", "query_prompt": "query: "}
    init(store, declare(tmp_path, endpoint, **prompts))
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", [{"id": "a", "text": "query: what"}])))
    assert endpoint.asked[-1].documents == ["passage: query: what"]
    ok(run("search", store, "passage: query: what", "--json"))
    assert endpoint.asked[-1].inputs == ["query: passage: query: what"]


def test_a_question_that_is_a_document_finds_it_first_at_every_tier(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint), "--shard-rows", 40, tiers="4,8,16")
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", many_records(100))))
    for tier in (4, 8, 16):
        for rerank in ("--rerank", "--no-rerank"):
            asked = ("search", store, "text number 41 text number 41", "--tier", tier, rerank, "--json")
            first = run(*asked).hits[0]
            assert (first["document_id"], first["metadata"]) == ("d41", {"n": 41})
            assert first["score"] == pytest.approx(1, abs=0.02)


def test_an_empty_collection_has_nothing_to_find(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint))
    assert "nothing found" in ok(run("search", store, "anything")).out
    assert ok(run("search", store, "anything", "--json")).json["hits"] == []
    assert ok(run("dead-letters", store)).out == "0 open\n"
    assert_whole(store)


def test_a_source_without_a_readable_document_publishes_its_letters(tmp_path: Path, endpoint: Endpoint) -> None:
    store, source = tmp_path / "store", tmp_path / "docs"
    source.mkdir()
    (source / "empty.txt").write_text("")
    (source / "binary.txt").write_bytes(b"\x89PNG\0\0")
    (source / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    init(store, declare(tmp_path, endpoint))
    closing = ok(run("ingest", store, source, "--json")).json
    assert (closing["documents"]["dead_lettered"], closing["dead_letters"], closing["version"]) == (3, 3, 1)
    letters = read_letters(head_of(store).dead_letters, ObjectFiles(open_store(str(store))))
    assert {letter.reason for letter in letters} == {"empty-document", "binary-file", "invalid-utf8"}
    assert endpoint.document_requests == 0
    assert not ok(run("ingest", store, source, "--json")).json["published"]
    assert_whole(store)


def test_later_sequences_win_within_one_source(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint), "--block-chunks", 1)
    texts = {1: "first", 3: "third", 2: "second"}
    one = [{"id": "a", "sequence": number, "text": text} for number, text in texts.items()]
    (tmp_path / "docs").mkdir()
    write_records(tmp_path / "docs" / "one.jsonl", one)
    write_records(tmp_path / "docs" / "two.jsonl", [{"id": "a", "sequence": 3, "text": "third"}])
    closing = ok(run("ingest", store, tmp_path / "docs", "--json")).json
    assert live_texts(store) == {("a", 0): "third"}
    assert (closing["documents"]["live"], closing["documents"]["superseded"]) == (1, 3)
    assert_whole(store)


def test_equal_events_in_different_splits_are_one(tmp_path: Path, endpoint: Endpoint) -> None:
    # Files are read together until they weigh 2 MiB: these two are splits of their own.
    store, docs = tmp_path / "store", tmp_path / "docs"
    docs.mkdir()
    init(store, declare(tmp_path, endpoint))
    filler = {"id": "filler", "sequence": 1, "text": "x", "padding": "y" * (2 << 20)}
    for name in ("one", "two", "three"):
        write_records(docs / f"{name}.jsonl", [{"id": "a", "sequence": 1, "text": "same"}, filler])
    closing = ok(run("ingest", store, docs, "--json")).json
    assert (closing["documents"]["live"], closing["documents"]["superseded"]) == (2, 4)
    assert_whole(store)
