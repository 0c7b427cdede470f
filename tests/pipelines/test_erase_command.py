"""Documents that are erased after they went through whole pipelines."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import tierloom
from pipelines import running
from tests.index_builder.upkeep.erased import found_in
from tests.pipelines.command_line import assert_whole, head_of, init, live_texts, ok, run, write_records
from tierloom.channel import move_channel
from tierloom.lease import LeaseRecord, leases
from tierloom.stores.local import LocalStore

ID = "customer-4711"
ERASED = {"id": ID, "text": "What the customer wrote.", "sequence": 5}
OTHERS = [{"id": f"other-{at}", "text": f"What someone else wrote, {at}.", "sequence": 1} for at in range(5)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """The document was added, changed, and refused once."""
    store = LocalStore(tmp_path / "store")
    init(store.root, "wordllama", tiers="64,128")
    ingest(store, [*OTHERS, ERASED | {"sequence": 4, "text": "What the customer wrote first."}])
    ingest(store, [ERASED, {"id": ID, "text": "  ", "sequence": 6}])
    return store


def ingest(store: LocalStore, records: Sequence[dict[str, object]]) -> None:
    # Beside the store: the test looks for the id in every file of that.
    ok(run("ingest", store.root, write_records(store.root.parent / "records.jsonl", records)))


def test_an_erased_document_is_gone_and_stays_gone(store: LocalStore) -> None:
    assert (ID, 0) in live_texts(store.root)
    receipt = run("erase", store.root, ID, "--json").json
    assert found_in(store, ID) == []
    assert live_texts(store.root).keys() == {(record["id"], 0) for record in OTHERS}
    assert receipt["documents"] == [{"hash": receipt["documents"][0]["hash"], "found": True, "sequence": 5}]
    assert (receipt["unproven"], receipt["remaining"], receipt["mentioning"]) == ([], [], [])
    assert_whole(store.root)
    ingest(store, [ERASED, OTHERS[0]])
    assert found_in(store, ID, among="manifests") == []
    assert (ID, 0) not in live_texts(store.root)
    assert_whole(store.root)


def test_what_is_erased_may_come_again_as_something_newer(store: LocalStore) -> None:
    ok(run("erase", store.root, ID))
    ingest(store, [ERASED | {"sequence": 7}])
    assert live_texts(store.root)[ID, 0] == ERASED["text"]
    assert_whole(store.root)


def test_the_table_tells_what_was_done(store: LocalStore) -> None:
    said = dict(line.split(maxsplit=1) for line in ok(run("erase", store.root, ID, "unknown")).out.splitlines())
    assert said["documents"] == "2 erased; nothing was found of 1"
    assert said["retired"] == "2 versions (1-2)"
    assert said["receipt"].startswith("erasures/")
    assert "as of version 3" in said["scanned"]
    assert "remaining" not in said
    assert "erase" in run("history", store.root).out


def test_a_kept_version_is_refused_with_the_cure(store: LocalStore) -> None:
    move_channel(store, "prod", 1, None)
    assert "1 (channel prod). Move the channels and end the leases, or do both with --force" in (
        run("erase", store.root, ID).error
    )
    ok(run("erase", store.root, ID, "--force"))
    with tierloom.open(store.root, channel="prod") as snapshot:
        assert snapshot.manifest.version == head_of(store.root).version == 3


def test_what_cannot_be_proven_ends_with_status_one(store: LocalStore) -> None:
    (store.scratch() / "of-a-job").write_bytes(b"perhaps")
    ended = run("erase", store.root, ID)
    assert ended.status == 1
    said = dict(line.split(maxsplit=1) for line in ended.out.splitlines())
    assert said["unproven"] == ".scratch/of-a-job"
    assert found_in(store, ID) == []


def test_a_run_holds_its_base_while_it_works(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[LeaseRecord] = []
    work = running.run_to_end

    def watched(*arguments: Any) -> object:
        held.extend(record for _, record in leases(store))
        return work(*arguments)

    monkeypatch.setattr(running, "run_to_end", watched)
    ingest(store, [OTHERS[0] | {"sequence": 9}])
    (record,) = held
    assert (record.version, record.working_since is not None) == (2, True)
    assert record.expires - (record.working_since or 0) >= timedelta(minutes=10).total_seconds()
    assert record.holder.startswith("ingest ")
    assert list(leases(store)) == []
