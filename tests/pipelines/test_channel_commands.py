"""The commands that move channels and tell where they point."""

import json
from pathlib import Path

import pytest

from tests.measured import gate_of, measured_store, publish_measured
from tests.pipelines.command_line import Finished, ok, run
from tests.small_shards import CHECKPOINT
from tierloom.moving import mover
from tierloom.stores.local import LocalStore

MODEL = f"small-test-model ({CHECKPOINT.fingerprint[:8]})"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return measured_store(tmp_path / "store")


def promote(store: LocalStore, version: object, *options: object) -> Finished:
    return run("promote", store.root, version, "--channel", "prod", *options)


def rollback(store: LocalStore, *options: object) -> Finished:
    return run("rollback", store.root, "--channel", "prod", *options)


def test_a_channel_goes_there_and_back(store: LocalStore) -> None:
    assert ok(promote(store, 2)).out == "prod serves version 2; before: nothing\n"
    assert ok(promote(store, "latest")).out == "prod serves version 4; before: version 2\n"
    assert ok(promote(store, 4)).out == "prod serves version 4 already\n"
    assert ok(rollback(store)).out == "prod serves version 2; before: version 4\n"
    assert "knows of none before" in rollback(store).error


def test_moves_are_told_as_json(store: LocalStore) -> None:
    moved = promote(store, 2, "--message", "why", "--json").json
    assert (moved["channel"], moved["version"], moved["moved"]) == ("prod", 2, True)
    assert (moved["move"]["message"], moved["move"]["by"], moved["move"]["previous"]) == ("why", mover(), None)
    served = {"channel": "prod", "version": 2, "checkpoint": CHECKPOINT.fingerprint}
    assert promote(store, 2, "--json").json == {**served, "moved": False, "move": None}
    ok(promote(store, 3))
    ok(promote(store, 4))
    assert rollback(store, "--to", 2, "--from", 4, "--json").json["move"]["action"] == "rollback"
    assert "prod serves version 2 now (rollback by" in rollback(store, "--from", 4).error


def test_a_version_below_the_floor_is_refused_and_forced(store: LocalStore) -> None:
    version = publish_measured(store, gate=gate_of(store, {"4": None, "8": 50}))
    assert (
        f"version {version} is not promoted to prod: tier 4 reaches a recall of 0.910" in promote(store, version).error
    )
    forced = ok(promote(store, version, "--force", "-m", "the other one is worse"))
    assert forced.err.startswith("warning: forced, although tier 4 reaches a recall of 0.910")
    told = ok(run("channels", store.root)).out
    assert "the other one is worse" in told
    assert "forced, although tier 4 reaches a recall of 0.910" in told


@pytest.mark.parametrize("version", ["-1", "first", "1.5", "٣", "9" * 13, ""])
def test_what_is_no_version_is_refused(store: LocalStore, version: str) -> None:
    refused = run("promote", store.root, "--channel", "prod", "--", version)
    assert refused.status == 2
    assert "is no version; write its number, or latest" in refused.err


def test_channels_tell_where_they_point_and_who_moved_them(store: LocalStore) -> None:
    for version in (1, 2, 3, 4, 1, 2, 3):
        ok(promote(store, version, "--message", f"number {version}"))
    ok(run("promote", store.root, 2, "--channel", "canary"))
    lines = ok(run("channels", store.root)).out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        f"canary: version 2 of {MODEL}",
        f"latest: version 4 of {MODEL}, as of every publish",
        f"prod: version 3 of {MODEL}",
    ]
    newest = next(line for line in lines if "2 -> 3" in line).split()
    assert (newest[1], newest[2:5], newest[5:]) == ("promote", ["2", "->", "3"], [mover(), "number", "3"])
    assert lines[-1] == "  and 2 earlier ones: --channel prod"
    whole = ok(run("channels", store.root, "--channel", "prod")).out.splitlines()
    assert len(whole) == 8
    assert "  - -> 1" in whole[-1]
    (prod,) = map(json.loads, ok(run("channels", store.root, "--channel", "prod", "--json")).out.splitlines())
    assert [move["version"] for move in prod["moves"]] == [1, 2, 3, 4, 1, 2, 3]
    assert "no channel 'other'" in run("channels", store.root, "--channel", "other").error


def test_a_collection_without_channels_of_its_own_has_latest(store: LocalStore) -> None:
    assert ok(run("channels", store.root)).out == f"latest: version 4 of {MODEL}, as of every publish\n"


def test_a_channel_that_was_edited_by_hand_is_told(store: LocalStore) -> None:
    ok(promote(store, 2))
    path = store.root / "channels/prod.json"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":1'))
    for refused in (promote(store, 3), rollback(store), run("channels", store.root)):
        assert refused.error.startswith("channels/prod.json: states sha256")
        assert "promote a version anew" in refused.error


def test_show_names_the_channels_of_a_version(store: LocalStore) -> None:
    ok(promote(store, 2))
    ok(run("promote", store.root, 4, "--channel", "canary"))
    told = [
        [
            line.split(maxsplit=1)[1]
            for line in ok(run("show", store.root, version)).out.splitlines()
            if line.startswith("  channels")
        ]
        for version in (1, 2, 4)
    ]
    assert told == [[], ["prod"], ["latest, canary"]]
