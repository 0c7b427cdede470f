"""What a run finished before it died is found again, whole, and nothing is doubled or paid for twice."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tierloom
from tests.embedders.endpoint import Endpoint, Reply, error
from tests.transforms.runs import (
    head_of,
    ingest_job,
    record_line,
    run_directly,
    small_collection,
    split_of_lines,
)
from tierloom import names
from tierloom.errors import Malformed
from tierloom.shards.mapped import MappedShard
from tierloom.stores.local import LocalStore
from transforms.elements import Place
from transforms.reading.splits import Split
from transforms.reuse import finished_shard


class Killed(BaseException):
    """The process ends here."""


class KillAt:
    """Ends the process before or after the n-th write to a store; counts the writes when n is never reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int | None = None, after: bool = False) -> None:
        self.writes = 0
        self._at, self._after = at, after
        for method in ("create", "create_from_file", "swap"):
            monkeypatch.setattr(LocalStore, method, self._wrapped(getattr(LocalStore, method)))

    def _wrapped(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            number, self.writes = self.writes, self.writes + 1
            if number == self._at and not self._after:
                raise Killed
            try:
                return write(*arguments)
            finally:
                if number == self._at:
                    raise Killed

        return wrapped


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    def script(asked: Any) -> Reply | None:
        return error(400, "no") if any("poison" in text for text in asked.inputs) else None

    with Endpoint(16, script) as served:
        yield served


def splits(folder: Path) -> list[Split]:
    """Three splits of four documents each, with one that is dead, one unreadable, and one that comes twice."""
    groups = [[f"d{group}{n}" for n in range(4)] for group in range(3)]
    lines = [[record_line(id_, 1, f"{id_} {id_}") for id_ in ids] for ids in groups]
    lines[0].append(record_line("dead", 1, "poison"))
    lines[1].append("{broken\n")
    lines[2].append(record_line("d00", 2, "newer"))
    return [split_of_lines(folder / f"{n}.jsonl", each) for n, each in enumerate(lines)]


EXPECTED = {f"d{group}{n}": 1 for group in range(3) for n in range(4)} | {"d00": 2}


def live(store: str) -> Counter[tuple[str, int]]:
    with tierloom.open(store) as snapshot:
        return Counter((chunk.document_id, chunk.sequence) for chunk in snapshot.chunks())


def in_tier(store: str, tier: int) -> Counter[str]:
    with tierloom.open(store) as snapshot:
        hits = snapshot.search([1.0] * 16, tier=tier, shortlist=1000, top=1000)
    return Counter(hit.document_id for hit in hits)


@pytest.mark.slow
def test_a_run_that_dies_at_any_write_is_finished_by_the_next(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = splits(tmp_path)
    with monkeypatch.context() as patched:
        store = str(tmp_path / "counted")
        small_collection(store, endpoint, block_chunks=3, shard_rows=6)
        counted = KillAt(patched)
        run_directly(ingest_job(store), plan)
    assert counted.writes >= 15
    for at, after in itertools.product(range(counted.writes), (False, True)):
        store = str(tmp_path / f"{at}-{after}")
        small_collection(store, endpoint, block_chunks=3, shard_rows=6)
        with monkeypatch.context() as patched:
            KillAt(patched, at, after)
            with pytest.raises(Killed):
                run_directly(ingest_job(store), plan)
        report = run_directly(ingest_job(store), plan)
        head = head_of(store)
        assert (head.version, head.documents.live, head.documents.dead_lettered) == (1, 12, 2)
        assert head.documents.adds_up
        assert report.record.documents.adds_up
        assert live(store) == Counter(EXPECTED.items())
        assert in_tier(store, 8) == in_tier(store, 16) == Counter(EXPECTED.keys())


def test_what_was_stored_is_not_paid_for_again(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plan = str(tmp_path / "store"), splits(tmp_path)
    small_collection(store, endpoint, block_chunks=3, shard_rows=6)
    with monkeypatch.context() as patched:
        # The manifest is among the last things written: every block is stored by then.
        monkeypatch.setattr("transforms.publishing.publisher.commit", _die)
        with pytest.raises(Killed):
            run_directly(ingest_job(store), plan)
        patched.undo()
    endpoint.asked.clear()
    monkeypatch.undo()
    report = run_directly(ingest_job(store), plan)
    # A block of which nothing was stored is asked for again.
    assert {text for asked in endpoint.asked for text in asked.documents} <= {"poison", "hello", "newer"}
    assert report.record.found_chunks + report.record.embedded_chunks == 13
    assert report.record.found_chunks >= 12


def _die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("column", ["vector", "prefix"])
def test_a_finished_shard_that_was_damaged_is_refused(tmp_path: Path, endpoint: Endpoint, column: str) -> None:
    store = str(tmp_path / "store")
    small_collection(store, endpoint)
    run_directly(ingest_job(store), [split_of_lines(tmp_path / "r.jsonl", [record_line("a", 1, "alpha")])])
    [stored] = head_of(store).vector_shards
    path = Path(store) / stored.path
    payload = np.ascontiguousarray(MappedShard(path, stored.path).gather(column, np.array([0]))).tobytes()
    whole = path.read_bytes()
    assert whole.count(payload) == 1
    at = whole.index(payload) + 3
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
    digest = path.name.removesuffix(".parquet")
    assert names.vector_shard(digest) == stored.path
    with pytest.raises(Malformed, match=stored.path):
        finished_shard(Place(0, 0), digest, LocalStore(Path(store)))
