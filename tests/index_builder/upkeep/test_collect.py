import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep import collect as collecting
from index_builder.upkeep.collect import Collected, collect
from index_builder.upkeep.retention import set_retention
from tests.small_shards import CHECKPOINT, Row, index_shards, make_collection, store_shard
from tierloom import names
from tierloom.channel import move_channel, read_channel
from tierloom.commit import commit
from tierloom.errors import Corrupt, InputError, NotACollection, TurnLost
from tierloom.lease import CLOCK_SKEW, Lease, LeaseRecord
from tierloom.manifest import Manifest, Retention, RunRecord
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.run_report import RunReport, store_report
from tierloom.sealed import seal
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Listed, Revision
from tierloom.turn import end_turn, read_turn, take_turn
from tierloom.versions import head_version, read_head, read_manifest, stored_versions

NO_GRACE = timedelta()
HOUR = 3600.0
DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Seven versions; each holds one document and its index shards, and nothing of the one before."""
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(16,))
    for at in range(1, 7):
        publish(store, at)
    return store


def publish(store: LocalStore, at: int, created: str = "2026-01-01T00:00:00Z") -> Manifest:
    shard = store_shard(store, [Row(f"document {at}")])

    def change(head: Manifest) -> Manifest:
        run = RunRecord(run=f"run-{head.version + 1}", command="test")
        store_report(RunReport(record=run, version=head.version + 1, published=True), store)
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            created=created,
            run=run,
            vector_shards=(shard,),
            index_shards=index_shards(store, head.collection, [[shard]]),
            retention=Retention(versions=2, versions_seconds=0),
        )

    return commit(store, change)


def age(store: LocalStore, seconds: float, prefix: str = "") -> None:
    """Make everything in the store, or what begins so, so much older."""
    for path in store.root.rglob("*"):
        if path.is_file() and path.relative_to(store.root).as_posix().startswith(prefix):
            found = path.stat()
            os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def listing(store: LocalStore) -> set[str]:
    return {listed.name for prefix in (*collecting.COLLECTED, names.MANIFESTS) for listed in store.list(prefix)}


def needed(store: LocalStore, *versions: int) -> set[str]:
    manifests = [read_manifest(store, version) for version in versions]
    return {
        *(names.manifest(version) for version in versions),
        *(names.run(manifest.run.run) for manifest in manifests if manifest.version),
        *(stored.path for manifest in manifests for stored in manifest.objects()),
        names.checkpoint(CHECKPOINT.fingerprint),
    }


def assert_exactly(store: LocalStore, *versions: int) -> None:
    """These versions are whole, and there is nothing else."""
    assert listing(store) == needed(store, *versions)
    for version in versions:
        assert audit(store, version).problems == ()


def test_only_what_is_retained_stays(store: LocalStore) -> None:
    collected = collect(store, NO_GRACE)
    assert_exactly(store, 0, 5, 6)
    assert collected.garbage.retained == (0, 5, 6)
    assert collected.spared == ()
    # Of each of four versions: manifest, report, vector shard and index shard.
    assert len(collected.removed) == 16
    assert collected.bytes == sum(listed.bytes for listed in collected.removed) > 0


def _states(store: LocalStore) -> set[tuple[Path, int, int]]:
    return {(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in store.root.rglob("*")}


def test_what_is_known_of_a_batch_stays_as_long_as_its_answers(store: LocalStore) -> None:
    store.create(names.batch("ab12"), b"a record")
    age(store, 29 * DAY.total_seconds(), names.BATCHES)
    collect(store, NO_GRACE)
    assert store.size(names.batch("ab12")) is not None
    age(store, DAY.total_seconds(), names.BATCHES)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 5, 6)


def test_a_second_collection_finds_nothing(store: LocalStore) -> None:
    collect(store, NO_GRACE)
    assert collect(store, NO_GRACE).removed == ()


def test_a_dry_run_changes_nothing_and_tells_the_same(store: LocalStore) -> None:
    everything = _states(store)
    told = collect(store, NO_GRACE, dry_run=True)
    assert _states(store) == everything
    assert collect(store, NO_GRACE).removed == told.removed


def test_versions_are_retired_before_their_objects_are_old_enough(store: LocalStore) -> None:
    before = listing(store)
    collected = collect(store, timedelta(hours=24))
    assert stored_versions(store) == [0, 5, 6]
    assert before - listing(store) == {names.manifest(version) for version in (1, 2, 3, 4)}
    assert {listed.name for listed in collected.garbage.young} == listing(store) - needed(store, 0, 5, 6)


def test_young_garbage_is_left_and_old_garbage_goes(store: LocalStore) -> None:
    age(store, 25 * HOUR)
    young = store_shard(store, [Row("of a running job")])
    collect(store, timedelta(hours=24))
    assert listing(store) == needed(store, 0, 5, 6) | {young.path}


def test_a_young_version_is_kept(store: LocalStore) -> None:
    set_retention(store, {"versions": 1, "versions_seconds": 3600})
    for at in (8, 9):
        publish(store, at, created=datetime.now(UTC).isoformat(timespec="seconds"))
    set_retention(store, {"versions": 1, "versions_seconds": 3600})
    collect(store, NO_GRACE)
    assert stored_versions(store) == [0, 7, 8, 9, 10]


def test_a_renewed_manifest_is_not_a_young_version(store: LocalStore) -> None:
    """A lease makes a manifest young: by its age it is retired all the same, once the lease has ended."""
    set_retention(store, {"versions_seconds": 3600})
    age(store, 2 * HOUR)
    with Lease(store, 3, DAY):
        collect(store, NO_GRACE)
        assert_exactly(store, 0, 3, 6, 7)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 6, 7)


def test_channels_keep_their_versions(store: LocalStore) -> None:
    move_channel(store, "prod", 2, None)
    move_channel(store, "canary", 4, None)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 2, 4, 5, 6)
    move_channel(store, "prod", 5, read_channel(store, "prod"))
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 4, 5, 6)


def test_channels_keep_what_they_would_roll_back_to(store: LocalStore) -> None:
    for version in (1, 2, 4):
        promote(store, version, "prod", force=True)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 2, 4, 5, 6)
    rollback(store, "prod")
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 2, 5, 6)
    with pytest.raises(InputError, match="version 1, which prod served before 2, was retired; there still are 0, 2"):
        rollback(store, "prod")


@pytest.mark.parametrize("deed", ["promote", "lease"])
def test_a_version_that_is_taken_up_while_it_is_collected_stays_whole(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """Between the looking and the removing of a collection, the version is promoted, or a reader opens it."""
    look = collecting._look
    taken: list[object] = []

    def interrupted(*arguments: object) -> object:
        garbage = look(*arguments)  # type: ignore[arg-type]
        assert needed(store, 2) & {listed.name for listed in garbage.objects}
        taken.append(promote(store, 2, "prod", force=True) if deed == "promote" else Lease(store, 2, DAY))
        return garbage

    monkeypatch.setattr(collecting, "_look", interrupted)
    collected = collect(store, NO_GRACE)
    assert_exactly(store, 0, 2, 5, 6)
    assert {listed.name for listed in collected.spared} == needed(store, 2) - {names.checkpoint(CHECKPOINT.fingerprint)}
    monkeypatch.setattr(collecting, "_look", look)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 2, 5, 6)
    for one in taken:
        if isinstance(one, Lease):
            one.close()


@pytest.mark.parametrize("before", [names.LEASES, names.CHANNELS])
def test_a_version_that_is_being_retired_is_promoted_whole_or_not_at_all(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A whole collection goes by before the lease of a promotion, or between that and its move."""
    swap = LocalStore.swap
    due = [before]

    def swapping(store: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
        if due and name.startswith(due[0]):
            due.pop()
            collect(store, NO_GRACE)
        return swap(store, name, data, expected)

    monkeypatch.setattr(LocalStore, "swap", swapping)
    if before == names.LEASES:
        with pytest.raises(InputError, match="no version 2, or none any more"):
            promote(store, 2, "prod", force=True)
        assert read_channel(store, "prod") is None
        assert_exactly(store, 0, 5, 6)
    else:
        promote(store, 2, "prod", force=True)
        assert_exactly(store, 0, 2, 5, 6)


def test_a_version_on_lease_still_answers(store: LocalStore) -> None:
    with tierloom.open(store.root, version=2, lease=DAY) as snapshot:
        collect(store, NO_GRACE)
        assert [hit.document_id for hit in snapshot.search([1.0] * 32)] == ["document 2"]
        assert_exactly(store, 0, 2, 5, 6)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 5, 6)


def test_a_lease_whose_holder_died_ends(store: LocalStore) -> None:
    now = time.time()
    ended = LeaseRecord(version=2, holder="dead", expires=now - CLOCK_SKEW.total_seconds() - 60)
    late = LeaseRecord(version=3, holder="late, or its clock is", expires=now - CLOCK_SKEW.total_seconds() + 60)
    store.swap(names.lease("a"), seal(ended), None)
    store.swap(names.lease("b"), seal(late), None)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 3, 5, 6)
    assert [listed.name for listed in store.list(names.LEASES)] == [names.lease("b")]


def test_a_job_keeps_what_it_made_however_long_it_takes(store: LocalStore) -> None:
    with Lease(store, 6, DAY, working=True):
        made = store_shard(store, [Row("paid for")])
        collect(store, NO_GRACE)
        assert store.size(made.path) is not None
    # Within the difference that clocks may have, it is not known to be older than the job.
    age(store, 2 * CLOCK_SKEW.total_seconds(), made.path)
    with Lease(store, 6, DAY, working=True):
        collect(store, NO_GRACE)
        assert store.size(made.path) is None


def test_a_published_version_finds_all_that_it_claimed(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the looking and the removing of a collection, old garbage is published."""
    shard = store_shard(store, [Row("old garbage")])
    age(store, 48 * HOUR)
    look = collecting._look

    def interrupted(*arguments: object) -> object:
        garbage = look(*arguments)  # type: ignore[arg-type]
        assert shard.path in {listed.name for listed in garbage.objects}
        commit(store, lambda head: _holding(store, head, shard))
        return garbage

    monkeypatch.setattr(collecting, "_look", interrupted)
    collected = collect(store)
    assert shard.path in {listed.name for listed in collected.spared}
    assert audit(store).problems == ()
    assert read_head(store).vector_shards == (shard,)


def _holding(store: LocalStore, head: Manifest, shard: object) -> Manifest:
    indexes = index_shards(store, head.collection, [[shard]])  # type: ignore[list-item]
    return msgspec.structs.replace(head, version=head.version + 1, vector_shards=(shard,), index_shards=indexes)


def test_temporary_files_of_the_killed_go_and_those_in_use_stay(store: LocalStore) -> None:
    old, new = store.scratch() / "block-old", store.scratch() / "block-new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "block.parquet").write_bytes(b"12345")
        os.utime(folder, (0, 0))
    os.utime(old / "block.parquet", (0, 0))
    loose = store.scratch() / "1-x.tmp"
    loose.write_bytes(b"1")
    os.utime(loose, (0, 0))
    collected = collect(store)
    assert list(store.scratch().iterdir()) == [new]
    assert sum(entry.bytes for entry in collected.garbage.scratch) >= 6


def test_strange_objects_locks_and_receipts_are_left_alone(store: LocalStore) -> None:
    strange = ["README.txt", "backup/shards/x.parquet", "erasures/run.json", "channels/Odd.json"]
    for name in strange:
        store.create(name, b"mine")
    age(store, 10_000 * HOUR)
    locks = set((store.root / ".locks").rglob("*"))
    collect(store, NO_GRACE)
    assert all(store.size(name) is not None for name in strange)
    assert set((store.root / ".locks").rglob("*")) >= locks


def test_reports_of_runs_that_published_nothing_stay_as_long_as_versions(store: LocalStore) -> None:
    set_retention(store, {"versions_seconds": round(48 * HOUR)})
    report = RunReport(record=RunRecord(run="idle", command="ingest"), version=7, published=False)
    store_report(report, store)
    for hours, kept in ((47, True), (2, False)):
        age(store, hours * HOUR, names.run("idle"))
        collect(store)
        assert (store.size(names.run("idle")) is not None) == kept


def test_nothing_goes_when_a_version_that_is_kept_cannot_be_read(store: LocalStore) -> None:
    path = store.root / names.manifest(5)
    path.write_bytes(path.read_bytes().replace(b"test", b"tast", 1))
    before = listing(store)
    with pytest.raises(Corrupt, match=names.manifest(5)):
        collect(store, NO_GRACE)
    assert listing(store) == before


def test_a_retired_version_that_cannot_be_read_is_retired(store: LocalStore) -> None:
    (store.root / names.manifest(2)).write_bytes(b"{")
    age(store, 1000 * HOUR)
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 5, 6)


def test_the_head_is_found_after_its_committer_died_before_the_channel(store: LocalStore) -> None:
    """`latest` still names a version that is retired now."""
    head = read_head(store)
    for at in range(3):
        head = msgspec.structs.replace(
            head, version=head.version + 1, parent=head.digest(), run=RunRecord(str(at), "x")
        )
        store.create(names.manifest(head.version), head.to_bytes())
    collect(store, NO_GRACE)
    assert stored_versions(store) == [0, 8, 9]
    assert head_version(store) == 9


def test_a_retired_version_is_told_from_one_that_never_was(store: LocalStore) -> None:
    collect(store, NO_GRACE)
    with pytest.raises(InputError, match=r"version 3 of .* was retired; there still are 0, 5-6"):
        read_manifest(store, 3)
    with pytest.raises(InputError, match="no version 7; the newest is 6"):
        read_manifest(store, 7)


def test_an_empty_store_is_no_collection(tmp_path: Path) -> None:
    with pytest.raises(NotACollection):
        collect(LocalStore(tmp_path))


class Killed(BaseException):
    """In the place of the process's end."""


@pytest.mark.parametrize("survives", [0, 1, 3, 4, 5, 9, 15])
def test_a_collection_that_is_killed_leaves_whole_versions(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    left = iter(range(survives))
    remove = LocalStore.remove

    def removing(store: LocalStore, listed: Listed) -> bool:
        if next(left, None) is None:
            raise Killed
        return remove(store, listed)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "remove", removing)
        with pytest.raises(Killed):
            collect(store, NO_GRACE)
    for version in stored_versions(store):
        assert audit(store, version).problems == ()
    collect(store, NO_GRACE)
    assert_exactly(store, 0, 5, 6)


def test_two_collections_at_once_do_no_harm(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    look: Callable[..., object] = collecting._look

    def twice(*arguments: object) -> object:
        garbage = look(*arguments)
        monkeypatch.setattr(collecting, "_look", look)
        collect(store, NO_GRACE)
        return garbage

    monkeypatch.setattr(collecting, "_look", twice)
    second: Collected = collect(store, NO_GRACE)
    assert second.removed == ()
    assert_exactly(store, 0, 5, 6)


def test_who_lost_his_turn_removes_nothing_more(store: LocalStore) -> None:
    """Asked before each removal: whoever slept in the middle stops there, and what is left is whole."""
    set_retention(store, {"versions": 1, "versions_seconds": 0})
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise TurnLost("another has begun")

    before = {listed.name for listed in store.list("")}
    with pytest.raises(TurnLost):
        collect(store, NO_GRACE, check=check)
    gone = before - {listed.name for listed in store.list("")}
    assert 0 < len(gone) <= 3
    assert not audit(store).problems
    assert collect(store, NO_GRACE).removed
    assert not audit(store).problems


def test_turns_are_no_garbage(store: LocalStore) -> None:
    fence = take_turn(store, "gc", "me", time.time())
    end_turn(store, fence)
    collect(store, NO_GRACE)
    assert read_turn(store, "gc") is not None
