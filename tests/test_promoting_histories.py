"""Promotions and rollbacks in any order against a plain list: a promotion puts on top, a rollback takes off."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.measured import measured_store
from tierloom.channel import read_channel
from tierloom.errors import InputError
from tierloom.promoting import promote, rollback

_VERSIONS = st.integers(1, 4)
# Every move is brought to the disk before the next: a thousand of them take minutes on a slow one.
_MEMORY = Path("/dev/shm")


class Channels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        self.stack: list[int] = []
        self.moves: list[tuple[str, int | None, int, str]] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize()
    def create(self) -> None:
        self.store = measured_store(Path(self.folder.name))

    @rule(version=_VERSIONS, message=st.text(st.characters(categories=["L", "N"]), max_size=5))
    def promote(self, version: int, message: str) -> None:
        before = self.stack[-1] if self.stack else None
        moved = promote(self.store, version, "prod", message)
        assert (moved.move is None) == (before == version)
        if before != version:
            self.stack.append(version)
            self.moves.append(("promote", before, version, message))

    @rule()
    def rollback(self) -> None:
        if len(self.stack) < 2:
            with pytest.raises(InputError, match=r"none before|no channel"):
                rollback(self.store, "prod")
            return
        rollback(self.store, "prod", "back")
        before = self.stack.pop()
        self.moves.append(("rollback", before, self.stack[-1], "back"))

    @rule(to=_VERSIONS)
    def rollback_to(self, to: int) -> None:
        if to not in self.stack[:-1] or to == self.stack[-1]:
            with pytest.raises(InputError, match=r"none before|no channel|did not serve|serves version . already"):
                rollback(self.store, "prod", to=to)
            return
        rollback(self.store, "prod", to=to)
        before = self.stack.pop()
        while self.stack[-1] != to:
            self.stack.pop()
        self.moves.append(("rollback", before, to, ""))

    @invariant()
    def tells_where_it_points_and_how_it_came_there(self) -> None:
        seen = read_channel(self.store, "prod") if self.moves else None
        if seen is None:
            assert not self.moves
            return
        channel = seen[0]
        assert (channel.version, channel.served) == (self.stack[-1], tuple(self.stack))
        assert [(move.action, move.previous, move.version, move.message) for move in channel.moves] == self.moves
        assert channel.serial == len(self.moves) - 1


TestChannels = Channels.TestCase
TestChannels.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
