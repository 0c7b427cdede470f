"""tierloom advise, on a small real corpus."""

from pathlib import Path

import pytest

import tierloom
from pipelines.python_documentation import write_documentation
from tests.index_builder.probing.vectors import spread, turned
from tests.pipelines.command_line import run
from tests.pipelines.test_probe_command import collection_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advise")
    write_documentation(folder / "documentation.jsonl")
    assert run("init", folder / "store", "--model", "wordllama", "--tiers", "128").status == 0
    assert run("ingest", folder / "store", folder / "documentation.jsonl").status == 0
    return folder / "store"


def test_the_advice_can_be_followed_and_holds(store: Path) -> None:
    arguments = ("advise", store, "--sample", 1000, "--dimensions", "64,128")
    told = run(*arguments, "--json").json
    chosen = told["chosen"]
    assert chosen["recall"]["low"] >= 0.95
    most = 1000 * told["sample"] / told["live_chunks"]
    sound = [one for one in told["options"] if one["recall"]["low"] >= 0.95 and one["shortlist"] <= most]
    assert chosen["bytes_per_vector"] == min(one["bytes_per_vector"] for one in sound)
    added = run(*arguments).out.strip().splitlines()[-1].split()
    assert added[:4] == ["tierloom", "tiers", "add", str(store)]
    assert run(*added[1:]).status == 0
    name = chosen["tier"]["name"]
    with tierloom.open(store) as snapshot:
        shard = snapshot.manifest.index_shards_of(name)[0]
        assert shard.parameters.connectivity == chosen["tier"]["connectivity"]
        # A file of another number of rows has about as many bytes for each.
        assert shard.bytes / shard.codes == pytest.approx(chosen["bytes_per_vector"], rel=0.02)
    assert "this collection has it already" in run(*arguments).out


def test_recall_is_deterministic_and_a_larger_tier_needs_a_new_collection(store: Path) -> None:
    arguments = ("advise", store, "--sample", 1000, "--dimensions", "64,256", "--seed", 4, "--json")
    once, again = run(*arguments).json, run(*arguments).json
    recalls = [
        [(one["tier"]["name"], one["shortlist"], one["recall"]) for one in told["options"]] for told in (once, again)
    ]
    assert recalls[0] == recalls[1]
    assert {one["tier"]["dimensions"] for one in once["options"] if one["needs_new_collection"]} == {256}
    assert once["chosen"]["tier"]["dimensions"] == 64


def test_a_budget_is_kept(store: Path) -> None:
    told = run(
        "advise", store, "--sample", 1000, "--dimensions", "64", "--memory", "800kB", "--recall", "0.9", "--json"
    ).json
    assert told["chosen"]["bytes_per_vector"] * told["live_chunks"] <= 800_000
    none = run("advise", store, "--sample", 500, "--memory", "1kB", "--dimensions", "64")
    assert none.status == 0
    assert "nothing that this collection can have fits into 1.0 kB" in none.out


def test_time_is_kept_and_what_was_left_is_named(store: Path) -> None:
    finished = run("advise", store, "--sample", 3000, "--seconds", 1)
    assert finished.status == 0
    assert "out of time for" in finished.out


def test_questions_are_asked(store: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.txt"
    questions.write_text("How do I compress a file?\n\nparse command line arguments\nwait for a thread\n")
    told = run("advise", store, "--sample", 1000, "--dimensions", "64", "--queries", questions, "--json").json
    assert told["sample"] == 1000
    thirtieths = [one["recall"]["mean"] * 30 for one in told["options"]]
    assert thirtieths == pytest.approx([round(share) for share in thirtieths])
    for wrong in (tmp_path / "missing.txt", tmp_path):
        assert "cannot be read" in run("advise", store, "--queries", wrong).error
    (tmp_path / "empty.txt").write_text("\n")
    assert "holds no question" in run("advise", store, "--queries", tmp_path / "empty.txt").error


def test_prefixes_that_carry_nothing_are_not_advised(tmp_path: Path) -> None:
    vectors = turned(spread(900, 32, 1.0, 0), 1)
    finished = run("advise", collection_of(tmp_path, vectors))
    assert finished.status == 1
    assert "it is not made for tiers; see tierloom probe" in finished.error


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    finished = run("advise", collection_of(tmp_path, spread(60, 32, 1.0, 0)))
    assert "60 live chunks are too few" in finished.error
