"""Runs that compare with one version and publish on top of another, whose shards and tiers upkeep has changed."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep.compaction import compact
from index_builder.upkeep.compaction_plan import Rules
from index_builder.upkeep.tiers import add_tiers, drop_tiers
from tests.embedders.endpoint import Endpoint
from tests.transforms.runs import (
    deletion_line,
    head_of,
    ingest_job,
    record_line,
    run_directly,
    small_collection,
    split_of_lines,
)
from tierloom.collection import Tier
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store

FOUR = Tier(name="4", dimensions=4)

UPKEEP: dict[str, Callable[[Store], object]] = {
    "a compaction": lambda store: compact(store, Rules(fan_out=2)),
    "a new tier": lambda store: add_tiers(store, [FOUR]),
    "a tier less": lambda store: drop_tiers(store, [8]),
    "a new tier, a compaction, a tier less": lambda store: (
        add_tiers(store, [FOUR]),
        compact(store, Rules(fan_out=2)),
        drop_tiers(store, [16]),
    ),
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "key")
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> str:
    """Three versions of four documents each, of three chunks each."""
    store = str(tmp_path / "store")
    small_collection(store, endpoint)
    for batch in range(3):
        ingest(
            store, tmp_path, [record_line(f"{batch}-{at}", 1, f"word{at}{batch}a word{at}{batch}b") for at in range(4)]
        )
    return store


def ingest(store: str, folder: Path, lines: list[str], base: int | None = None) -> None:
    path = folder / f"{len(list(folder.glob('*.jsonl')))}.jsonl"
    run_directly(ingest_job(store, base), [split_of_lines(path, lines)])


CHANGES = [
    record_line("0-0", 2, "word00a other"),
    record_line("1-1", 1, "word11a word11b"),
    record_line("2-2", 0, "older"),
    record_line("new", 1, "new"),
    deletion_line("0-3", 2),
]


@pytest.mark.parametrize("upkeep", UPKEEP.values(), ids=UPKEEP)
def test_a_run_over_what_upkeep_has_changed(
    store: str, tmp_path: Path, endpoint: Endpoint, upkeep: Callable[[Store], object]
) -> None:
    base, billed, canaries = head_of(store).version, endpoint.billed_tokens, endpoint.canary_tokens
    before = texts_of(store)
    upkeep(open_store(store))
    tiers = head_of(store).collection.tiers
    ingest(store, tmp_path, CHANGES, base)
    expected = {chunk: text for chunk, text in before.items() if chunk[0] not in ("0-0", "0-3")}
    expected |= {("0-0", 0): "word00a", ("0-0", 1): "other", ("new", 0): "new"}
    assert texts_of(store) == expected
    assert head_of(store).collection.tiers == tiers
    assert head_of(store).run.tokens == endpoint.billed_tokens - billed
    assert head_of(store).run.tokens - (endpoint.canary_tokens - canaries) == len("other") + len("new")
    assert audit(open_store(store)).problems == ()
    with tierloom.open(store) as snapshot:
        for tier in tiers:
            hits = snapshot.search([1.0] * 16, tier=tier.name, shortlist=1000, top=1000)
            assert Counter((hit.document_id, hit.ordinal) for hit in hits) == Counter(expected.keys())


def texts_of(store: str) -> dict[tuple[str, int], str]:
    with tierloom.open(store) as snapshot:
        return {(chunk.document_id, chunk.ordinal): chunk.text.strip() for chunk in snapshot.chunks()}
