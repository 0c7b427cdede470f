"""Fixtures: an endpoint, commands that can be killed, and a world for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import KEY, KEY_VARIABLE
from tests.torture.commands import Commands
from tests.torture.world import World


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(dimensions=16) as served:
        yield served


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with Commands(tmp_path) as started:
        yield started


@pytest.fixture
def world(tmp_path: Path, endpoint: Endpoint, commands: Commands) -> World:
    return World(tmp_path, endpoint, commands)
