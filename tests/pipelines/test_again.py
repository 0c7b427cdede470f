"""The same job twice, changed documents, replayed bundles, colliding keys and racing writers."""

import os
import threading
from pathlib import Path

import pytest

from pipelines.beam_options import split_arguments
from pipelines.running import Work, make_job
from pipelines.running import run as run_job
from tests.embedders.endpoint import Asked, Endpoint
from tests.pipelines.command_line import (
    KEY,
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
from tierloom import document
from tierloom.document import document_key
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits

WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet")


def text_of(*changed: int) -> str:
    """Ten paragraphs of one chunk each; the `changed` ones differ."""
    return "\n\n".join(f"{word} {'new' if at in changed else 'old'}" for at, word in enumerate(WORDS))


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--chunk-tokens", 12, "--block-chunks", 8, "--shard-rows", 16)
    return path


def sent(endpoint: Endpoint) -> list[str]:
    return [text for asked in endpoint.asked for text in asked.documents]


def records_of(ids: str, sequence: int = 1, text: str = "") -> list[dict[str, object]]:
    return [{"id": id_, "sequence": sequence, "text": text or text_of()} for id_ in ids]


def test_the_same_input_again_publishes_nothing_and_asks_no_model(
    tmp_path: Path, endpoint: Endpoint, store: Path
) -> None:
    source = write_records(tmp_path / "r.jsonl", records_of("abc"))
    ok(run("ingest", store, source))
    asked, names = endpoint.document_requests, sorted(p.name for p in (store / "shards").iterdir())
    again = ok(run("ingest", store, source, "--json")).json
    assert (again["published"], again["version"], again["tokens"], again["embedded_chunks"]) == (False, 1, 0, 0)
    assert again["documents"]["documents_in"] == 0
    assert endpoint.document_requests == asked
    assert sorted(p.name for p in (store / "shards").iterdir()) == names
    unread = ok(run("ingest", store, source))
    assert "nothing new to publish" in unread.out
    assert "1 unchanged since they were read" in unread.err
    assert_whole(store)


def test_the_same_documents_in_another_file_are_unchanged(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records_of("abc"))))
    asked = endpoint.document_requests
    again = ok(run("ingest", store, write_records(tmp_path / "copy.jsonl", records_of("abc")), "--json")).json
    assert again["documents"]["live"] == 3
    assert identity_of(again["documents"])
    assert (again["tokens"], again["embedded_chunks"], endpoint.document_requests) == (0, 0, asked)
    assert_whole(store)


def test_a_changed_document_replaces_its_rows_and_pays_for_what_changed(
    tmp_path: Path, endpoint: Endpoint, store: Path
) -> None:
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", records_of("abc"))))
    endpoint.asked.clear()
    changed = write_records(tmp_path / "two.jsonl", records_of("b", 2, text_of(3, 7)))
    closing = ok(run("ingest", store, changed, "--json")).json
    assert sorted(sent(endpoint)) == ["delta new", "hotel new"]
    assert (closing["embedded_chunks"], closing["copied_chunks"]) == (2, 8)
    head = head_of(store)
    assert (head.documents.live, head.documents.superseded, head.documents.documents_in) == (3, 1, 4)
    assert sum(shard.deletes.rows for shard in head.vector_shards if shard.deletes) == 10
    assert live_texts(store)["b", 3] == "delta new"
    assert live_texts(store)["c", 3] == "delta old"
    assert_whole(store)
    assert head_of(store).version == 2


def test_older_events_lose(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", records_of("a", 5, "newest"))))
    asked = endpoint.document_requests
    late = ok(run("ingest", store, write_records(tmp_path / "two.jsonl", records_of("a", 4, "late")), "--json")).json
    assert (late["added"], late["changed"], late["documents"]["superseded"], endpoint.document_requests) == (
        0,
        0,
        1,
        asked,
    )
    assert live_texts(store) == {("a", 0): "newest"}


def test_a_document_that_shrinks_leaves_no_chunk_behind(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", records_of("a"))))
    ok(run("ingest", store, write_records(tmp_path / "two.jsonl", records_of("a", 2, "alpha old\n\nbravo old"))))
    assert sorted(live_texts(store)) == [("a", 0), ("a", 1)]
    assert_whole(store)


def test_a_touched_file_is_written_anew_without_a_request(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text(text_of())
    ok(run("ingest", store, docs))
    asked = endpoint.document_requests
    os.utime(docs / "a.txt", ns=(2 * 10**18, 2 * 10**18))
    closing = ok(run("ingest", store, docs, "--json")).json
    assert (closing["published"], closing["copied_chunks"], closing["embedded_chunks"]) == (True, 10, 0)
    assert endpoint.document_requests == asked
    assert_whole(store)


def test_documents_whose_keys_collide_are_told_apart(
    tmp_path: Path, endpoint: Endpoint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = [f"tierloom.{name}" for name in ("document", "settle", "tombstones")]
    for module in (*lower, *(f"transforms.{name}" for name in ("base", "write", "publishing.events"))):
        monkeypatch.setattr(f"{module}.document_key", lambda id_: document_key(id_) % 2)
    ids = "abcdefgh"
    ok(run("ingest", store, write_records(tmp_path / "one.jsonl", records_of(ids, 1, "alpha\n\nbravo"))))
    ok(run("ingest", store, write_records(tmp_path / "two.jsonl", records_of("bdf", 2, "alpha\n\ncharlie"))))
    assert head_of(store).documents.live == len(ids)
    assert head_of(store).documents.superseded == 3
    texts = live_texts(store)
    assert {id_ for id_, ordinal in texts if texts[id_, ordinal] == "charlie"} == set("bdf")
    assert {id_ for id_, _ in texts} == set(ids)
    assert not ok(run("ingest", store, tmp_path / "one.jsonl", "--json")).json["published"]
    gone = [{"id": id_, "sequence": 3, "deleted": True} for id_ in "ag"]
    ok(run("ingest", store, write_records(tmp_path / "three.jsonl", gone)))
    ok(run("ingest", store, write_records(tmp_path / "late.jsonl", records_of("acg", 2, "delta"))))
    assert {id_ for id_, _ in live_texts(store)} == set("bcdefh")
    assert document.document_key("a") in (0, 1)
    assert_whole(store)


def test_replayed_bundles_change_nothing(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    source = write_records(tmp_path / "r.jsonl", records_of("abcd"))
    with source.open("a") as file:
        file.write("{broken\n")
    closing = ok(run("ingest", store, source, "--direct_runner_bundle_repeat=2", "--json")).json
    assert (closing["version"], head_of(store).version) == (1, 1)
    assert closing["documents"] == {
        "documents_in": 5,
        "live": 4,
        "superseded": 0,
        "deleted": 0,
        "dead_lettered": 1,
    }
    assert sorted(live_texts(store)) == [(id_, ordinal) for id_ in "abcd" for ordinal in range(10)]
    assert_whole(store)


def race(store: Path, sources: list[Path], endpoint: Endpoint) -> None:
    """Ingest each source at the same time as the others: all have read the head before one of them publishes."""
    barrier = threading.Barrier(len(sources))
    failures: list[BaseException] = []

    def ingest(source: Path) -> None:
        try:
            job = make_job(str(store), "ingest", Fields())
            plan = plan_splits([str(source)])
            barrier.wait(60)
            run_job(job, Work(plan.splits), split_arguments([])[1])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ingest, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_racing_ingests_of_different_sources_both_live(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    one = write_records(tmp_path / "one.jsonl", [*records_of("abc"), *records_of("x", 2)])
    two = write_records(tmp_path / "two.jsonl", [*records_of("def"), *records_of("x", 3)])
    race(store, [one, two], endpoint)
    head = head_of(store)
    assert (head.version, head.documents.live, head.documents.superseded) == (2, 7, 1)
    assert_whole(store)


def test_racing_ingests_of_one_source_are_one(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    source = write_records(tmp_path / "r.jsonl", records_of("abcd"))
    race(store, [source, source], endpoint)
    head = head_of(store)
    assert (head.version, head.documents.live, head.documents.documents_in) == (1, 4, 4)
    assert_whole(store)


def test_a_race_that_shares_some_vector_shards_leaves_none_without_an_index(
    tmp_path: Path, endpoint: Endpoint, store: Path
) -> None:
    # Each file is a split and a vector shard of its own; both runs make the shards of the shared one.
    shared, further = tmp_path / "docs" / "a.jsonl", tmp_path / "docs" / "b.jsonl"
    shared.parent.mkdir()
    padding = {"id": "p", "sequence": 1, "text": "padding", "padding": "y" * (2 << 20)}
    write_records(shared, [*records_of("ab"), padding])
    write_records(further, records_of("cd"))
    race(store, [shared, shared.parent], endpoint)
    assert {id_ for id_, _ in live_texts(store)} == set("abcdp")
    assert_whole(store)
    assert not ok(run("ingest", store, shared.parent, "--json")).json["published"]


def test_the_key_goes_to_the_endpoint_and_nowhere_else(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records_of("a"))))
    asked: Asked = endpoint.asked[0]
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert all(KEY.encode() not in path.read_bytes() for path in store.rglob("*") if path.is_file())
