"""Dead letters: what fails is kept, its neighbours live, and another try closes it."""

import json
import os
from pathlib import Path

import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error, items
from tests.pipelines.command_line import assert_whole, declare, head_of, init, live_texts, ok, run, write_records


class Poison:
    """The endpoint refuses each request that holds the word, until it is cured."""

    def __init__(self) -> None:
        self.words = {"poison"}

    def __call__(self, asked: Asked) -> Reply | None:
        if any(word in text for text in asked.inputs for word in self.words):
            return error(400, "this input is not allowed")
        return None


@pytest.fixture
def poison(endpoint: Endpoint) -> Poison:
    script = Poison()
    endpoint.script = script
    return script


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--chunk-tokens", 12, "--block-chunks", 4)
    return path


PARTIAL = "good one\n\npoison a\n\ngood three"


def records() -> list[dict[str, object]]:
    texts = {"p": "poison b", "a": "alpha", "m": PARTIAL, "z": "zulu"}
    return [{"id": id_, "sequence": 1, "text": text} for id_, text in texts.items()]


def letters_of(store: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in ok(run("dead-letters", store, "--json")).out.splitlines()]


def test_a_poison_chunk_costs_no_neighbour(tmp_path: Path, poison: Poison, store: Path) -> None:
    closing = ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records()), "--json")).json
    assert closing["documents"] == {"documents_in": 4, "live": 3, "superseded": 0, "deleted": 0, "dead_lettered": 1}
    assert closing["dead_letters"] == 2
    assert live_texts(store) == {
        ("a", 0): "alpha",
        ("m", 0): "good one",
        ("m", 2): "good three",
        ("z", 0): "zulu",
    }
    listed = ok(run("dead-letters", store)).out
    assert f"refused-by-model  {tmp_path / 'r.jsonl'} p #0  HTTP 400: this input is not allowed" in listed
    assert " m #1 " in listed
    assert f"2 open; try again with: tierloom dead-letters {store} --retry" in listed
    assert_whole(store)


def test_a_retry_that_goes_through_closes_letters_and_completes_documents(
    tmp_path: Path, endpoint: Endpoint, poison: Poison, store: Path
) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records())))
    poison.words = set()
    endpoint.asked.clear()
    closing = ok(run("dead-letters", store, "--retry", "--json")).json
    assert sorted(text for asked in endpoint.asked for text in asked.documents) == ["poison a", "poison b"]
    assert closing["documents"] == {"documents_in": 2, "live": 2, "superseded": 0, "deleted": 0, "dead_lettered": 0}
    head = head_of(store)
    assert (head.version, head.documents.documents_in, head.documents.live) == (2, 4, 4)
    assert head.dead_letters == ()
    assert [live_texts(store)["m", n] for n in range(3)] == PARTIAL.split("\n\n")
    assert ok(run("dead-letters", store)).out == "0 open\n"
    assert_whole(store)


def test_a_retry_that_fails_again_publishes_nothing(tmp_path: Path, poison: Poison, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records())))
    before = letters_of(store)
    closing = ok(run("dead-letters", store, "--retry", "--json")).json
    assert (closing["published"], closing["version"], head_of(store).version) == (False, 1, 1)
    assert letters_of(store) == before
    assert_whole(store)


def test_a_retry_that_succeeds_in_part_leaves_the_rest_open(tmp_path: Path, poison: Poison, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records())))
    poison.words = {"poison b"}
    ok(run("dead-letters", store, "--retry"))
    assert [letter["document_id"] for letter in letters_of(store)] == ["p"]
    assert live_texts(store)["m", 1] == "poison a"
    assert_whole(store)
    poison.words = set()
    ok(run("dead-letters", store, "--retry"))
    assert head_of(store).documents.live == 4
    assert_whole(store)


def test_a_retry_of_nothing_publishes_nothing(poison: Poison, store: Path) -> None:
    closing = ok(run("dead-letters", store, "--retry", "--json")).json
    assert (closing["published"], closing["documents"]["documents_in"]) == (False, 0)


def test_the_same_ingest_does_not_ask_again_for_what_is_dead(
    tmp_path: Path, endpoint: Endpoint, poison: Poison, store: Path
) -> None:
    source = write_records(tmp_path / "r.jsonl", records())
    ok(run("ingest", store, source))
    asked = endpoint.document_requests
    assert not ok(run("ingest", store, source, "--json")).json["published"]
    copy = write_records(tmp_path / "copy.jsonl", records())
    closing = ok(run("ingest", store, copy, "--json")).json
    assert endpoint.document_requests == asked
    assert closing["documents"] == {"documents_in": 4, "live": 3, "superseded": 0, "deleted": 0, "dead_lettered": 1}


def test_a_newer_event_closes_the_letters_of_its_document(tmp_path: Path, poison: Poison, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records())))
    newer = [{"id": "p", "sequence": 2, "text": "pure"}, {"id": "m", "sequence": 2, "text": "good one"}]
    ok(run("ingest", store, write_records(tmp_path / "s.jsonl", newer)))
    assert letters_of(store) == []
    head = head_of(store)
    assert (head.documents.live, head.documents.superseded, head.documents.documents_in) == (4, 2, 6)
    assert live_texts(store) == {("a", 0): "alpha", ("z", 0): "zulu", ("p", 0): "pure", ("m", 0): "good one"}
    assert_whole(store)


def test_a_newer_event_that_fails_leaves_the_older_one_live(tmp_path: Path, poison: Poison, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", [{"id": "a", "sequence": 1, "text": "alpha"}])))
    ok(run("ingest", store, write_records(tmp_path / "s.jsonl", [{"id": "a", "sequence": 2, "text": "poison"}])))
    assert live_texts(store) == {("a", 0): "alpha"}
    assert (head_of(store).documents.live, head_of(store).documents.dead_lettered) == (1, 1)
    poison.words = set()
    ok(run("dead-letters", store, "--retry"))
    assert live_texts(store) == {("a", 0): "poison"}
    assert (head_of(store).documents.live, head_of(store).documents.superseded) == (1, 1)
    assert_whole(store)


def test_unreadable_files_and_lines_are_read_again_by_a_retry(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "latin.txt").write_bytes(b"caf\xe9")
    (docs / "empty.md").write_text("")
    lines = ['{"id": "a", "text": "alpha"}', '{"id": "b", "text": "bravo"', '{"id": "c", "text": "coral"}']
    (docs / "r.jsonl").write_text("\n".join(lines) + "\n")
    closing = ok(run("ingest", store, docs, "--json")).json
    assert closing["documents"] == {"documents_in": 5, "live": 2, "superseded": 0, "deleted": 0, "dead_lettered": 3}
    assert {(letter["reason"], letter["line"]) for letter in letters_of(store)} == {
        ("invalid-utf8", None),
        ("empty-document", None),
        ("invalid-json", 2),
    }

    (docs / "latin.txt").write_bytes("café".encode())
    fixed = lines[1] + "}"
    (docs / "r.jsonl").write_text("\n".join([lines[0], fixed, lines[2]]) + "\n")
    closing = ok(run("dead-letters", store, "--retry", "--json")).json
    assert closing["documents"] == {"documents_in": 3, "live": 2, "superseded": 0, "deleted": 0, "dead_lettered": 1}
    assert [letter["reason"] for letter in letters_of(store)] == ["empty-document"]
    head = head_of(store)
    assert (head.documents.documents_in, head.documents.live, head.documents.dead_lettered) == (5, 4, 1)
    assert_whole(store)


def test_a_repaired_file_that_was_ingested_again_closes_its_letter_at_the_retry(
    tmp_path: Path, endpoint: Endpoint, store: Path
) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9")
    ok(run("ingest", store, path))
    path.write_bytes("café".encode())
    os.utime(path, ns=(2 * 10**18, 2 * 10**18))
    ok(run("ingest", store, path))
    closing = ok(run("dead-letters", store, "--retry", "--json")).json
    assert closing["published"]
    assert letters_of(store) == []
    assert (head_of(store).documents.live, head_of(store).documents.dead_lettered) == (1, 0)
    assert_whole(store)


def test_vectors_that_cannot_be_stored_are_letters_with_the_reason(
    tmp_path: Path, endpoint: Endpoint, store: Path
) -> None:
    spoilt = {"alpha": [float("nan")] * 16, "bravo": [0.0] * 16, "charlie": [1e6] * 16, "delta": [1.0] * 15}

    def spoil(asked: Asked) -> Reply | None:
        data = items(asked.inputs, 16)
        for item, text in zip(data, asked.inputs, strict=True):
            item["embedding"] = spoilt.get(text, item["embedding"])
        return answer(data, tokens=1)

    endpoint.script = spoil
    ids = [*spoilt, "echo"]
    source = write_records(tmp_path / "r.jsonl", [{"id": id_, "sequence": 1, "text": id_} for id_ in ids])
    ok(run("ingest", store, source))
    reasons = {letter["document_id"]: letter["reason"] for letter in letters_of(store)}
    assert reasons == {
        "alpha": "not-finite",
        "bravo": "zero-norm",
        "charlie": "float16-overflow",
        "delta": "wrong-dimensions",
    }
    assert live_texts(store) == {("echo", 0): "echo"}
    assert_whole(store)


def test_a_document_that_is_dead_twice_in_one_run_is_counted(tmp_path: Path, poison: Poison, store: Path) -> None:
    # Each of these files is a split of its own: what repeats is found only when the run is settled.
    docs = tmp_path / "docs"
    docs.mkdir()
    filler = {"sequence": 1, "text": "x", "padding": "y" * (2 << 20)}
    for name in ("one", "two"):
        repeated = [{"id": "p", "sequence": 1, "text": "poison"}, {"id": "m", "sequence": 1, "text": PARTIAL}]
        write_records(docs / f"{name}.jsonl", [*repeated, {"id": name} | filler])
    closing = ok(run("ingest", store, docs, "--json")).json
    assert closing["documents"] == {"documents_in": 6, "live": 3, "superseded": 2, "deleted": 0, "dead_lettered": 1}
    assert_whole(store)


def test_equal_events_that_say_different_things_are_counted(tmp_path: Path, poison: Poison, store: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    padding = "y" * (2 << 20)
    for name, text in {"one": "poison", "two": "good one\n\npoison a", "three": "poison a\n\ngood three"}.items():
        record = {"id": "a", "sequence": 1, "text": text, "padding": padding}
        write_records(docs / f"{name}.jsonl", [record])
    closing = ok(run("ingest", store, docs, "--json")).json
    assert closing["documents"] == {"documents_in": 3, "live": 1, "superseded": 2, "deleted": 0, "dead_lettered": 0}
    assert_whole(store)
