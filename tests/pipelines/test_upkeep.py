"""`tierloom compact` and `tierloom tiers` over a collection that was ingested, counted at the model's endpoint."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tierloom
from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import (
    KEY,
    KEY_VARIABLE,
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

BATCHES = 4


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Path:
    """Four small batches, and half of the first one changed."""
    folder = tmp_path_factory.mktemp("ingested")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, KEY)
        init(folder / "store", declare(folder, endpoint), "--chunk-tokens", 40, "--shard-rows", 64)
        for batch in range(BATCHES):
            texts = {f"{batch}-{at}": "text" for at in range(6)}
            ingest(folder / "store", folder / f"{batch}.jsonl", texts, batch)
        ingest(folder / "store", folder / "changes.jsonl", {f"0-{at}": "other text" for at in range(3)}, BATCHES)
    return folder / "store"


@pytest.fixture
def store(tmp_path: Path, ingested: Path) -> Path:
    return shutil.copytree(ingested, tmp_path / "store")


def ingest(store: Path, source: Path, texts: dict[str, str], sequence: int) -> None:
    records = [{"id": id_, "sequence": sequence, "text": f"{text} of {id_}"} for id_, text in texts.items()]
    ok(run("ingest", store, write_records(source, records)))


def test_what_was_ingested_is_compacted_and_gets_tiers_without_the_model(store: Path, endpoint: Endpoint) -> None:
    requests, tokens, texts = endpoint.requests, endpoint.billed_tokens, live_texts(store)
    compacted = run("compact", store, "--fan-out", 2, "--json").json
    added = ok(run("tiers", "add", store, 4, "16-binary"))
    dropped = ok(run("tiers", "drop", store, 8))
    assert (endpoint.requests, endpoint.billed_tokens) == (requests, tokens)
    assert_whole(store)
    assert live_texts(store) == texts
    assert compacted["vector_shards"] == [BATCHES + 1, 1]
    assert compacted["overtaken"] is None
    assert "tier 4          24 codes" in added.out
    assert f"version  {head_of(store).version} published" in dropped.out
    assert [tier.name for tier in head_of(store).collection.tiers] == ["4", "16-binary", "16"]
    assert "tier 16-binary: " in ok(run("show", store)).out
    found = run("search", store, "other text of 0-1", "--tier", "16-binary", "--top", 1, "--json").hits
    assert found[0]["document_id"] == "0-1"


def test_an_unchanged_document_is_paid_once_whatever_was_merged_since(
    store: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    ok(run("compact", store, "--fan-out", 2))
    asked = endpoint.document_requests
    ingest(store, tmp_path / "again.jsonl", {f"1-{at}": "text" for at in range(6)}, 9)
    assert endpoint.document_requests == asked
    assert_whole(store)


def test_the_tables_say_what_was_done(store: Path) -> None:
    ended = ok(run("compact", store, "--fan-out", 2))
    assert "vector shards  5 before, 1 now; 6 of " in ended.out
    assert "index shards   10 before, 2 now" in ended.out
    assert f"version        {head_of(store).version} published" in ended.out
    assert ok(run("compact", store)).out == f"nothing to compact in version {head_of(store).version}\n"


def test_searches_find_the_same_before_and_after(store: Path) -> None:
    def answers() -> list[tuple[str, float]]:
        with tierloom.open(str(store)) as snapshot:
            return [(hit.document_id, hit.score) for hit in snapshot.search("other text of 0-1", top=30)]

    before = answers()
    ok(run("compact", store, "--fan-out", 2))
    assert answers() == before


def test_what_a_writer_publishes_meanwhile_is_compacted_or_kept(store: Path, tmp_path: Path) -> None:
    ended: list[Finished] = []
    compacting = threading.Thread(target=lambda: ended.append(_apart("compact", store, "--fan-out", 2)))
    compacting.start()
    for batch in range(3):
        ingest(
            store, tmp_path / f"more-{batch}.jsonl", {f"{batch}-0": f"newer {batch}", f"new-{batch}": "n"}, 20 + batch
        )
    compacting.join()
    assert [one.status for one in ended] == [0]
    assert_whole(store)
    assert {text for (id_, _), text in live_texts(store).items() if id_ in ("0-0", "new-2")} == {
        "newer 0 of 0-0",
        "n of new-2",
    }


def _apart(*arguments: object) -> Finished:
    ended = subprocess.run(apart(arguments), capture_output=True, text=True, timeout=100)
    return Finished(ended.returncode, ended.stdout, ended.stderr)


class TestWhatIsRefused:
    def test_tiers_that_the_model_was_not_trained_for(self, store: Path) -> None:
        message = run("tiers", "add", store, 5).error
        assert "was trained for prefixes of [4, 8, 16] dimensions, not [5]" in message
        ok(run("tiers", "add", store, 5, "--untrained-prefixes"))
        assert head_of(store).collection.untrained_prefixes
        assert_whole(store)

    def test_tiers_that_are_there_or_beyond_what_is_stored(self, tmp_path: Path, endpoint: Endpoint) -> None:
        path = tmp_path / "small"
        init(path, declare(tmp_path, endpoint), tiers="8")
        assert "has tiers 8 already" in run("tiers", "add", path, 8).error
        assert "tiers 16 lie beyond the 8 components" in run("tiers", "add", path, 16).error
        assert "tiers [99] lie beyond the 16 dimensions of test-model" in run("tiers", "add", path, 99).error
        assert "tiers 4-binary: a binary tier packs eight" in run("tiers", "add", path, "4-binary").error
        assert "tier '8-int8' is none; write its dimensions" in run("tiers", "add", path, "8-int8").err

    def test_to_drop_what_is_not_there_or_all_there_is(self, store: Path) -> None:
        assert "no tier 99; it has 8, 16" in run("tiers", "drop", store, 99).error
        assert "tiers 8, 16 are all that this collection has" in run("tiers", "drop", store, 8, 16).error

    def test_a_store_without_a_collection(self, tmp_path: Path) -> None:
        assert "holds no collection" in run("compact", tmp_path / "nothing").error
        assert "holds no collection" in run("tiers", "add", tmp_path / "nothing", 8).error
