"""Whose turn is over neither begins a generation nor says that one is complete."""

from pathlib import Path

import msgspec
import pytest

from index_builder.reembedding.beginning import begin_generation
from index_builder.reembedding.completing import complete_generation
from tests.small_shards import make_collection
from tests.two_generations import NEW, OLD, generation, publish_both, rows_of
from tierloom.errors import TurnLost
from tierloom.manifest import KEY_UNITS
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path)
    make_collection(store, OLD)
    publish_both(store, generation(store, [rows_of("one")], OLD))
    return store


def over() -> None:
    raise TurnLost("another has taken over")


def test_it_begins_nothing(store: LocalStore) -> None:
    head = read_head(store)
    collection = msgspec.structs.replace(head.collection, checkpoint=NEW.fingerprint)
    with pytest.raises(TurnLost):
        begin_generation(store, NEW, collection, over)
    assert read_head(store) == head
    assert begin_generation(store, NEW, collection).version == head.version + 1


def test_it_completes_nothing(store: LocalStore) -> None:
    publish_both(store, other=generation(store, [rows_of("one")], NEW, reached=KEY_UNITS - 1))
    head = read_head(store)
    with pytest.raises(TurnLost):
        complete_generation(store, NEW.fingerprint, over)
    assert read_head(store) == head
    assert complete_generation(store, NEW.fingerprint).of(NEW.fingerprint).is_complete
