"""What is deployed fits what is tested."""

import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.beam_options import split_arguments
from pipelines.unbounded import engine_options

_RUNNERS = ("PortableRunner", "DataflowRunner")
ROOT = Path(__file__).parents[2]


def test_the_image_of_a_worker_has_the_launcher_of_our_beam() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.findall(r"beam_python3\.11_sdk:(\S+)", dockerfile) == [version("apache-beam")]
    assert re.findall(r"^apache-beam==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[0].startswith(
        version("apache-beam")
    )


def _commands() -> list[list[str]]:
    """The commands of ours that docs/clusters.md shows in full, without `tierloom`."""
    text = (ROOT / "docs" / "clusters.md").read_text().replace("\\\n", " ")
    shown = re.findall(r"^\$ tierloom (.*)$", text, re.MULTILINE)
    return [shlex.split(command) for command in shown if not command.endswith("...")]


@pytest.mark.parametrize("command", _commands(), ids=lambda command: f"{command[0]} {command[-1]}")
def test_the_commands_for_clusters_are_understood(command: list[str]) -> None:
    name, _store, source, *options = command
    if name == "stream":
        assert options[:2] == ["--interval", "10"]
        assert engine_options(options[2:])._flags == options[2:]
    else:
        assert split_arguments([source, *options])[0] == [source]


def test_ingests_and_streams_are_shown_for_flink_and_dataflow() -> None:
    shown = {(command[0], flag) for command in _commands() for flag in command if flag.startswith("--runner=")}
    assert shown == {(name, f"--runner={runner}") for name in ("ingest", "stream") for runner in _RUNNERS}
