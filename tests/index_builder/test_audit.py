"""`audit` looks at everything that both generations of a version name."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from index_builder.audit import audit
from index_builder.upkeep.naming import Ids
from index_builder.upkeep.survey import Surveyor
from tests.small_shards import with_dead
from tests.two_generations import NEW, OLD, publish_both, two_generations
from tierloom import names
from tierloom.manifest import DocumentCounts, Manifest
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    two_generations(store)
    return store


def vectors(manifest: Manifest) -> str:
    return manifest.vector_shards[0].path


def tier(manifest: Manifest) -> str:
    return manifest.index_shards[0].path


def checkpoint(manifest: Manifest) -> str:
    return names.checkpoint(manifest.checkpoint)


def test_a_sound_version_of_two_generations_has_no_problem(store: LocalStore) -> None:
    findings = audit(store)
    head = read_head(store)
    assert findings.problems == ()
    assert findings.objects == len(head.objects()) + 3


@pytest.mark.parametrize("generation", [OLD.fingerprint, NEW.fingerprint])
@pytest.mark.parametrize("of", [vectors, tier, checkpoint])
def test_damage_in_either_is_found(store: LocalStore, generation: str, of: Callable[[Manifest], str]) -> None:
    name = of(read_head(store).of(generation))
    path = store.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (problem,) = audit(store).problems
    assert name in problem


def test_documents_that_do_not_add_up_in_the_other_are_told(store: LocalStore) -> None:
    other = read_head(store).other
    assert other is not None
    publish_both(store, other=msgspec.structs.replace(other, documents=DocumentCounts(documents_in=3)))
    (problem,) = audit(store).problems
    assert "documents do not add up" in problem


def test_what_was_made_of_a_document_is_found_in_both_generations(store: LocalStore) -> None:
    """A survey knows of index shards and deletion bitmaps by the shards that they were made of."""
    other = read_head(store).other
    assert other is not None
    dead = with_dead(store, other.vector_shards[0], [3])
    head = publish_both(store, other=msgspec.structs.replace(other, vector_shards=(dead,)))
    survey = Surveyor(store, Ids(frozenset({"three-7"}))).survey()
    for generation in head.generations:
        made = {generation.vector_shards[0].path, *(index.path for index in generation.index_shards)}
        assert made <= survey.tainted
    assert dead.deletes
    assert dead.deletes.path in survey.tainted
    assert survey.versions == {3, 4}
