"""Following a channel: under load, over forks, and past what cannot be opened."""

import gc
import itertools
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

import tierloom
from tests.small_shards import Row, make_collection, publish, store_shard, with_dead
from tierloom import names
from tierloom.channel import move_channel, read_channel
from tierloom.errors import CheckpointError, Corrupt, InputError, Malformed, NotFound
from tierloom.following import Follower
from tierloom.manifest import Manifest
from tierloom.stores.local import LocalStore

QUERY = [1.0] * 32
ROWS = 2300


def point(store: LocalStore, version: int) -> None:
    move_channel(store, "prod", version, read_channel(store, "prod"))


def rows_of(name: str, count: int) -> list[Row]:
    return [Row(f"{name}{at}") for at in range(count)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Versions 1 and 2 have no document in common; 3 shares its first shard with 2. `prod` is at 1."""
    store = LocalStore(tmp_path_factory.mktemp("original"))
    make_collection(store)
    publish(store, [[store_shard(store, rows_of("one-", ROWS))]])
    two = store_shard(store, rows_of("two-", ROWS))
    publish(store, [[two]])
    publish(store, [[with_dead(store, two, [0, 1])], [store_shard(store, rows_of("three-", 100))]])
    point(store, 1)
    return store


@pytest.fixture
def store(original: LocalStore, tmp_path: Path) -> LocalStore:
    shutil.copytree(original.root, tmp_path / "store")
    return LocalStore(tmp_path / "store")


@pytest.fixture
def follower(store: LocalStore) -> Iterator[Follower]:
    with tierloom.follow(str(store.root), poll=False) as follower:
        yield follower


def maps_of(store: LocalStore) -> list[str]:
    """The objects of the store that this process has mapped, one entry for each mapping."""
    gc.collect()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted(line.rpartition("/")[2] for line in lines if str(store.root) in line)


def resident() -> int:
    """Bytes of this process in memory that are its own, and no file's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))


def damage(path: Path) -> bytes:
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    return whole


def test_it_goes_where_the_channel_points(store: LocalStore, follower: Follower) -> None:
    assert follower.search(QUERY)[0].document_id.startswith("one-")
    assert (follower.version, follower.check(), follower.last_error) == (1, False, None)
    before = datetime.now(UTC)
    point(store, 2)
    assert (follower.check(), follower.version) == (True, 2)
    assert before <= follower.moved_at <= datetime.now(UTC)
    answer = follower.search(QUERY)
    assert (answer.version, answer[0].document_id[:4]) == (2, "two-")
    assert follower.check() is False
    point(store, 1)
    assert follower.check()
    assert follower.search_many([QUERY, QUERY])[1].version == 1


def test_a_thread_looks_at_the_channel(store: LocalStore) -> None:
    with tierloom.follow(str(store.root), interval=timedelta(milliseconds=1)) as follower:
        point(store, 2)
        answers = (follower.search(QUERY) for _ in itertools.count())
        assert next(answer for answer in answers if answer.version == 2)[0].document_id.startswith("two-")


def test_latest_is_followed_too(store: LocalStore) -> None:
    with tierloom.follow(store.root, "latest", poll=False) as follower:
        assert follower.version == 3
        publish(store, [[store_shard(store, [Row("four")])]])
        assert follower.check()
        assert [hit.document_id for hit in follower.search(QUERY)] == ["four"]


@pytest.mark.parametrize(("channel", "said"), [("canary", "no channel 'canary'"), ("../x", "cannot be a channel")])
def test_a_channel_that_is_not_there_is_refused(store: LocalStore, channel: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tierloom.follow(store.root, channel)


def test_a_query_stays_on_its_version(store: LocalStore, follower: Follower) -> None:
    with follower.pinned() as pinned:
        point(store, 2)
        assert follower.check()
        assert maps_of(store)
        assert pinned.search(QUERY).version == 1
        assert follower.search(QUERY).version == 2
        mapped = maps_of(store)
    assert len(maps_of(store)) < len(mapped)


def test_what_versions_share_is_opened_once(store: LocalStore, follower: Follower) -> None:
    point(store, 2)
    follower.check()
    two = maps_of(store)
    with follower.pinned() as old:
        (shared,) = old.manifest.vector_shards
        before = old._files.shard(shared)
        point(store, 3)
        assert follower.check()
        mapped = maps_of(store)
        assert len([name for name in mapped if name in shared.path]) == 1
        with follower.pinned() as new:
            assert new._files.shard(shared) is before
    point(store, 2)
    follower.check()
    assert maps_of(store) == two


def test_an_index_shard_of_two_versions_is_one(store: LocalStore) -> None:
    shards = [store_shard(store, rows_of(name, 50)) for name in "ab"]
    publish(store, [[shards[0]]])
    with tierloom.follow(store.root, "latest", poll=False) as follower, follower.pinned() as old:
        publish(store, [[shards[0]], [shards[1]]])
        assert follower.check()
        with follower.pinned() as new:
            tier = new.manifest.collection.tier(16)
            assert new._version.tier(tier)[0].reader is old._version.tier(tier)[0].reader


def broken_manifest(store: LocalStore, version: int) -> Path:
    return store.root / names.manifest(version)


def broken_vectors(store: LocalStore, version: int) -> Path:
    return store.root / manifest_of(store, version).vector_shards[0].path


def broken_tier(store: LocalStore, version: int) -> Path:
    return store.root / manifest_of(store, version).index_shards_of("16")[0].path


def manifest_of(store: LocalStore, version: int) -> Manifest:
    return tierloom.open(store.root, version).manifest


@pytest.mark.parametrize("kind", [broken_manifest, broken_vectors, broken_tier])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_what_cannot_be_opened_is_never_served(
    store: LocalStore,
    follower: Follower,
    kind: Callable[[LocalStore, int], Path],
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = kind(store, 2)
    whole = damage(path)
    if how == "missing":
        path.unlink()
    point(store, 2)
    for _ in range(3):
        assert follower.check() is False
        assert follower.search(QUERY).version == 1
    assert isinstance(follower.last_error, Corrupt | Malformed | NotFound | InputError)
    assert len([record for record in caplog.records if "cannot be followed" in record.message]) == 1
    path.write_bytes(whole)
    assert follower.check()
    assert follower.last_error is None
    assert follower.search(QUERY).version == 2


def test_a_channel_that_comes_back_is_no_failure(store: LocalStore, follower: Follower) -> None:
    damage(broken_vectors(store, 2))
    point(store, 2)
    follower.check()
    assert follower.last_error
    point(store, 1)
    assert follower.check() is False
    assert follower.last_error is None


def test_a_version_is_served_on_when_it_is_retired(store: LocalStore, follower: Follower) -> None:
    """All that its queries need is mapped; the names of the files may go."""
    expected = follower.search(QUERY)
    for folder in ("shards", "indexes", "manifests", "deletes"):
        for path in (store.root / folder).rglob("*.*"):
            path.unlink()
    start = threading.Barrier(8)

    def ask(_: int) -> tuple[tierloom.Hit, ...]:
        start.wait(timeout=30)
        return follower.search(QUERY).hits

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [expected.hits] * 8


def test_after_close_nothing_is_held(store: LocalStore) -> None:
    follower = tierloom.follow(store.root, poll=False)
    with follower.pinned() as pinned:
        follower.close()
        assert pinned.search(QUERY).version == 1
    del pinned
    assert maps_of(store) == []
    with pytest.raises(InputError, match="'prod' was closed"):
        follower.search(QUERY)


@pytest.mark.slow
def test_under_load_no_answer_fails_and_none_is_mixed(store: LocalStore) -> None:
    """Eight threads ask while the channel moves back and forth 200 times."""
    beginnings = {1: "one-", 2: "two-"}
    queries = np.random.default_rng(0).standard_normal((64, 32))
    stop, answered, seen = threading.Event(), itertools.count(), set()

    def ask(follower: Follower, seed: int) -> None:
        for query in itertools.cycle(np.roll(queries, seed, axis=0)):
            if stop.is_set():
                return
            answer = follower.search(query, tier=(4, 8, 16)[next(answered) % 3], by_document=seed % 2 == 0)
            assert len(answer) == 10
            assert all(hit.document_id.startswith(beginnings[answer.version]) for hit in answer)
            seen.add(answer.version)

    with tierloom.follow(store.root, poll=False) as follower, ThreadPoolExecutor(8) as pool:
        askers = [pool.submit(ask, follower, seed) for seed in range(8)]
        sizes = []
        try:
            for move in range(200):
                point(store, 2 - move % 2)
                assert follower.check() or move == 199
                assert follower.last_error is None
                sizes.append(resident())
        finally:
            stop.set()
        for asker in askers:
            asker.result()
        assert seen == {1, 2}
        point(store, 1)
        follower.check()
        after = maps_of(store)
        assert np.median(sizes[-20:]) - np.median(sizes[20:40]) < 8 << 20
    assert maps_of(store) == []
    with tierloom.follow(store.root, poll=False) as fresh:
        for tier in (4, 8, 16):
            fresh.search(QUERY, tier=tier)
        # Which tiers were asked of the last version is a matter of luck.
        assert set(after) <= set(maps_of(store))


FORKING = """
import json, os, sys, threading, time
import numpy as np
import tierloom
from tierloom.channel import move_channel, read_channel
from tierloom.stores.local import LocalStore
from datetime import timedelta

root = sys.argv[1]
store = LocalStore(__import__("pathlib").Path(root))
follower = tierloom.follow(root, interval=timedelta(milliseconds=5))
queries = np.random.default_rng(0).standard_normal((20, 32))
ids = lambda: [[hit.document_id for hit in follower.search(query)] for query in queries]
expected = ids()
stop = threading.Event()

def ask():
    while not stop.is_set():
        ids()

threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
children = []
for at in range(10):
    # As if another thread were in the middle of each.
    held = [follower._checking, follower._swapping, follower._current.snapshot._version._opening]
    if at % 2:
        for lock in held:
            lock.acquire()
    ready, say_ready = os.pipe()
    child = os.fork()
    if child == 0:
        threads_of_child = [thread.name for thread in threading.enumerate()]
        same = ids() == expected
        os.write(1, (json.dumps([same, threads_of_child.count("follow")]) + "\\n").encode())
        os.write(say_ready, b"!")
        while follower.version == 1:
            time.sleep(0.005)
        os.write(1, (json.dumps([follower.search(queries[0])[0].document_id[:4], 1]) + "\\n").encode())
        follower.close()
        os._exit(0)
    if at % 2:
        for lock in held:
            lock.release()
    os.read(ready, 1)
    children.append(child)
move_channel(store, "prod", 2, read_channel(store, "prod"))
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
while follower.version == 1:
    time.sleep(0.005)
stop.set()
for thread in threads:
    thread.join()
follower.close()
print(json.dumps(codes))
"""


@pytest.mark.slow
def test_a_forked_child_goes_on(store: LocalStore) -> None:
    """While others search in the parent, and locks are held: children answer, and follow."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(store.root)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1] == [0] * 10
    assert sorted(map(str, lines[:-1])) == sorted(["[True, 1]"] * 10 + ["['two-', 1]"] * 10)


def test_only_tiers_that_are_served_must_be_there(store: LocalStore, follower: Follower) -> None:
    """Nothing is declared: the largest tier is served, and another may be broken until it is asked for."""
    damage(store.root / manifest_of(store, 2).index_shards_of("4")[0].path)
    point(store, 2)
    assert follower.check()
    with pytest.raises(Corrupt):
        follower.search(QUERY, tier=4)
    with pytest.raises(CheckpointError):
        follower.search(QUERY, tier=5)


def test_a_move_is_logged(store: LocalStore, follower: Follower, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierloom.following")
    point(store, 2)
    follower.check()
    assert caplog.messages == ["channel prod: version 2 is served"]
