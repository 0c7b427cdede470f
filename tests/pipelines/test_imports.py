"""Commands that only read need no Beam, no model, and start at once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import ROOT, declare, init, ok, run, run_apart, write_records

HEAVY = ("apache_beam", "openai", "wordllama", "tokenizers", "google.cloud", "rich", "semantic_text_splitter")
# As where the extras are not installed.
FORBIDDEN = "\n".join(f"sys.modules[{name!r}] = None" for name in HEAVY)
REPORT = (
    "import atexit, json, os; "
    f"atexit.register(lambda: os.write(2, json.dumps([n for n in {HEAVY!r} if sys.modules.get(n)]).encode()))"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A collection that these tests only read, and its endpoint; its sources lie beside it."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "r.jsonl").write_text('{"id": "a", "text": "alpha"}\n{broken\n')
    with Endpoint(dimensions=16) as endpoint:
        init(folder / "store", declare(folder, endpoint))
        ok(run("ingest", folder / "store", folder / "r.jsonl"))
        yield folder / "store"


READING: list[tuple[str, ...]] = [
    ("show", "STORE"),
    ("show", "STORE", "--json"),
    ("verify", "STORE"),
    ("dead-letters", "STORE"),
    ("history", "STORE"),
    ("retention", "STORE"),
    ("channels", "STORE"),
    ("serving", "STORE"),
    ("gc", "STORE", "--dry-run"),
    ("gate", "STORE"),
    ("search", "--help"),
    ("compare", "--help"),
    ("advise", "--help"),
    ("probe", "--help"),
    ("--help",),
    ("--version",),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_reading_imports_nothing_heavy(store: Path, arguments: tuple[str, ...]) -> None:
    command = [store if argument == "STORE" else argument for argument in arguments]
    finished = run_apart(*command, before=REPORT)
    assert finished.status == 0, finished
    assert json.loads(finished.err) == []


@pytest.mark.parametrize("arguments", READING[:10], ids=" ".join)
def test_reading_works_where_the_extras_are_not_installed(store: Path, arguments: tuple[str, ...]) -> None:
    command = [store if argument == "STORE" else argument for argument in arguments]
    assert run_apart(*command, before=FORBIDDEN).out == run(*command).out


def test_a_question_imports_the_model_that_it_needs_and_no_other(tmp_path: Path, store: Path) -> None:
    finished = run_apart("search", store, "alpha", "--json", before=REPORT)
    assert finished.hits[0]["document_id"] == "a"
    assert json.loads(finished.err) == ["openai"]
    words = tmp_path / "words"
    init(words, "wordllama", tiers="64")
    ok(run("ingest", words, write_records(tmp_path / "s.jsonl", [{"id": "a", "text": "alpha"}])))
    finished = run_apart("search", words, "alpha", "--json", before=REPORT)
    assert finished.hits[0]["document_id"] == "a"
    assert set(json.loads(finished.err)) <= {"wordllama", "tokenizers"}


def test_commands_that_write_name_the_extra_that_is_missing(store: Path) -> None:
    missing = "sys.modules['apache_beam'] = None"
    finished = run_apart("ingest", store, store.parent / "r.jsonl", before=missing)
    assert "tierloom[pipeline]" in finished.error
    assert "tierloom[pipeline]" in run_apart("dead-letters", store, "--retry", before=missing).error


LIBRARY = f"""
import sys
{FORBIDDEN}
import tierloom
with tierloom.open(sys.argv[1]) as snapshot:
    [hit] = snapshot.search([1.0] * 16, tier=8, top=1)
    [chunk] = snapshot.chunks(vectors=True)
    print(hit.document_id, chunk.document_id, chunk.vector.shape)
"""


def test_the_library_searches_with_a_vector_and_nothing_else(store: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARY, str(store)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("a a (16,)\n", "")
