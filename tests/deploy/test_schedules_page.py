"""docs/schedules.md: its commands are run, its tables and its alerts are of what there is."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pipelines import run_metrics
from tests.pipelines.command_line import ROOT, init, ok, run

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "schedules.md").read_text()
COUNTED = {f"tierloom_run_{name}" for name, _ in run_metrics._SINGLE.values()} | {
    f"tierloom_run_{name}" for name, _, _ in run_metrics._BY_KIND
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Of the console and of the crontab."""
    lines = [line for block in blocks("console") + blocks("cron") for line in block.splitlines()]
    return [line[line.index("tierloom ") :].removeprefix("tierloom ") for line in lines]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a collection and documents under both names that the page has for them."""
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "textfiles"):
        Path(name).mkdir()
    Path("docs/guide.md").write_text("# Guide\n\nSet the colour in the settings file.\n")
    init("my-store", "wordllama", tiers="64")
    return tmp_path


def test_every_command_is_run(folder: Path) -> None:
    here = {"/data/store": "my-store", "/data/docs": "docs", "/var/lib/node_exporter": "textfiles"}
    assert len(commands()) == 9
    for command in commands():
        for place, ours in here.items():
            command = command.replace(place, ours)
        ok(run(*shlex.split(command)))
    assert {path.stem for path in (folder / "textfiles").iterdir()} == {"ingest", "gc", "verify", "canary"}
    written = {
        sample.name
        for path in (folder / "textfiles").iterdir()
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    stated = set(re.findall(r"`(tierloom_run_\w+)(?:\{kind\})?`", PAGE))
    assert written <= stated
    assert stated - written == set()
    assert stated >= COUNTED


def test_an_ingest_has_the_members_of_the_example(folder: Path) -> None:
    (example,) = (json.loads(block) for block in blocks("json"))
    ended = ok(run("ingest", "my-store", "docs", "--log-format", "json"))
    lines: list[dict[str, Any]] = [json.loads(line) for line in ended.err.splitlines()]
    (progress,) = (line for line in lines if line.get("state") == "ended")
    assert set(progress) >= set(example) - {"copied", "found"}


def test_alerts_ask_for_what_there_is() -> None:
    (rules,) = (yaml.safe_load(block) for block in blocks("yaml"))
    stated = set(re.findall(r"`(tierloom_run_\w+)(?:\{kind\})?`", PAGE))
    asked = {name for rule in rules["groups"][0]["rules"] for name in re.findall(r"tierloom_run_\w+", rule["expr"])}
    assert asked
    assert asked <= stated
