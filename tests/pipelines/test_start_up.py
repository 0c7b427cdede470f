"""Commands start fast: none imports what it does not use."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipelines.cli import COMMANDS, cli
from tests.measured import measured_store
from tests.small_shards import make_collection
from tierloom.stores.local import LocalStore

HEAVY = {"apache_beam", "numpy", "pyarrow", "usearch", "numkong", "openai", "google.cloud.storage", "wordllama"}


def imported(*arguments: str) -> set[str]:
    """Which of the heavy packages a command line imports."""
    program = (
        "import sys; from pipelines.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(*sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["init", "--help"]])
def test_help_imports_no_heavy_package(arguments: list[str]) -> None:
    assert imported(*arguments) == set()


def test_showing_a_version_imports_no_heavy_package(tmp_path: Path) -> None:
    make_collection(LocalStore(tmp_path))

    assert imported("show", str(tmp_path)) == set()


def test_moving_a_channel_imports_no_heavy_package(tmp_path: Path) -> None:
    store = str(measured_store(tmp_path).root)

    for arguments in (
        ["promote", store, "2", "--channel", "prod"],
        ["promote", store, "latest", "--channel", "prod"],
        ["rollback", store, "--channel", "prod"],
        ["channels", store],
        ["serving", store],
    ):
        assert imported(*arguments) == set()


def test_creating_a_collection_needs_no_beam(tmp_path: Path) -> None:
    store = str(tmp_path / "store")

    assert imported("init", store, "--model", "wordllama", "--tiers", "64") == set()


@pytest.mark.parametrize("command", ["search", "verify", "dead-letters"])
def test_reading_commands_import_no_beam(command: str) -> None:
    assert "apache_beam" not in imported(command, "--help")


def test_importing_the_package_is_free() -> None:
    program = f"import sys, tierloom; assert not {HEAVY!r} & sys.modules.keys(); assert tierloom.open"

    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.name == name
