"""Deletions that were remembered before a second generation began: they hold in it, and newer events undo them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import KEY, KEY_VARIABLE, declare, head_of, init, ok, run, write_records
from tierloom.manifest import DocumentCounts

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Documents a, d and f live in both generations; b, c and e were deleted before the second one began, as was d,
    which came back."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with Endpoint(dimensions=16) as endpoint:
        store = tmp_path / "store"
        init(store, "wordllama", tiers="64")
        ingest(store, 1, {each: f"text of {each}" for each in "abcdef"})
        ingest(store, 2, dict.fromkeys("bcde"))
        ingest(store, 3, {"d": "d again"})
        ok(run("reembed", store, "--model", declare(tmp_path, endpoint), "--tiers", "8,16"))
        yield store


def ingest(store: Path, sequence: int, texts: dict[str, str | None]) -> None:
    """Events of these documents; those without a text are deleted."""
    records = [
        {"id": each, "sequence": sequence} | ({"deleted": True} if text is None else {"text": text})
        for each, text in texts.items()
    ]
    ok(run("ingest", store, write_records(store.parent / f"{sequence}.jsonl", records)))


def counts(store: Path) -> list[DocumentCounts]:
    return [generation.documents for generation in head_of(store).generations]


def test_newer_events_undo_them_in_both(store: Path) -> None:
    _, second = counts(store)
    # Four deletions were remembered, and that of d was undone when d was copied.
    assert second == DocumentCounts(documents_in=7, live=3, superseded=1, deleted=3)
    ingest(store, 4, {"b": "b again", "c": None})
    first, second = counts(store)
    assert (first.live, first.deleted) == (second.live, second.deleted) == (4, 2)
    assert first.adds_up
    assert second.adds_up


def test_who_is_erased_after_being_deleted_is_counted_once(store: Path) -> None:
    ok(run("erase", store, "b", "d", "--force"))
    first, second = counts(store)
    assert (first.live, first.deleted) == (second.live, second.deleted) == (2, 4)
    assert first.adds_up
    assert second.adds_up
