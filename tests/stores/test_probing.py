from pathlib import Path

import pytest

from tierloom.errors import PreconditionsIgnored, StoreError
from tierloom.stores.local import LocalStore
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Listed


class Overwriting(LocalStore):
    """A folder as a synchronising mount may show it: the last writer wins."""

    def create(self, name: str, data: bytes) -> None:
        (self.scratch().parent / name).parent.mkdir(exist_ok=True)
        (self.root / name).write_bytes(data)


class Forgetful(LocalStore):
    """The second creation is refused, and takes the place of the first all the same."""

    def create(self, name: str, data: bytes) -> None:
        try:
            super().create(name, data)
        finally:
            (self.root / name).write_bytes(data)


class Undeletable(LocalStore):
    """As a bucket where this writer has no right to delete."""

    def remove(self, listed: Listed) -> bool:
        raise StoreError("403 Forbidden")


def test_a_sound_store_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("a", b"1")
    probe_preconditions(store)
    assert [listed.name for listed in store.list("")] == ["a"]


@pytest.mark.parametrize("kind", [Overwriting, Forgetful])
def test_a_store_where_the_second_writer_wins_is_refused(tmp_path: Path, kind: type[LocalStore]) -> None:
    with pytest.raises(PreconditionsIgnored, match=f"{tmp_path} lets an object be replaced .*; use a folder"):
        probe_preconditions(kind(tmp_path))
    assert list(LocalStore(tmp_path).list("")) == []


def test_a_writer_that_may_not_delete_passes(tmp_path: Path) -> None:
    probe_preconditions(Undeletable(tmp_path))
