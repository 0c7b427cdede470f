"""Documents are found by their keys, also where keys meet: against a plain scan of the rows."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_shards import Row, store_shard, with_dead
from tierloom.column_files import ColumnFiles
from tierloom.document import document_key
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import find_documents, live_sequences
from tierloom.stores.local import LocalStore

_IDS = "abcdef"
_ROWS = st.lists(st.builds(Row, st.sampled_from(_IDS), st.integers(0, 3), st.integers(-2, 2)), min_size=1, max_size=12)
_SHARDS = st.lists(st.tuples(_ROWS, st.sets(st.integers(0, 11))), min_size=1, max_size=3)


def colliding(document_id: str) -> int:
    """Keys of which several documents share each."""
    return document_key(document_id) % 2


@settings(deadline=None)
@given(shards=_SHARDS, wanted=st.sets(st.sampled_from(_IDS)))
def test_what_lives_of_a_document_is_found(shards: list[tuple[list[Row], set[int]]], wanted: set[str]) -> None:
    with TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        files = ColumnFiles(store)
        live, expected = [], dict[str, list[tuple[int, int, int]]]()
        for position, (rows, dead) in enumerate(shards):
            ordered = sorted(rows, key=lambda row: (colliding(row.document_id), row.ordinal))
            gone = sorted(dead.intersection(range(len(rows))))
            live.append(LiveShard(with_dead(store, store_shard(store, rows, key_of=colliding), gone), files))
            for at, row in enumerate(ordered):
                if at not in gone and row.document_id in wanted:
                    expected.setdefault(row.document_id, []).append((position, at, row.sequence))
        keys = {document_id: colliding(document_id) for document_id in wanted}
        assert find_documents(live, keys) == expected
        assert live_sequences(live, keys) == {id_: max(at[2] for at in places) for id_, places in expected.items()}
