"""Promotions, flips and rollbacks in any order against a plain list: a promotion puts on top, a rollback takes off;
where it crosses to another generation, that is served in the version that is served now, if it has it."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.small_shards import make_collection
from tests.two_generations import NEW, OLD, generation, publish_both, rows_of
from tierloom.channel import read_channel
from tierloom.errors import CheckpointError, InputError
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.stores.local import LocalStore

# The checkpoints of each version, that in front first.
_HAS = {
    1: (OLD.fingerprint,),
    2: (OLD.fingerprint, NEW.fingerprint),
    3: (OLD.fingerprint, NEW.fingerprint),
    4: (NEW.fingerprint, OLD.fingerprint),
    5: (NEW.fingerprint,),
}
_VERSIONS = st.sampled_from(sorted(_HAS))
# Every move is brought to the disk before the next: a thousand of them take minutes on a slow one.
_MEMORY = Path("/dev/shm")

Pair = tuple[int, str | None]


@cache
def _objects() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        make_collection(store, OLD, (4,), noise=True)
        old = generation(store, [rows_of("a", 3)], OLD, (4,))
        new = generation(store, [rows_of("a", 3)], NEW, (4,))
        for front, other in ((old, None), (old, new), (old, new), (new, old), (new, None)):
            publish_both(store, front, other)
        return {listed.name: store.read(listed.name) for listed in store.list("")}


def flippable_store(folder: Path) -> LocalStore:
    for name, data in _objects().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return LocalStore(folder)


class Channels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        self.stack: list[Pair] = []
        self.moves: list[tuple[str, Pair | None, Pair, str]] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize()
    def create(self) -> None:
        self.store = flippable_store(Path(self.folder.name))

    @rule(
        version=_VERSIONS,
        checkpoint=st.sampled_from([None, OLD.fingerprint, NEW.space.model]),
        message=st.text(st.characters(categories=["L", "N"]), max_size=5),
    )
    def promote(self, version: int, checkpoint: str | None, message: str) -> None:
        before = self.stack[-1] if self.stack else None
        chosen = NEW.fingerprint if checkpoint == NEW.space.model else checkpoint
        if chosen is not None and chosen not in _HAS[version]:
            with pytest.raises(CheckpointError, match=f"version {version} has no generation"):
                promote(self.store, version, "prod", message, checkpoint=checkpoint)
            return
        like_now = before[1] if before and before[1] in _HAS[version] else _HAS[version][0]
        wanted = version, chosen or like_now
        moved = promote(self.store, version, "prod", message, checkpoint=checkpoint)
        assert (moved.move is None) == (before == wanted)
        if before != wanted:
            self.stack.append(wanted)
            self.moves.append(("promote", before, wanted, message))

    @rule()
    def rollback(self) -> None:
        if len(self.stack) < 2:
            with pytest.raises(InputError, match=r"none before|no channel"):
                rollback(self.store, "prod")
            return
        back, before = self.stack[-2:]
        flips = back[1] != before[1]
        wanted = (before[0], back[1]) if flips and back[1] in _HAS[before[0]] else back
        moved = rollback(self.store, "prod", "back")
        assert any("as it was then" in doubt for doubt in moved.doubts) == (
            flips and wanted == back != (before[0], back[1])
        )
        self._take_off(wanted)
        self.moves.append(("rollback", before, wanted, "back"))

    @rule(to=_VERSIONS)
    def rollback_to(self, to: int) -> None:
        before = self.stack[-1] if self.stack else None
        named = [pair for pair in self.stack[:-1] if pair[0] == to and pair != before]
        if not named:
            with pytest.raises(InputError, match=r"none before|no channel|did not serve|serves version . already"):
                rollback(self.store, "prod", to=to)
            return
        rollback(self.store, "prod", to=to)
        self._take_off(named[-1])
        self.moves.append(("rollback", before, named[-1], ""))

    def _take_off(self, wanted: Pair) -> None:
        self.stack.pop()
        if wanted not in self.stack:
            self.stack[-1] = wanted
        while self.stack[-1] != wanted:
            self.stack.pop()

    @invariant()
    def tells_where_it_points_and_how_it_came_there(self) -> None:
        seen = read_channel(self.store, "prod") if self.moves else None
        if seen is None:
            assert not self.moves
            return
        channel = seen[0]
        assert [channel.serves, *channel.served] == [self.stack[-1], *self.stack]
        assert [(move.action, move.before, move.serves, move.message) for move in channel.moves] == self.moves
        assert channel.serial == len(self.moves) - 1


TestChannels = Channels.TestCase
TestChannels.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
