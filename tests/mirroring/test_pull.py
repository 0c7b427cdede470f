import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import polars
import pyarrow.parquet as pq
import pytest

import tierloom
from index_builder.audit import audit
from tests.engines.gcs_server import GcsBucket
from tests.mirroring.mirrored import DIED, QUERIES, ROOT, TIERS, answers, dying, files, make, move, spoil
from tests.remote import RemoteStore
from tierloom import names
from tierloom.channel import move_channel
from tierloom.column_files import ColumnFiles
from tierloom.errors import CheckpointError, Corrupt, InputError, NotFound, NotPulled, PullUnderWay, StoreError
from tierloom.manifest import Manifest
from tierloom.mirroring.fetching import Progress, part_name
from tierloom.mirroring.holding import holding
from tierloom.mirroring.pulling import pull, roll_back
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.stores.local import LocalStore
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import head_version, read_manifest

_CHOICES = [chosen for size in (1, 2, 3) for chosen in combinations(TIERS, size)]


class CountingStore(RemoteStore):
    """A remote store of which any object may be asked for by ranges."""

    def _refuse_shards(self, name: str) -> None:
        """None is asked for whole."""

    @property
    def asked(self) -> set[str]:
        """The objects of which anything was fetched since the last look."""
        found = {name for name, _, length in self.traffic.ranges if length}
        self.traffic.ranges.clear()
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "store"
    make(LocalStore(folder))
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> CountingStore:
    """Its own copy: tests move its channel, and damage it."""
    shutil.copytree(made, tmp_path / "store")
    return CountingStore(tmp_path / "store")


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def manifest_of(store: CountingStore, version: int) -> Manifest:
    return read_manifest(store, version)


def rolled_back(mirror: Path) -> tuple[int, int]:
    """The versions that a rollback of a mirror leaves and goes to."""
    left, now = roll_back(mirror)
    return left.version, now.version


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("tiers", _CHOICES)
def test_a_mirror_answers_as_its_source_does(
    store: CountingStore, mirror: Path, tiers: tuple[str, ...], vectors: bool
) -> None:
    report = pull(store, mirror, "prod", tiers=tiers, vectors=vectors)
    assert (report.version, report.previous, report.tiers, report.vectors) == (1, None, tiers, vectors)
    assert answers(mirror, tiers=tiers, rerank=vectors) == answers(store.files.root, tiers=tiers, rerank=vectors)
    manifest = manifest_of(store, 1)
    wanted = {stored.path for stored in manifest.objects() if stored.path.split("/")[1] in tiers}
    wanted |= {stored.path for stored in manifest.vector_shards}
    wanted |= {stored.deletes.path for stored in manifest.vector_shards if stored.deletes}
    own = {names.MIRROR, names.channel("prod"), names.manifest(1), names.checkpoint(manifest.collection.checkpoint)}
    assert files(mirror) == wanted | own
    assert report.fetched_objects == len(wanted)


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("tiers", _CHOICES)
def test_a_mirror_is_followed_with_what_it_has(
    store: CountingStore, mirror: Path, tiers: tuple[str, ...], vectors: bool
) -> None:
    """Its default is the largest tier that was pulled, reranked if the full vectors were."""
    pull(store, mirror, "prod", tiers=tiers, vectors=vectors)
    with tierloom.follow(mirror, poll=False) as follower:
        answer = follower.search(QUERIES[0])
        assert (answer.tier, answer.reranked, answer.version) == (tiers[-1], vectors, 1)
        with tierloom.open(store.files.root, channel="prod") as source:
            assert answer.hits == source.search(QUERIES[0], tier=tiers[-1], rerank=vectors).hits
        move(store, 2)
        pull(store, mirror, "prod", tiers=tiers, vectors=vectors)
        assert follower.check()
        assert follower.search(QUERIES[0]).tier == tiers[-1]


def test_without_a_channel_what_a_mirror_serves_is_opened(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    with tierloom.open(mirror) as snapshot:
        assert snapshot.manifest.version == head_version(LocalStore(mirror)) == 1


def test_the_latest_version_may_be_mirrored(store: CountingStore, mirror: Path) -> None:
    assert pull(store, mirror).version == 3
    with tierloom.open(mirror) as snapshot:
        assert snapshot.manifest.version == 3


def test_what_was_not_pulled_is_refused_with_the_cure(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod", tiers=["8"], vectors=False)
    command = f"tierloom pull {store.url} {mirror} --channel prod"
    with tierloom.open(mirror) as snapshot:
        with pytest.raises(NotPulled, match=f"tier 16 was not pulled into .*; {command} --tiers 8,16"):
            snapshot.search(QUERIES[0], tier=16)
        for rerank in (lambda: snapshot.search(QUERIES[0], rerank=True), lambda: list(snapshot.chunks(vectors=True))):
            with pytest.raises(NotPulled, match=f"without the full vectors.*{command}, without --no-vectors"):
                rerank()
        assert len(list(snapshot.chunks())) == 597


def test_the_holes_are_never_read_as_vectors(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod", vectors=False)
    local = LocalStore(mirror)
    for shard in read_manifest(local, 1).vector_shards:
        with pytest.raises(NotPulled):
            ColumnFiles(local).shard(shard)


def test_any_parquet_reader_reads_what_is_beside_the_holes(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod", vectors=False)
    for shard in manifest_of(store, 1).vector_shards:
        here, there = mirror / shard.path, store.files.root / shard.path
        columns = [name for name in pq.read_schema(there).names if name != "vector"]
        assert pq.read_table(here, columns=columns).equals(pq.read_table(there, columns=columns))
        assert polars.read_parquet(here, columns=columns).equals(polars.read_parquet(there, columns=columns))
        assert here.stat().st_size == shard.bytes
        assert here.stat().st_blocks * 512 < shard.bytes - shard.rows * 64 + 8192
        assert not any(pq.read_table(here, columns=["vector"])["vector"][0].as_py())


def test_of_the_full_vectors_not_a_byte_is_fetched(store: CountingStore, mirror: Path) -> None:
    report = pull(store, mirror, "prod", tiers=["4"], vectors=False)
    shards = manifest_of(store, 1).vector_shards
    for shard in shards:
        fetched = sum(length for name, _, length in store.traffic.ranges if name == shard.path)
        assert fetched <= shard.bytes - shard.rows * 64 + shard.footer.bytes
    assert report.fetched_bytes == store.traffic.bytes


def test_only_what_changed_is_fetched(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    assert store.asked == {stored.path for stored in manifest_of(store, 1).objects()}
    assert pull(store, mirror, "prod").fetched_objects == 0
    assert store.asked == set()
    for version in (2, 3):
        move(store, version)
        report = pull(store, mirror, "prod")
        new = {stored.path for stored in manifest_of(store, version).objects()}
        new -= {stored.path for stored in manifest_of(store, version - 1).objects()}
        assert store.asked == new
        assert (report.version, report.previous, report.fetched_objects) == (version, version - 1, len(new))
        assert answers(mirror) == answers(store.files.root)
        assert answers(mirror, version - 1) == answers(store.files.root, version - 1)


def test_what_neither_version_needs_is_removed(store: CountingStore, mirror: Path) -> None:
    for version in (1, 2, 3):
        move(store, version)
        pull(store, mirror, "prod")
    first = manifest_of(store, 1).vector_shards[0].path
    # Version 2 has it too, and is held.
    assert (mirror / first).exists()
    assert files(mirror).isdisjoint({names.manifest(1)})
    move(store, 2)
    pull(store, mirror, "prod", version=3)
    assert pull(store, mirror, "prod", version=3).removed_objects == 0
    kept = {stored.path for version in (2, 3) for stored in manifest_of(store, version).objects()}
    assert {name for name in files(mirror) if name.startswith(("shards/", "deletes/", "indexes/"))} == kept


def test_full_vectors_and_tiers_are_brought_later(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod", tiers=[4], vectors=False)
    with tierloom.open(mirror) as reader:
        reader.search(QUERIES[0], tier=4, rerank=False)
        pull(store, mirror, "prod", tiers=[4, 16])
        assert reader.search(QUERIES[0], tier=4, rerank=False)
    assert answers(mirror, tiers=["4", "16"]) == answers(store.files.root, tiers=["4", "16"])
    assert pull(store, mirror, "prod", tiers=[16], vectors=False).fetched_objects == 0
    assert not list(mirror.glob("indexes/4/*"))


def test_the_version_before_serves_without_vectors_too(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod", vectors=False)
    move(store, 2)
    pull(store, mirror, "prod", vectors=False)
    assert rolled_back(mirror) == (2, 1)
    assert answers(mirror, rerank=False) == answers(store.files.root, 1, rerank=False)


def test_a_rollback_needs_no_source_and_goes_back_and_forth(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    with pytest.raises(InputError, match="no version before 1"):
        roll_back(mirror)
    expected = {version: answers(store.files.root, version) for version in (1, 2)}
    move(store, 2)
    pull(store, mirror, "prod")
    shutil.move(store.files.root, mirror.parent / "away")
    for left, version in ((2, 1), (1, 2), (2, 1)):
        assert rolled_back(mirror) == (left, version)
        assert answers(mirror) == expected[version]
    shutil.move(mirror.parent / "away", store.files.root)
    assert pull(store, mirror, "prod").previous == 1
    assert answers(mirror) == expected[2]


def test_a_reader_keeps_what_it_has_mapped(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    before = answers(store.files.root, 1)[1]
    with tierloom.open(mirror) as reader:

        def asked() -> list[tuple[object, ...]]:
            hits = reader.search(QUERIES[0], tier=4, shortlist=50, top=20)
            return [(hit.document_id, hit.ordinal, hit.score, hit.text, hit.metadata) for hit in hits]

        assert asked() == before
        for version in (2, 3):
            move(store, version)
            pull(store, mirror, "prod")
        assert asked() == before


def test_a_leased_version_stays(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    with tierloom.open(mirror, lease=timedelta(minutes=1)):
        for version in (2, 3):
            move(store, version)
            pull(store, mirror, "prod")
        assert answers(mirror, 1) == answers(store.files.root, 1)
    assert pull(store, mirror, "prod").removed_objects > 0
    assert names.manifest(1) not in files(mirror)
    assert rolled_back(mirror) == (3, 2)


@pytest.mark.parametrize("vectors", [True, False])
def test_what_was_damaged_here_is_fetched_again(store: CountingStore, mirror: Path, vectors: bool) -> None:
    pull(store, mirror, "prod", vectors=vectors)
    for stored in manifest_of(store, 1).objects():
        spoil(mirror / stored.path)
        store.traffic.ranges.clear()
        pull(store, mirror, "prod", vectors=vectors)
        # The middle of a shard may lie in the hole.
        may_be_none = stored.path.startswith("shards/") and not vectors
        assert store.asked == {stored.path} or (may_be_none and not store.traffic.ranges)
    (mirror / names.manifest(1)).write_bytes(b"{}")
    (mirror / names.channel("prod")).write_bytes(b"{}")
    (mirror / names.MIRROR).write_bytes(b"{}")
    assert pull(store, mirror, "prod", vectors=vectors).fetched_objects == 0
    assert answers(mirror, rerank=vectors) == answers(store.files.root, rerank=vectors)


def _gone(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("vectors", [True, False])
@pytest.mark.parametrize("damage", [spoil, _gone, _cut, _emptied])
@pytest.mark.parametrize("kind", ["shards", "deletes", "indexes", "manifests"])
def test_a_damaged_source_is_refused_and_the_mirror_serves_on(
    store: CountingStore, mirror: Path, kind: str, damage: Callable[[Path], None], vectors: bool
) -> None:
    pull(store, mirror, "prod", vectors=vectors)
    before, held = answers(mirror, rerank=vectors), files(mirror)
    move(store, 2)
    old = {stored.path for stored in manifest_of(store, 1).objects()}
    new = [stored.path for stored in manifest_of(store, 2).objects() if stored.path not in old]
    victim = names.manifest(2) if kind == "manifests" else next(name for name in new if name.startswith(kind))
    data = (store.files.root / victim).read_bytes()
    if kind == "shards" and damage is spoil:
        # Not in the hole.
        text = pq.read_metadata(store.files.root / victim).row_group(0).column(4)
        at = text.data_page_offset + text.total_compressed_size - 1
        (store.files.root / victim).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    else:
        damage(store.files.root / victim)
    with pytest.raises((Corrupt, NotFound, StoreError, InputError, tierloom.errors.Malformed)) as refused:
        pull(store, mirror, "prod", vectors=vectors)
    assert victim in str(refused.value) or kind == "manifests"
    assert answers(mirror, rerank=vectors) == before
    assert held <= files(mirror)
    (store.files.root / victim).write_bytes(data)
    assert pull(store, mirror, "prod", vectors=vectors).version == 2
    assert answers(mirror, rerank=vectors) == answers(store.files.root, rerank=vectors)


def test_what_arrived_in_part_is_gone_on_with(store: CountingStore, mirror: Path) -> None:
    shard = max(manifest_of(store, 1).vector_shards, key=lambda shard: shard.bytes)
    data = (store.files.root / shard.path).read_bytes()
    for begun, expected in ((data[:1000], shard.bytes - 1000), (b"other" + data[5:9000], 2 * shard.bytes - 9000)):
        shutil.rmtree(mirror, ignore_errors=True)
        scratch = LocalStore(mirror).scratch()
        (scratch / part_name(shard)).write_bytes(begun)
        store.traffic.ranges.clear()
        pull(store, mirror, "prod")
        assert sum(length for name, _, length in store.traffic.ranges if name == shard.path) == expected
        assert not list(scratch.iterdir())
        assert answers(mirror) == answers(store.files.root)


def test_progress_is_told_up_to_the_end(store: CountingStore, mirror: Path) -> None:
    told: list[Progress] = []
    report = pull(store, mirror, "prod", on_progress=told.append)
    last = told[-1]
    assert (last.objects, last.bytes) == (last.objects_in_all, last.bytes_in_all)
    assert (last.objects, last.bytes) == (report.fetched_objects, report.fetched_bytes)
    assert [one.bytes for one in told] == sorted(one.bytes for one in told)


def test_of_two_pulls_at_once_the_second_is_told_who_is_at_it(store: CountingStore, mirror: Path) -> None:
    with holding(LocalStore(mirror)), pytest.raises(PullUnderWay, match=rf"pid {os.getpid()} since 20"):
        pull(store, mirror, "prod")
    pull(store, mirror, "prod")
    with holding(LocalStore(mirror)), pytest.raises(PullUnderWay):
        roll_back(mirror)


@pytest.mark.parametrize("tiers", [["32"], ["4", "x"], [""]])
def test_a_tier_that_there_is_not(store: CountingStore, mirror: Path, tiers: list[str]) -> None:
    with pytest.raises(CheckpointError, match="it has 4, 8, 16"):
        pull(store, mirror, "prod", tiers=tiers)


def test_folders_that_are_no_mirror_of_this(store: CountingStore, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="into itself"):
        pull(store.files, store.files.root, "prod")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        pull(store, tmp_path / "file", "prod")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="something else than a mirror"):
        pull(store, tmp_path / "other", "prod")
    assert files(tmp_path / "other") == {"mine.txt"}
    with pytest.raises(InputError, match="no channel 'staging'"):
        pull(store, mirror, "staging")
    shutil.rmtree(mirror)
    pull(store, mirror, "prod")
    with pytest.raises(InputError, match="mirrors channel 'prod'"):
        pull(store, mirror, "latest")
    with pytest.raises(InputError, match="mirrors channel 'prod' of remote:"):
        pull(store.files, mirror, "prod")


def test_nobody_writes_into_a_mirror(store: CountingStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    for write in (probe_preconditions, lambda local: promote(local, 1, "prod"), lambda local: rollback(local, "prod")):
        with pytest.raises(NotPulled, match=f"--rollback.*change {store.url}"):
            write(LocalStore(mirror))


@pytest.mark.parametrize("vectors", [True, False])
def test_a_mirror_is_verified_for_what_it_holds(store: CountingStore, mirror: Path, vectors: bool) -> None:
    pull(store, mirror, "prod", tiers=[8], vectors=vectors)
    findings = audit(LocalStore(mirror))
    assert (findings.version, findings.problems) == (1, ())
    for stored in manifest_of(store, 1).index_shards_of("8"):
        spoil(mirror / stored.path)
    assert len(audit(LocalStore(mirror)).problems) == 2


def test_a_mirror_may_be_mirrored(store: CountingStore, mirror: Path, tmp_path: Path) -> None:
    pull(store, mirror, "prod", tiers=[4, 8], vectors=False)
    with pytest.raises(NotPulled, match=r"tiers 4, 8 without full vectors .* pull remote:"):
        pull(LocalStore(mirror), tmp_path / "second", "prod", tiers=[4])
    pull(LocalStore(mirror), tmp_path / "second", "prod", tiers=[4], vectors=False)
    assert answers(tmp_path / "second", tiers=["4"], rerank=False) == answers(mirror, tiers=["4"], rerank=False)


def test_a_channel_that_moves_on_while_its_version_is_retired(store: CountingStore, mirror: Path) -> None:
    class Moving(CountingStore):
        retiring = threading.Lock()

        def read_range(self, name: str, offset: int, length: int) -> bytes:
            with self.retiring:
                if (self.files.root / names.manifest(1)).exists():
                    move(self.files, 2)
                    (self.files.root / names.manifest(1)).unlink()
                    for stored in retired:
                        (self.files.root / stored).unlink(missing_ok=True)
            return super().read_range(name, offset, length)

    kept = {stored.path for stored in manifest_of(store, 2).objects()}
    retired = [stored.path for stored in manifest_of(store, 1).objects() if stored.path not in kept]
    assert retired
    moving = Moving(store.files.root)
    assert pull(moving, mirror, "prod").version == 2
    assert answers(mirror) == answers(store.files.root)


@pytest.mark.slow
@pytest.mark.parametrize("vectors", [True, False])
def test_a_pull_that_is_killed_at_any_step_is_finished_by_the_next(
    store: CountingStore, mirror: Path, vectors: bool
) -> None:
    """Whatever was done last, the mirror serves one whole version; then no whole object is fetched again."""
    pull(store.files, mirror, "prod", vectors=vectors)
    expected = {version: answers(store.files.root, version, rerank=vectors) for version in (1, 2)}
    move(store, 2)
    shutil.copytree(mirror, mirror.parent / "before")
    steps = [*range(1, 400, 13)]
    with dying(str(store.files.root), mirror, steps, vectors) as process:
        assert process.stdin
        assert process.stdout
        for step in steps:
            process.stdin.write("go\n")
            process.stdin.flush()
            ended = int(process.stdout.readline())
            assert ended in (0, DIED)
            with tierloom.open(mirror) as snapshot:
                served = snapshot.manifest.version
            assert answers(mirror, rerank=vectors) == expected[served], step
            here = {name: (mirror / name).stat().st_ino for name in files(mirror)}
            report = pull(store.files, mirror, "prod", vectors=vectors)
            assert answers(mirror, rerank=vectors) == expected[2]
            same = [
                name
                for name, inode in here.items()
                if name.startswith(("shards", "indexes", "deletes"))
                and (mirror / name).exists()
                and (mirror / name).stat().st_ino == inode
            ]
            assert report.kept_objects == len([name for name in same if name in _objects(store, 2)])
            if ended == 0:
                break
            shutil.rmtree(mirror)
            shutil.copytree(mirror.parent / "before", mirror)
        else:
            raise AssertionError("no pull was finished: try more steps")


def _objects(store: CountingStore, version: int) -> set[str]:
    return {stored.path for stored in manifest_of(store, version).objects()}


def test_a_disk_without_room_is_told_before_anything_is_fetched(store: CountingStore, tmp_path: Path) -> None:
    said = _on_small_disk(store, tmp_path, kilobytes=60)
    assert "the pull needs" in said
    assert "are free; free some space there, or choose a larger disk" in said


def test_a_disk_that_gets_full_breaks_nothing(store: CountingStore, mirror: Path, tmp_path: Path) -> None:
    """The limit of a file's size, which any process may set itself, stands for the quota of a user."""
    pull(store.files, mirror, "prod", tiers=["4"])
    before = answers(mirror, tiers=["4"])
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    move(store, 2)
    ended = _pull_apart(store.files.root, mirror, limit)
    assert ended.returncode == 1
    assert "free some space there" in ended.stderr
    assert answers(mirror, tiers=["4"]) == before
    assert pull(store.files, mirror, "prod", tiers=["4"]).version == 2


def _on_small_disk(store: CountingStore, folder: Path, kilobytes: int) -> str:
    disk = folder / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size={kilobytes}k none {disk} && exec "$0" "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("this system lets no ordinary process mount a small disk of its own")
    ended = _pull_apart(store.files.root, disk / "mirror", within=[*namespace, "sh", "-c", script])
    assert ended.returncode == 1
    return ended.stderr


def _pull_apart(
    store: Path, mirror: Path, before: str = "", within: list[str] | None = None
) -> "subprocess.CompletedProcess[str]":
    program = f"import sys\n{before}\nfrom pipelines.cli import main\nmain()"
    command = [*(within or []), sys.executable, "-c", program, "pull", str(store), str(mirror), "--channel", "prod"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_pulling_needs_no_beam(store: CountingStore, mirror: Path) -> None:
    ended = _pull_apart(store.files.root, mirror, "sys.modules['apache_beam'] = sys.modules['rich'] = None")
    assert ended.returncode == 0, ended.stderr
    assert "fetched" in ended.stdout
    assert answers(mirror) == answers(store.files.root)


@pytest.mark.engine
@pytest.mark.parametrize("vectors", [True, False])
def test_a_bucket_is_mirrored(made: Path, gcs_bucket: GcsBucket, mirror: Path, vectors: bool) -> None:
    for path in filter(Path.is_file, made.rglob("*")):
        name = path.relative_to(made).as_posix()
        if not name.startswith("."):
            gcs_bucket.put(name, path.read_bytes())
    bucket = open_store(gcs_bucket.url)
    report = pull(bucket, mirror, "prod", vectors=vectors)
    assert answers(mirror, rerank=vectors) == answers(made, rerank=vectors)
    move(bucket, 2)
    again = pull(bucket, mirror, "prod", vectors=vectors)
    assert (again.version, again.previous) == (2, 1)
    assert again.kept_objects > 0
    assert again.fetched_bytes < report.fetched_bytes * 3
    assert answers(mirror, rerank=vectors) == answers(made, 2, rerank=vectors)
    move_channel(bucket, "canary", 1, None)
    with pytest.raises(InputError, match="mirrors channel 'prod' of gs://"):
        pull(bucket, mirror, "canary")
