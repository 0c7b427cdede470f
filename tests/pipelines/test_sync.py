"""Sources that change: files skipped, documents deleted, and contents made the truth."""

import os
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import assert_whole, declare, head_of, init, live_texts, ok, run, write_records

OLD, NEW = 10**18, 2 * 10**18


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint))
    return path


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in "abcdef":
        (folder / f"{name}.txt").write_text(f"text of {name}")
    return folder


def live(store: Path) -> set[str]:
    return {document_id for document_id, _ in live_texts(store)}


def record(document_id: str, sequence: int, text: str = "", **more: object) -> dict[str, object]:
    return {"id": document_id, "sequence": sequence, "text": text or f"text of {document_id}", **more}


def test_only_what_changed_is_read(endpoint: Endpoint, store: Path, docs: Path) -> None:
    ok(run("ingest", store, docs))
    (docs / "b.txt").write_text("another text of b")
    endpoint.asked.clear()
    changed = ok(run("ingest", store, docs, "--json"))
    assert "reading 1 file, 17 bytes; 5 unchanged since they were read" in changed.err
    assert (changed.json["documents"]["documents_in"], changed.json["changed"]) == (1, 1)
    assert [text for asked in endpoint.asked for text in asked.documents] == ["b\n\nanother text of b"]
    assert live_texts(store)["docs/b.txt", 0] == "another text of b"
    assert_whole(store)


def test_metadata_that_changes_without_its_text_pays_nothing(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", [record("a", 1, colour="red")])))
    asked = endpoint.document_requests
    closing = ok(run("ingest", store, write_records(tmp_path / "r.jsonl", [record("a", 2, colour="blue")]), "--json"))
    assert (closing.json["tokens"], closing.json["copied_chunks"], endpoint.document_requests) == (0, 1, asked)
    assert '"metadata": {"colour": "blue"}' in ok(run("search", store, "text of a", "--json")).out


def test_an_older_file_that_is_put_back_is_the_truth(store: Path, docs: Path) -> None:
    os.utime(docs / "a.txt", ns=(NEW, NEW))
    ok(run("ingest", store, docs))
    (docs / "a.txt").write_text("what it said before")
    os.utime(docs / "a.txt", ns=(OLD, OLD))
    ok(run("ingest", store, docs))
    assert live_texts(store)["docs/a.txt", 0] == "what it said before"
    assert not ok(run("ingest", store, docs, "--json")).json["published"]


def test_other_fields_read_a_file_anew(tmp_path: Path, store: Path) -> None:
    source = write_records(tmp_path / "r.jsonl", [{"id": "a", "text": "first", "body": "second"}])
    ok(run("ingest", store, source))
    ok(run("ingest", store, source, "--text-field", "body"))
    assert live_texts(store) == {("a", 0): "second"}


def test_a_deleted_document_is_gone_and_stays_gone(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", [record("a", 1), record("b", 1)])))
    gone = [{"id": "a", "sequence": 5, "deleted": True}, {"id": "never", "sequence": 5, "deleted": True}]
    closing = ok(run("ingest", store, write_records(tmp_path / "two.jsonl", gone), "--json")).json
    assert (closing["documents"]["deleted"], closing["removed"], live(store)) == (2, 1, {"b"})
    asked = endpoint.document_requests
    late = write_records(tmp_path / "three.jsonl", [record("a", 4, "late"), record("never", 5, "late")])
    assert ok(run("ingest", store, late, "--json")).json["documents"]["superseded"] == 2
    assert (live(store), endpoint.document_requests) == ({"b"}, asked)
    ok(run("ingest", store, write_records(tmp_path / "four.jsonl", [record("a", 6, "again")])))
    counts = head_of(store).documents
    assert (live(store), counts.live, counts.deleted) == ({"a", "b"}, 2, 1)
    assert_whole(store)


def test_a_deletion_older_than_the_live_row_deletes_nothing(tmp_path: Path, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", [record("a", 7)])))
    gone = write_records(tmp_path / "two.jsonl", [{"id": "a", "sequence": 6, "deleted": True}])
    assert ok(run("ingest", store, gone, "--json")).json["documents"]["superseded"] == 1
    assert live(store) == {"a"}


def test_deletions_are_replayed_without_effect(tmp_path: Path, store: Path) -> None:
    events = [record("a", 1), record("b", 1), {"id": "a", "sequence": 2, "deleted": True}, record("c", 1)]
    source = write_records(tmp_path / "r.jsonl", events)
    closing = ok(run("ingest", store, source, "--direct_runner_bundle_repeat=2", "--json")).json
    assert (closing["version"], live(store)) == (1, {"b", "c"})
    assert closing["documents"] | {"documents_in": 4, "live": 2, "superseded": 1, "deleted": 1} == closing["documents"]
    assert_whole(store)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"deleted": true, "sequence": 1}', "missing-id"),
        ('{"id": "a", "deleted": true, "sequence": 1.5}', "invalid-sequence"),
        ('{"id": "a", "deleted": "yes", "text": "x"}', "invalid-deleted"),
    ],
)
def test_a_change_that_cannot_be_read_is_a_dead_letter(tmp_path: Path, store: Path, line: str, reason: str) -> None:
    (tmp_path / "r.jsonl").write_text(line + "\n")
    ok(run("ingest", store, tmp_path / "r.jsonl"))
    assert ok(run("dead-letters", store)).out.startswith(reason)


def test_a_sync_deletes_what_is_no_longer_there(endpoint: Endpoint, store: Path, docs: Path) -> None:
    ok(run("ingest", store, docs))
    (docs / "f.txt").unlink()
    asked = endpoint.document_requests
    synced = ok(run("ingest", store, docs, "--sync", "--json"))
    assert "deleting 1 document that the sources no longer have" in synced.err
    assert (synced.json["removed"], endpoint.document_requests) == (1, asked)
    assert live(store) == {f"docs/{name}.txt" for name in "abcde"}
    assert not ok(run("ingest", store, docs, "--sync", "--json")).json["published"]
    (docs / "f.txt").write_text("text of f")
    os.utime(docs / "f.txt", ns=(OLD, OLD))
    ok(run("ingest", store, docs, "--sync"))
    assert "docs/f.txt" in live(store)
    assert_whole(store)


def test_a_sync_that_would_delete_much_is_refused_before_anything_is_paid(
    endpoint: Endpoint, store: Path, docs: Path
) -> None:
    ok(run("ingest", store, docs))
    for name in "cdef":
        (docs / f"{name}.txt").unlink()
    (docs / "new.txt").write_text("a new text")
    asked = endpoint.document_requests
    refused = run("ingest", store, docs, "--sync").error
    assert "would delete 4 of 6 documents (67%; 'docs/c.txt', " in refused
    assert "--delete-at-most or --force" in refused
    assert (endpoint.document_requests, head_of(store).version) == (asked, 1)
    ok(run("ingest", store, docs, "--sync", "--delete-at-most", 67))
    assert live(store) == {"docs/a.txt", "docs/b.txt", "docs/new.txt"}


def test_a_sync_knows_the_records_of_a_file(tmp_path: Path, store: Path) -> None:
    source = tmp_path / "r.jsonl"
    ok(run("ingest", store, write_records(source, [record(id_, 1) for id_ in "abcdef"])))
    ok(run("ingest", store, write_records(tmp_path / "other.jsonl", [record("z", 1)])))
    ok(run("ingest", store, write_records(source, [record(id_, 1) for id_ in "abcde"]), "--sync"))
    assert live(store) == set("abcdez")
    assert_whole(store)


def test_a_sync_leaves_alone_what_it_cannot_know(tmp_path: Path, store: Path) -> None:
    source = tmp_path / "r.jsonl"
    ok(run("ingest", store, write_records(source, [record(id_, 1) for id_ in "abcdef"])))
    write_records(source, [record(id_, 1) for id_ in "abcde"])
    source.write_text(source.read_text() + "{broken\n")
    synced = ok(run("ingest", store, source, "--sync"))
    assert "a record there has no id that can be read" in synced.err
    assert live(store) == set("abcdef")


def test_a_sync_touches_only_its_own_sources(tmp_path: Path, store: Path, docs: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.txt").write_text("text of x")
    ok(run("ingest", store, docs, elsewhere))
    (elsewhere / "x.txt").unlink()
    (docs / "a.md").write_text("text in Markdown")
    ok(run("ingest", store, docs / "*.md", "--sync"))
    assert "elsewhere/x.txt" in live(store)
    assert len(live(store)) == 8
