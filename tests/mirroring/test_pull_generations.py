"""Mirrors of a collection with two generations: each holds what is served, and flips in one step."""

import shutil
from pathlib import Path

import pytest

import tierloom
from index_builder.audit import audit
from index_builder.comparing.compare import compare
from index_builder.reporting.facts import gather
from tests.mirroring.mirrored import files, spoil
from tests.two_generations import NEW, OLD, asked_generations, query_vector, rows_of, two_generations
from tierloom import names
from tierloom.channel import read_channel
from tierloom.errors import CheckpointError, NotPulled
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import read_mirror
from tierloom.mirroring.pulling import pull, roll_back
from tierloom.mirroring.wanted import wanted
from tierloom.promoting import promote
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head, read_manifest

BACK, FLIPPED = OLD.fingerprint, NEW.fingerprint


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """`prod` serves the old generation of version 3."""
    store = LocalStore(tmp_path / "store")
    two_generations(store)
    promote(store, 3, "prod")
    return store


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def flip(store: LocalStore, checkpoint: str = FLIPPED) -> None:
    promote(store, 3, "prod", checkpoint=checkpoint)


def objects(manifest: Manifest, checkpoint: str) -> set[str]:
    """What a mirror needs of a generation, its checkpoint too."""
    turned = manifest.of(checkpoint)
    tiers = [tier.name for tier in turned.collection.tiers]
    return {names.checkpoint(checkpoint), *(stored.path for stored in wanted(turned, tiers).objects)}


def served(mirror: Path) -> tuple[int, str | None]:
    seen = read_channel(LocalStore(mirror), "prod")
    assert seen is not None
    return seen[0].serves


def documents(mirror: Path) -> set[str]:
    with tierloom.open(mirror) as snapshot:
        return {hit.document_id for hit in snapshot.search([1.0] * 32, top=100, shortlist=100)}


def test_only_what_is_served_is_pulled(store: LocalStore, mirror: Path) -> None:
    report = pull(store, mirror, "prod")
    assert (report.version, report.checkpoint, report.model) == (3, BACK, OLD.space.model)
    own = {names.MIRROR, names.channel("prod"), names.manifest(3)}
    assert files(mirror) == own | objects(read_manifest(store, 3), BACK)
    assert LocalStore(mirror).read(names.manifest(3)) == store.read(names.manifest(3))
    assert served(mirror) == (3, BACK)


def test_a_flip_is_pulled_and_taken_back(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    flip(store)
    report = pull(store, mirror, "prod")
    assert (report.version, report.checkpoint, report.previous, report.previous_checkpoint) == (3, FLIPPED, 3, BACK)
    assert LocalStore(mirror).read(names.manifest(3)) == store.read(names.manifest(3))
    manifest = read_manifest(store, 3)
    assert objects(manifest, BACK) | objects(manifest, FLIPPED) <= files(mirror)
    shutil.rmtree(store.root)
    for left, now in ((FLIPPED, BACK), (BACK, FLIPPED), (FLIPPED, BACK)):
        assert roll_back(mirror) == ((3, left), (3, now))
        assert served(mirror) == (3, now)
        with tierloom.open(mirror) as snapshot:
            assert snapshot.checkpoint.fingerprint == now
            assert snapshot.search([1.0] * 32).checkpoint == now
        assert documents(mirror) == {row.document_id for row in rows_of("three")}
        assert audit(LocalStore(mirror)).problems == ()


def test_what_is_not_served_any_more_goes(store: LocalStore, mirror: Path) -> None:
    promote(store, 2, "prod")
    pull(store, mirror, "prod")
    for checkpoint in (BACK, FLIPPED):
        flip(store, checkpoint)
        pull(store, mirror, "prod")
    manifest = read_manifest(store, 3)
    own = {names.MIRROR, names.channel("prod"), names.manifest(3)}
    assert files(mirror) == own | objects(manifest, BACK) | objects(manifest, FLIPPED)


def test_a_flip_back_brings_nothing(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    flip(store)
    pull(store, mirror, "prod")
    flip(store, BACK)
    report = pull(store, mirror, "prod")
    assert (report.checkpoint, report.fetched_objects) == (BACK, 0)


def test_verify_looks_at_everything_that_a_mirror_holds(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    flip(store)
    pull(store, mirror, "prod")
    both = audit(LocalStore(mirror))
    assert both.problems == ()
    for checkpoint in (BACK, FLIPPED):
        path = mirror / read_manifest(store, 3).of(checkpoint).index_shards[0].path
        whole = path.read_bytes()
        spoil(path)
        (problem,) = audit(LocalStore(mirror)).problems
        assert path.name in problem
        path.write_bytes(whole)


def test_a_follower_of_a_mirror_flips_with_it(tmp_path: Path, mirror: Path) -> None:
    store = LocalStore(tmp_path / "store")
    asked_generations(store, OLD, NEW)
    promote(store, 1, "prod")
    pull(store, mirror, "prod")
    with tierloom.follow(mirror, poll=False) as follower:
        assert follower.search(query_vector(2, OLD), checkpoint=BACK).checkpoint == BACK
        promote(store, 1, "prod", checkpoint=FLIPPED)
        pull(store, mirror, "prod")
        assert follower.check(), follower.last_error
        answer = follower.search(query_vector(2, NEW), checkpoint=FLIPPED)
        assert answer[0].score > 0.99
        roll_back(mirror)
        assert follower.check()
        assert follower.checkpoint == BACK


def test_a_generation_is_pulled_by_name(store: LocalStore, mirror: Path) -> None:
    report = pull(store, mirror, "prod", checkpoint=NEW.space.model)
    assert (report.version, report.checkpoint) == (3, FLIPPED)
    with pytest.raises(CheckpointError, match="no generation 'other'"):
        pull(store, mirror, "prod", checkpoint="other")
    assert served(mirror) == (3, FLIPPED)


@pytest.mark.parametrize("checkpoint", [BACK, FLIPPED])
def test_another_version_is_pulled_by_the_checkpoint_that_is_served(
    store: LocalStore, mirror: Path, checkpoint: str
) -> None:
    flip(store, checkpoint)
    assert pull(store, mirror, "prod", version=2).checkpoint == checkpoint
    assert pull(store, mirror, "prod", version=1).checkpoint == BACK


def test_of_the_latest_version_the_front_is_pulled(store: LocalStore, mirror: Path) -> None:
    assert pull(store, mirror).checkpoint == BACK
    promote(store, "latest", "latest", checkpoint=FLIPPED)
    report = pull(store, mirror)
    assert (report.version, report.checkpoint, report.previous_checkpoint) == (4, FLIPPED, BACK)
    with tierloom.open(mirror) as snapshot:
        assert (snapshot.manifest.version, snapshot.checkpoint) == (4, NEW)


def test_what_was_not_pulled_is_refused_with_the_cure(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    said = rf"checkpoint {FLIPPED} of version 3 was not pulled into .*--channel prod --checkpoint {FLIPPED}"
    with pytest.raises(NotPulled, match=said):
        tierloom.open(mirror, checkpoint=FLIPPED)
    with pytest.raises(NotPulled, match=rf"is a mirror, and has nothing of version 3 of checkpoint {FLIPPED}"):
        pull(LocalStore(mirror), mirror.parent / "second", "prod", checkpoint=FLIPPED)


def test_a_mirror_is_reported_and_compared_by_what_it_has(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod", checkpoint=FLIPPED)
    local = LocalStore(mirror)
    facts = gather(local)
    assert (facts.head.checkpoint, facts.checkpoint, facts.behind) == (FLIPPED, NEW, None)
    assert read_head(local).checkpoint == FLIPPED
    with pytest.raises(NotPulled, match=f"checkpoint {BACK} of version 3 was not pulled"):
        compare(local, read_head(local))
    pull(store, mirror, "prod", checkpoint=BACK)
    assert compare(local, read_head(local)).documents == compare(store, read_head(store)).documents


def test_a_mirror_is_mirrored_by_what_it_serves(store: LocalStore, mirror: Path) -> None:
    pull(store, mirror, "prod")
    flip(store)
    pull(store, mirror, "prod")
    second = mirror.parent / "second"
    assert pull(LocalStore(mirror), second, "prod").checkpoint == FLIPPED
    assert documents(second) == documents(mirror)


def test_without_full_vectors_each_generation_has_its_own_holes(store: LocalStore, mirror: Path) -> None:
    for checkpoint in (BACK, FLIPPED):
        flip(store, checkpoint)
        pull(store, mirror, "prod", tiers=["8"], vectors=False)
        with tierloom.open(mirror) as snapshot:
            assert snapshot.search([1.0] * 32).tier == "8"
            assert not snapshot.has_vectors
    known = read_mirror(LocalStore(mirror))
    assert known is not None
    assert len(known.hollow) == 2
    assert audit(LocalStore(mirror)).problems == ()
