"""The commands that look after old versions."""

from pathlib import Path

import pytest

from pipelines.commands.options import Duration, duration
from tests.committer import commit_one
from tests.pipelines.command_line import init, ok, run
from tierloom.lease import leases
from tierloom.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Six versions."""
    store = LocalStore(tmp_path / "store")
    init(store.root, "wordllama", "--versions", "2", "--age", "0s", "--deletions", "30d", tiers="64")
    for at in range(5):
        commit_one(store, str(at))
    return store


def test_a_collection_has_the_retention_it_was_made_with(store: LocalStore) -> None:
    shown = ok(run("retention", store.root)).out
    assert [line.split() for line in shown.splitlines()] == [
        ["deletions", "remembered", "for", "30d"],
        ["versions", "the", "newest", "2", "are", "kept"],
        ["age", "versions", "younger", "than", "0s", "are", "kept"],
    ]


def test_the_retention_is_changed_member_by_member(store: LocalStore) -> None:
    assert run("retention", store.root, "--age", "36h", "--json").json == {
        "deletions_seconds": 30 * 86_400,
        "versions": 2,
        "versions_seconds": 36 * 3600,
    }


@pytest.mark.parametrize("given", ["--age=1w", "--age=-1d", "--age=", "--deletions=0d", "--versions=0", "--age=5"])
def test_what_is_no_retention_is_refused(store: LocalStore, given: str) -> None:
    refused = run("retention", store.root, given)
    assert refused.status == 2
    assert given.partition("=")[0] in refused.err


def test_garbage_is_told_before_it_is_collected(store: LocalStore) -> None:
    dry = ok(run("gc", store.root, "--dry-run")).out
    assert "would remove  manifests/000000000003.json" in dry
    assert "3 kept (0, 4-5), 3 retired" in dry
    collected = run("gc", store.root, "--json").json
    assert (collected["retained"], collected["retired"], collected["dry_run"]) == ([0, 4, 5], 3, False)
    assert collected["removed"]["manifests"]["objects"] == 3
    assert collected["bytes"] == sum(kind["bytes"] for kind in collected["removed"].values()) > 0
    assert "3 kept (0, 4-5), 0 retired" in ok(run("gc", store.root)).out


def test_history_tells_each_version_on_a_line(store: LocalStore) -> None:
    header, *lines = ok(run("history", store.root)).out.splitlines()
    assert header.split()[:4] == ["version", "created", "by", "added"]
    assert [line.split()[0] for line in lines] == ["5", "4", "3", "2", "1", "0"]
    assert lines[0].endswith("latest")
    assert lines[-1].split()[2] == "init"
    (newest,) = ok(run("history", store.root, "--json", "--last", "1")).out.splitlines()
    assert '"version":5' in newest


def test_retired_versions_are_told_by_show(store: LocalStore) -> None:
    ok(run("gc", store.root))
    assert "version 2 of" in run("show", store.root, "2").error
    assert "was retired; there still are 0, 4-5" in run("verify", store.root, "2").error
    assert "no version 6; the newest is 5" in run("show", store.root, "6").error
    assert list(leases(store)) == []


@pytest.mark.parametrize(("seconds", "said"), [(0, "0s"), (90, "90s"), (3600, "1h"), (86_400 * 7, "7d"), (5400, "90m")])
def test_durations_are_said_as_they_are_read(seconds: int, said: str) -> None:
    assert duration(seconds) == said
    assert Duration().convert(said, None, None).total_seconds() == seconds
