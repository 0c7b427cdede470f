from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tierloom import names
from tierloom.channel import Channel, Move, move_channel, read_channel, read_channels
from tierloom.errors import Corrupt, FormatTooNew, InputError, Malformed, RevisionMismatch, TierloomError
from tierloom.sealed import canonical, seal, unseal
from tierloom.stores.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_a_channel_nobody_made_is_none(store: LocalStore) -> None:
    assert read_channel(store, "prod") is None


def test_a_moved_channel_says_where_it_points(store: LocalStore) -> None:
    for serial, version in enumerate((3, 7, 3)):
        move_channel(store, "prod", version, read_channel(store, "prod"))
        seen = read_channel(store, "prod")
        assert seen is not None
        assert seen[0] == Channel(name="prod", version=version, serial=serial)


def test_a_channel_moved_meanwhile_is_left_alone(store: LocalStore) -> None:
    move_channel(store, "prod", 1, None)
    seen = read_channel(store, "prod")
    move_channel(store, "prod", 2, seen)
    for stale in (seen, None):
        with pytest.raises(RevisionMismatch, match="prod"):
            move_channel(store, "prod", 9, stale)
    current = read_channel(store, "prod")
    assert current is not None
    assert current[0].version == 2


def test_there_and_back_is_not_where_it_was(store: LocalStore) -> None:
    """Without the serial a stale writer would find the bytes it had read, and win."""
    move_channel(store, "prod", 1, None)
    seen = read_channel(store, "prod")
    move_channel(store, "prod", 2, seen)
    move_channel(store, "prod", 1, read_channel(store, "prod"))
    with pytest.raises(RevisionMismatch):
        move_channel(store, "prod", 5, seen)


def moved(store: LocalStore, version: int, action: Literal["promote", "rollback", "erase"] = "promote") -> Channel:
    seen = read_channel(store, "prod")
    previous = seen[0].version if seen else None
    move = Move(version, previous, action, "2026-01-01T00:00:00Z", "me@here")
    return move_channel(store, "prod", version, seen, move)


def test_its_history_moves_with_it(store: LocalStore) -> None:
    for version in (3, 7):
        assert moved(store, version) == channel_of(store)
    assert [(move.previous, move.version) for move in channel_of(store).moves] == [(None, 3), (3, 7)]


def test_the_newest_200_moves_are_kept(store: LocalStore) -> None:
    moves = tuple(Move(version, version - 1, "promote", "", "") for version in range(1, 201))
    store.create(names.channel("prod"), seal(Channel("prod", version=200, serial=199, moves=moves)))
    channel = moved(store, 201)
    assert [move.version for move in channel.moves] == [*range(2, 202)]
    assert versions(channel) == list(range(1, 202))
    assert channel.serial == 200


def test_a_history_that_is_cut_short_still_tells_what_was_served_before(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as many rollbacks as there are moves kept, their promotions are forgotten."""
    monkeypatch.setattr("tierloom.channel.KEPT_MOVES", 6)
    for version in range(10):
        moved(store, version)
    for version in (8, 7, 6, 5):
        assert versions(moved(store, version, "rollback"))[-1] == version
    assert versions(channel_of(store)) == [5]


def test_an_erasure_moves_it_on(store: LocalStore) -> None:
    for version in (1, 2):
        moved(store, version)
    moved(store, 5, "erase")
    assert versions(channel_of(store)) == [1, 2, 5]


def test_a_move_is_known_by_its_serial(store: LocalStore) -> None:
    for version in (3, 7, 5):
        moved(store, version)
    channel = channel_of(store)
    assert [move and move.version for move in map(channel.move_of, range(-1, 5))] == [None, 3, 7, 5, None, None]


def test_a_channel_that_does_not_point_where_it_was_moved_is_refused(store: LocalStore) -> None:
    channel = moved(store, 3)
    (store.root / names.channel("prod")).write_bytes(seal(msgspec.structs.replace(channel, version=4)))
    with pytest.raises(Malformed, match="points to version 4, its last move to version 3; put it back"):
        read_channel(store, "prod")


def test_every_channel_is_listed_by_name_and_nothing_else(store: LocalStore) -> None:
    for name in ("prod", "latest", "canary"):
        move_channel(store, name, 1, None)
    for name in ("channels/Odd.json", "channels/prod.json.bak", "channels/a/b.json"):
        store.create(name, b"mine")
    assert [channel.name for channel in read_channels(store)] == ["canary", "latest", "prod"]


def versions(channel: Channel) -> list[int]:
    return [served.version for served in channel.served]


def channel_of(store: LocalStore) -> Channel:
    seen = read_channel(store, "prod")
    assert seen is not None
    return seen[0]


@pytest.mark.parametrize("name", ["", "Prod", "../prod", "a/b", "-a", "a_b", "prod\n", "x" * 64, "é"])
def test_odd_names_are_refused(store: LocalStore, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a channel"):
        read_channel(store, name)
    with pytest.raises(InputError, match="cannot be a channel"):
        move_channel(store, name, 1, None)
    assert not store.root.exists()


def test_the_channel_of_another_name_is_refused(store: LocalStore) -> None:
    store.create(names.channel("prod"), seal(Channel(name="canary", version=1, serial=0)))
    with pytest.raises(Malformed, match=r"prod\.json: holds the channel 'canary'"):
        read_channel(store, "prod")


def test_a_newer_format_is_refused_with_the_cure(store: LocalStore) -> None:
    store.create(names.channel("prod"), canonical({"format": 2, "name": "prod"}))
    with pytest.raises(FormatTooNew, match=r"channels/prod\.json.*Upgrade"):
        read_channel(store, "prod")


def test_every_flipped_bit_is_refused() -> None:
    data = seal(Channel(name="prod", version=12, serial=3))
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(TierloomError, match="the channel"):
            unseal(bytes(flipped), Channel, "the channel", 1)


def test_a_channel_cut_short_is_refused(store: LocalStore) -> None:
    store.create(names.channel("prod"), seal(Channel(name="prod", version=1, serial=0))[:-1])
    with pytest.raises(Corrupt, match="prod"):
        read_channel(store, "prod")
