"""The README is the front door: every command and every snippet in it is run, in the order it is read."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from tests.embedders.endpoint import Endpoint

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# `tierloom advise` measures on no fewer.
FACTS = 100

# Takes half a minute: worker processes import Beam each.
_SLOW = "--direct_running_mode"


def blocks(language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(README) if found == language]


def commands() -> list[str]:
    """What follows a `$` in the console blocks, without comments."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ").split("   #")[0].strip() for line in lines if line.startswith("$ ")]


def tierloom_commands() -> list[str]:
    return [command for command in commands() if command.startswith("tierloom ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with documents, with loopback endpoints in place of those that the README names."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("# Guide\n\n## Configuring\n\nSet the colour in the settings file.\n")
    (tmp_path / "docs" / "notes.txt").write_text("Whoever reads this has found the notes.\n")
    facts = [{"id": f"fact-{at}", "text": f"The square of {at} is {at * at}."} for at in range(FACTS)]
    (tmp_path / "docs" / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    with Endpoint(dimensions=1536) as small, Endpoint(dimensions=768) as nomic:
        declared = blocks("toml")[0].replace("http://127.0.0.1:8080/v1", nomic.base_url)
        assert nomic.base_url in declared
        (tmp_path / "my-model.toml").write_text(declared)
        monkeypatch.setenv("OPENAI_BASE_URL", small.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
        monkeypatch.chdir(tmp_path)
        yield tmp_path


def run(command: str) -> str:
    if command.startswith("tierloom serve "):
        return serve(command)
    # A stream has no end of its own; tests/pipelines/streaming ends one by a signal.
    ending = ["--once"] if command.startswith("tierloom stream") else []
    result = CliRunner().invoke(cli, [*shlex.split(command)[1:], *ending], catch_exceptions=False)
    # Of two documents nobody can tell whether their model is Matryoshka.
    expected = 3 if command.startswith("tierloom probe") else 0
    assert result.exit_code == expected, f"{command}\n{result.output}"
    return result.stdout


def serve(command: str) -> str:
    """The server, on a free port, until it has answered once."""
    arguments = [sys.executable, "-m", "pipelines", *shlex.split(command)[1:], "--port", "0", "--drain", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            url = re.search(r"http://[\d.:]+", line)
            assert url is not None, line
            while httpx2.get(f"{url[0]}/readyz").status_code != 200:
                assert process.poll() is None
            answered = httpx2.post(f"{url[0]}/v1/search", json={"query": "how do I configure it?"})
        finally:
            process.terminate()
        assert process.wait() == 0
    assert answered.json()["hits"][0]["document_id"] == "docs/guide.md", answered.text
    return answered.text


def test_the_readme_shows_commands() -> None:
    assert len(tierloom_commands()) > 8


@pytest.mark.parametrize("command", [command for command in commands() if command.startswith("make ")])
def test_make_knows_the_target(command: str) -> None:
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_every_command_works(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {command: run(command) for command in tierloom_commands() if _SLOW not in command}
    assert "guide.md" in printed['tierloom search my-store "how do I configure it?" --tier 64']
    assert "0 wrong" in printed["tierloom verify my-store"]
    exec(blocks("python")[0], {})
    assert "docs/guide.md 0 Guide" in capsys.readouterr().out


@pytest.mark.engine
@pytest.mark.usefixtures("folder")
def test_the_command_with_worker_processes_works() -> None:
    run(next(command for command in tierloom_commands() if command.startswith("tierloom init my-store")))
    slow = next(command for command in tierloom_commands() if _SLOW in command)
    done = subprocess.run([sys.executable, "-m", "pipelines", *shlex.split(slow)[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{FACTS + 2} = {FACTS + 2} live" in done.stdout


def test_other_commands_are_set_up_for() -> None:
    known = ("make ", "tierloom ", "export OPENAI_API_KEY=")
    assert [command for command in commands() if not command.startswith(known)] == []


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (REPOSITORY / target).exists(), target
