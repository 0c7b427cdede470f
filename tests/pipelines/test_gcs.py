"""The whole flow in a bucket: collection, sources, reading back."""

from pathlib import Path

import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.engines.gcs_server import GcsBucket
from tests.pipelines.command_line import (
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
from tests.pipelines.streaming.following import append

pytestmark = pytest.mark.engine

RECORDS = b'{"id": "moon", "text": "alpha"}\n{broken\n{"id": "bad", "text": "poison"}\n'


@pytest.fixture
def bucket(gcs_bucket: GcsBucket) -> GcsBucket:
    gcs_bucket.put("docs/a.md", b"# Files\n\nOpen a file.\n")
    gcs_bucket.put("docs/deep/b.txt", b"Cats purr.")
    gcs_bucket.put("docs/r.jsonl", RECORDS)
    return gcs_bucket


def test_a_collection_and_its_sources_in_a_bucket(tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket) -> None:
    refusing = True

    def script(asked: Asked) -> Reply | None:
        return error(400, "no") if refusing and any("poison" in text for text in asked.inputs) else None

    endpoint.script = script
    store, docs = f"{bucket.url}/team/store", f"{bucket.url}/docs"
    init(store, declare(tmp_path, endpoint), tiers="8,16")
    closing = ok(run("ingest", store, docs, "--json")).json
    assert closing["documents"] == {"documents_in": 5, "live": 3, "superseded": 0, "deleted": 0, "dead_lettered": 2}
    assert {id_ for id_, _ in live_texts(store)} == {"docs/a.md", "docs/deep/b.txt", "moon"}
    for tier in (8, 16):
        [hit] = run("search", store, "alpha", "--tier", tier, "--top", 1, "--json").hits
        assert hit["document_id"] == "moon"
    assert_whole(store)

    listed = ok(run("dead-letters", store)).out
    assert f"invalid-json  {docs}/r.jsonl:2" in listed
    assert not ok(run("ingest", store, docs, "--json")).json["published"]
    refusing = False
    bucket.put("docs/r.jsonl", RECORDS.replace(b"{broken", b'{"id": "repaired", "text": "bravo"}'))
    retried = ok(run("dead-letters", store, "--retry", "--json")).json
    assert retried["documents"]["live"] == 2
    assert head_of(store).documents.live == 5
    assert head_of(store).dead_letters == ()
    assert_whole(store)
    assert "version 2" in ok(run("show", store)).out


def test_the_objects_in_the_bucket_are_those_that_the_manifest_names(
    tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket
) -> None:
    store = f"{bucket.url}/store"
    init(store, declare(tmp_path, endpoint))
    ok(run("ingest", store, f"{bucket.url}/docs/*.md"))
    stored = {key.removeprefix("store/") for key in bucket.keys() if key.startswith("store/")}  # noqa: SIM118
    assert {named.path for named in head_of(store).objects()} <= stored
    assert not any(".scratch" in key or "tmp" in key for key in stored)


def test_a_bucket_that_is_not_there_is_one_line(tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket) -> None:
    source = tmp_path / "a.txt"
    source.write_text("alpha")
    absent = "gs://no-such-bucket-here/store"
    assert "no-such-bucket-here" in run("ingest", absent, source).error
    store = f"{bucket.url}/store"
    init(store, declare(tmp_path, endpoint))
    assert "docs/none" in run("ingest", store, f"{bucket.url}/docs/none").error
    assert "tierloom init" in run("show", f"{bucket.url}/other").error


def test_reading_a_bucket_needs_no_beam(tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket) -> None:
    store = f"{bucket.url}/store"
    init(store, declare(tmp_path, endpoint))
    ok(run("ingest", store, f"{bucket.url}/docs"))
    forbidden = "sys.modules['apache_beam'] = None"
    for command in (("show", store), ("verify", store), ("search", store, "alpha")):
        assert run_apart(*command, before=forbidden).status == 0


def test_changes_and_upkeep_in_a_bucket(tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket) -> None:
    store, docs = f"{bucket.url}/store", f"{bucket.url}/docs"
    init(store, declare(tmp_path, endpoint), "--versions", 1, "--age", "0s")
    ok(run("ingest", store, docs))
    assert "3 unchanged since they were read" in ok(run("ingest", store, docs)).err
    bucket.delete("docs/deep/b.txt")
    bucket.put("docs/a.md", b"# Files\n\nClose a file.\n")
    assert "would delete 1 of 4 documents" in run("ingest", store, docs, "--sync").error
    ok(run("ingest", store, docs, "--sync", "--force"))
    assert live_texts(store)["docs/a.md", 0] == "# Files\n\nClose a file."
    assert {id_ for id_, _ in live_texts(store)} == {"docs/a.md", "moon", "bad"}
    ok(run("compact", store))
    ok(run("erase", store, "moon"))
    ok(run("gc", store, "--grace", "0s"))
    named = {stored.path for stored in head_of(store).objects()}
    shards = {key.removeprefix("store/") for key in bucket.keys() if "/shards/" in key}  # noqa: SIM118
    assert shards == {name for name in named if name.startswith("shards/")}
    assert {id_ for id_, _ in live_texts(store)} == {"docs/a.md", "bad"}
    assert_whole(store)


def test_a_stream_into_a_bucket(tmp_path: Path, endpoint: Endpoint, bucket: GcsBucket) -> None:
    store, changes = f"{bucket.url}/store", tmp_path / "changes.jsonl"
    init(store, declare(tmp_path, endpoint))
    write_records(changes, [{"id": f"d{n}", "sequence": n, "text": f"document {n}"} for n in range(9)])
    caught_up = ok(run("stream", store, changes, "--once", "--max-batch", 4, "--interval", 0, "--json")).json
    assert (caught_up["versions"], caught_up["added"]) == (3, 9)
    changed = {"id": "d1", "sequence": 10, "text": "document 1, changed"}
    append(changes, changed, {"id": "d2", "sequence": 11, "deleted": True})
    again = ok(run("stream", store, changes, "--once", "--json")).json
    assert (again["changed"], again["removed"], again["embedded_chunks"]) == (1, 1, 1)
    expected = {(f"d{n}", 0): f"document {n}" for n in range(9) if n != 2} | {("d1", 0): "document 1, changed"}
    assert live_texts(store) == expected
    assert_whole(store)
