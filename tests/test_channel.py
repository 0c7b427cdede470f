from pathlib import Path

import pytest

from tierloom import names
from tierloom.channel import Channel, move_channel, read_channel
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
