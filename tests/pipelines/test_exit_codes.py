"""With which status commands end; docs/schedules.md has the table."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from pipelines.exit_codes import ExitCode, exit_code
from tests.embedders.endpoint import Endpoint, error
from tests.measured import measured_store
from tests.pipelines.command_line import ROOT, Finished, apart, declare, init, ok, run, run_apart, write_records
from tierloom import errors
from tierloom.errors import TierloomError
from tierloom.stores.local import LocalStore
from tierloom.taking_turns import Turn


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_records(tmp_path / "r.jsonl", [{"id": "a", "sequence": 1, "text": "alpha"}])


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    init(tmp_path / "store", declare(tmp_path, endpoint))
    return tmp_path / "store"


def the_command(*arguments: object) -> Finished:
    """By the installed program, as a scheduler starts it."""
    program = ROOT / ".venv" / "bin" / "tierloom"
    command = [str(program), *map(str, arguments)] if program.exists() else apart(arguments)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return Finished(ended.returncode, ended.stdout, ended.stderr)


def test_done(store: Path) -> None:
    assert the_command("verify", store).status == ExitCode.DONE


def test_a_person_must_look(store: Path) -> None:
    (store / "checkpoints").rename(store / "elsewhere")
    assert the_command("verify", store).status == ExitCode.FAILED
    assert the_command("show", store / "nowhere").status == ExitCode.FAILED


def test_a_command_line_that_is_none(store: Path) -> None:
    for arguments in (["verify"], ["verify", store, "--no-such"], ["no-such"], ["gc", store, "--grace", "1w"]):
        ended = the_command(*arguments)
        assert ended.status == ExitCode.USAGE
        assert ended.err.startswith("Usage: tierloom ")


def test_a_turn_that_is_held(store: Path) -> None:
    with Turn(LocalStore(store), "gc"):
        assert the_command("gc", store).status == ExitCode.LATER


def test_a_model_that_is_down(tmp_path: Path, source: Path) -> None:
    with Endpoint(16) as gone:
        address = gone.base_url
    init(tmp_path / "store", declare(tmp_path, address))
    assert run("ingest", tmp_path / "store", source).status == ExitCode.LATER


def test_a_model_that_refuses(store: Path, source: Path, endpoint: Endpoint) -> None:
    endpoint.script = lambda asked: error(401, "no such key")
    assert run("ingest", store, source).status == ExitCode.FAILED


def test_a_store_that_does_not_answer(store: Path) -> None:
    """As a file system of the network does when its server is gone."""
    gone = (
        "import errno\nimport tierloom.stores.local as local\n"
        "def gone(*_, **__): raise OSError(errno.ETIMEDOUT, 'timed out')\n"
        "local.os.open = gone"
    )
    assert run_apart("show", store, before=gone).status == ExitCode.LATER
    denied = gone.replace("ETIMEDOUT", "EACCES")
    assert run_apart("show", store, before=denied).status == ExitCode.FAILED


def test_a_mistake_of_ours(store: Path) -> None:
    finished = run_apart("verify", store, before="import index_builder.audit as a; a._problems = lambda *_: 1 / 0")
    assert finished.status == ExitCode.FAILED
    assert "ZeroDivisionError" in finished.err


def test_a_measured_refusal_is_no_failure_of_the_machine(tmp_path: Path) -> None:
    """`promote` of what misses its floor: trying again would end the same way."""
    store = measured_store(tmp_path)
    assert run("rollback", store.root, "--channel", "prod").status == ExitCode.FAILED


def test_help_and_version_are_no_errors() -> None:
    assert ok(run("--help")).out
    assert ok(run("gc", "--help")).out
    assert ok(run("--version")).out


KINDS: list[type[TierloomError]] = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TierloomError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_status(kind: type[TierloomError]) -> None:
    made = kind.__new__(kind, "said")
    assert exit_code(made) in set(ExitCode) - {ExitCode.DONE, ExitCode.USAGE}


def test_what_may_pass_is_told_from_what_does_not() -> None:
    later = {kind.__name__ for kind in KINDS if exit_code(kind.__new__(kind, "")) is ExitCode.LATER}
    assert later == {
        "TurnHeld",
        "TurnLost",
        "PullUnderWay",
        "StoreUnavailable",
        "EmbedderUnavailable",
        "CommitConflict",
        "Overtaken",
        "GenerationsChanged",
    }


def test_the_numbers_are_those_that_schedulers_know() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6, os.EX_TEMPFAIL]


def test_the_table_has_them_all() -> None:
    table = (ROOT / "docs" / "schedules.md").read_text()
    stated = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert stated == {*map(int, ExitCode), 130, 143}
