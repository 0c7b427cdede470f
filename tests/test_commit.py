import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests import committer
from tests.committer import commit_one
from tests.small_shards import CHECKPOINT, collection_of, first_manifest, make_collection
from tierloom import names
from tierloom.channel import read_channel
from tierloom.commit import MAX_RACES, advance_latest, commit
from tierloom.errors import CommitConflict, InputError, NotACollection, TurnLost
from tierloom.manifest import DocumentCounts, Manifest, RunRecord
from tierloom.stores.local import LocalStore
from tierloom.versions import channel_serves, head_version, read_checkpoint, read_head, read_manifest


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(4,))
    return store


def history(store: LocalStore) -> list[Manifest]:
    """Every version from the first to the head."""
    return [read_manifest(store, version) for version in range(head_version(store) + 1)]


def assert_linear(store: LocalStore, runs: set[str]) -> None:
    """Each of these runs is one version, each version adds one document, and `latest` names the head."""
    versions = history(store)
    assert sorted(manifest.run.run for manifest in versions[1:]) == sorted(runs)
    assert [manifest.documents.live for manifest in versions] == list(range(len(runs) + 1))
    listed = {names.manifest_version(listed.name) for listed in store.list("manifests/")}
    assert listed == set(range(len(runs) + 1))
    assert pointed_at(store, names.LATEST) == len(runs)


def pointed_at(store: LocalStore, channel: str) -> int:
    seen = read_channel(store, channel)
    assert seen is not None
    return seen[0].version


def successor(head: Manifest, run: str) -> Manifest:
    documents = DocumentCounts(documents_in=head.documents.documents_in + 1, live=head.documents.live + 1)
    record = RunRecord(run=run, command="test")
    return msgspec.structs.replace(
        head, version=head.version + 1, parent=head.digest(), run=record, documents=documents
    )


def test_a_commit_is_the_next_version_and_the_head(store: LocalStore) -> None:
    published = commit(store, lambda head: successor(head, "one"))
    assert published.version == 1
    assert read_head(store) == published
    assert_linear(store, {"one"})


def test_nothing_to_publish_publishes_nothing(store: LocalStore) -> None:
    assert commit(store, lambda head: None).version == 0
    assert_linear(store, set())


def test_the_loser_of_a_race_decides_again_on_the_new_head(store: LocalStore) -> None:
    asked: list[int] = []

    def change(head: Manifest) -> Manifest:
        asked.append(head.version)
        if len(asked) <= 2:
            commit_one(store, f"rival-{len(asked)}")
        return successor(head, "mine")

    assert commit(store, change).version == 3
    assert asked == [0, 1, 2]
    assert_linear(store, {"rival-1", "rival-2", "mine"})


def test_a_change_that_became_needless_is_given_up(store: LocalStore) -> None:
    def change(head: Manifest) -> Manifest | None:
        if head.version:
            return None
        commit_one(store, "rival")
        return successor(head, "mine")

    assert commit(store, change).run.run == "rival"
    assert_linear(store, {"rival"})


def test_who_may_not_publish_any_more_does_not(store: LocalStore) -> None:
    """Asked for every attempt, when all else is done."""
    asked: list[int] = []

    def change(head: Manifest) -> Manifest:
        if not asked:
            commit_one(store, "rival")
        return successor(head, "mine")

    def check() -> None:
        asked.append(head_version(store))
        if len(asked) == 2:
            raise TurnLost("another has begun")

    with pytest.raises(TurnLost):
        commit(store, change, check)
    assert asked == [1, 1]
    assert_linear(store, {"rival"})


def test_a_commit_that_always_loses_gives_up(store: LocalStore) -> None:
    rivals = iter(range(MAX_RACES + 1))

    def change(head: Manifest) -> Manifest:
        commit_one(store, f"rival-{next(rivals)}")
        return successor(head, "mine")

    with pytest.raises(CommitConflict, match=f"lost {MAX_RACES} races"):
        commit(store, change)
    assert head_version(store) == MAX_RACES


def test_a_version_that_is_not_the_next_is_refused(store: LocalStore) -> None:
    with pytest.raises(CommitConflict, match="version 5 proposed on top of 0"):
        commit(store, lambda head: msgspec.structs.replace(head, version=5))
    assert_linear(store, set())


def test_an_error_in_the_change_publishes_nothing(store: LocalStore) -> None:
    def change(head: Manifest) -> Manifest:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commit(store, change)
    assert_linear(store, set())


def test_threads_lose_no_commit(store: LocalStore) -> None:
    start = threading.Barrier(8)

    def work(worker: int) -> list[int]:
        start.wait(timeout=30)
        return [commit_one(store, f"{worker}-{at}") for at in range(6)]

    with ThreadPoolExecutor(8) as pool:
        versions = [version for published in pool.map(work, range(8)) for version in published]
    assert sorted(versions) == list(range(1, 49))
    assert_linear(store, {f"{worker}-{at}" for worker in range(8) for at in range(6)})


def test_processes_lose_no_commit(store: LocalStore) -> None:
    program = [sys.executable, committer.__file__, str(store.root)]
    workers = [subprocess.Popen([*program, f"w{worker}", "8"], stdout=subprocess.PIPE) for worker in range(4)]
    printed = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert sorted(int(version) for lines in printed for version in lines) == list(range(1, 33))
    assert_linear(store, {f"w{worker}-{at}" for worker in range(4) for at in range(8)})


def test_killed_committers_leave_a_whole_history(store: LocalStore) -> None:
    program = [sys.executable, committer.__file__, str(store.root)]
    printed: list[int] = []
    for at in range(3):
        with subprocess.Popen([*program, f"w{at}", "100000"], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            printed += [int(worker.stdout.readline()) for _ in range(5)]
            worker.kill()
            printed += [int(line) for line in worker.stdout.read().splitlines()]
    versions = history(store)
    assert set(printed) <= set(range(1, len(versions)))
    assert [manifest.documents.live for manifest in versions] == list(range(len(versions)))
    assert commit_one(store, "after") == len(versions)
    assert pointed_at(store, names.LATEST) == len(versions)


@pytest.mark.parametrize("orphans", [1, 3])
def test_versions_whose_committer_died_before_the_channel_are_the_head(store: LocalStore, orphans: int) -> None:
    head = read_head(store)
    for at in range(orphans):
        head = successor(head, f"orphan-{at}")
        store.create(names.manifest(head.version), head.to_bytes())
    assert pointed_at(store, names.LATEST) == 0
    assert read_head(store) == head
    assert channel_serves(store, names.LATEST) == (orphans, None)
    commit_one(store, "next")
    assert_linear(store, {"next", *(f"orphan-{at}" for at in range(orphans))})


def test_a_collection_whose_init_died_before_the_channel_is_one(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = first_manifest(collection_of(tiers=(4,)))
    store.create(names.manifest(0), first.to_bytes())
    assert read_head(store) == first
    commit_one(store, "next")
    assert_linear(store, {"next"})


def test_a_commit_whose_reply_was_lost_is_recognised(store: LocalStore) -> None:
    mine = successor(read_head(store), "mine")
    store.create(names.manifest(1), mine.to_bytes())
    store.create(names.manifest(1), mine.to_bytes())
    assert read_head(store) == mine


@pytest.mark.parametrize("retired", [[1], [1, 2], [1, 2, 3]])
def test_a_writer_that_slept_publishes_nothing_under_a_retired_number(store: LocalStore, retired: list[int]) -> None:
    """It read version 0 as the head; when it wakes, the number of its successor is free again."""
    asked: list[int] = []

    def change(head: Manifest) -> Manifest:
        asked.append(head.version)
        if head.version == 0:
            for at in range(4):
                commit_one(store, f"rival-{at}")
            retire(store, retired)
        return successor(head, "zombie")

    assert commit(store, change).version == 5
    assert asked == [0, 4]
    assert {names.manifest_version(listed.name) for listed in store.list("manifests/")} == {*range(6)} - {*retired}
    assert [read_manifest(store, 5).parent, pointed_at(store, names.LATEST)] == [read_manifest(store, 4).digest(), 5]


def retire(store: LocalStore, versions: list[int]) -> None:
    for listed in list(store.list("manifests/")):
        if names.manifest_version(listed.name) in versions:
            assert store.remove(listed)


def test_latest_never_goes_back(store: LocalStore) -> None:
    for at in range(3):
        commit_one(store, str(at))
    advance_latest(store, 1)
    assert pointed_at(store, names.LATEST) == 3


def test_racing_advances_end_at_the_highest(store: LocalStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: advance_latest(store, version), range(1, 41)))
    assert pointed_at(store, names.LATEST) == 40


@pytest.mark.parametrize("reading", [head_version, read_head, lambda store: commit(store, lambda head: None)])
def test_an_empty_store_is_no_collection(tmp_path: Path, reading: Callable[[LocalStore], object]) -> None:
    with pytest.raises(NotACollection, match="tierloom init"):
        reading(LocalStore(tmp_path))


def test_a_version_that_is_not_there_is_named(store: LocalStore) -> None:
    with pytest.raises(InputError, match="no version 9; the newest is 0"):
        read_manifest(store, 9)


def test_the_checkpoint_is_read_back(store: LocalStore) -> None:
    assert read_checkpoint(store, CHECKPOINT.fingerprint) == CHECKPOINT
