"""docs/models.md: its table is that of the known checkpoints, and what it shows is declared and run."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from tests.embedders.endpoint import Endpoint
from tierloom.checkpoint import Checkpoint
from tierloom.declaring import declared_checkpoint, known_names

PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(PAGE) if found == language]


def asked_at(checkpoint: Checkpoint) -> str:
    if checkpoint.space.in_process:
        return "this process"
    host = urlsplit(checkpoint.endpoint.base_url or "").hostname
    return {None: "OpenAI", "127.0.0.1": "your server"}.get(host, str(host))


def row(name: str) -> str:
    checkpoint = declared_checkpoint(name)
    cells = [
        f"`{name}`",
        asked_at(checkpoint),
        str(checkpoint.space.dimensions),
        ", ".join(map(str, checkpoint.space.trained_prefixes)),
        f"{checkpoint.limits.tokens_per_input:,}",
        f"{checkpoint.price.usd_per_million_tokens:g}" if checkpoint.price else "",
    ]
    return re.sub(r" +", " ", f"| {' | '.join(cells)} |")


def test_the_table_has_the_known_checkpoints() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 7]
    assert rows == [row(name) for name in known_names()]


def test_every_key_variable_is_named() -> None:
    assert {declared_checkpoint(name).endpoint.api_key_env for name in known_names()} == set(
        re.findall(r"`([A-Z]+_API_KEY)`", PAGE)
    )


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_declaration_is_one(text: str, tmp_path: Path) -> None:
    model = tmp_path / "models" / "mxbai"
    model.mkdir(parents=True)
    (model / "modules.json").write_text("[]")
    (tmp_path / "my-model.toml").write_text(text)
    assert len(text.strip().splitlines()) <= 10
    assert declared_checkpoint(str(tmp_path / "my-model.toml")).space.trained_prefixes


@pytest.mark.slow
def test_every_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "notes.txt").write_text("Whoever reads this has found the notes.\n")
    monkeypatch.chdir(tmp_path)
    commands = [line.removeprefix("$ tierloom ") for block in blocks("console") for line in block.splitlines()]
    assert len(commands) == 2
    with Endpoint(dimensions=1024) as endpoint:
        (tmp_path / "my-model.toml").write_text(
            blocks("toml")[0].replace("http://127.0.0.1:8080/v1", endpoint.base_url)
        )
        ended = [CliRunner().invoke(cli, shlex.split(command)) for command in commands]
    # Of one document nobody can tell whether its model is Matryoshka.
    assert [result.exit_code for result in ended] == [0, 3], [result.output for result in ended]
    assert endpoint.asked[0].body["task"] == "retrieval.passage"
