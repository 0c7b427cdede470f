"""tierloom probe, of a collection and of a model before there is one."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.python_documentation import write_documentation
from tests.index_builder.probing.vectors import spread, turned
from tests.pipelines.command_line import run
from tests.small_shards import Row, make_collection, publish, store_shard
from tierloom.declaring import declared_checkpoint
from tierloom.stores.local import LocalStore


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("corpus") / "documentation.jsonl"
    write_documentation(path)
    return path


def collection_of(folder: Path, vectors: np.ndarray) -> Path:
    """A collection of these vectors (n, 32)."""
    store = LocalStore(folder)
    make_collection(store)
    rows = [Row(f"document {at}", vector=tuple(map(float, vector))) for at, vector in enumerate(vectors)]
    publish(store, [[store_shard(store, rows)]])
    return folder


def test_a_model_is_probed_before_there_is_a_collection(documentation: Path) -> None:
    finished = run("probe", "--model", "wordllama", documentation)
    assert finished.status == 0, finished
    assert finished.out.splitlines()[-1].startswith("Matryoshka: prefixes of")
    assert "64" in finished.out
    assert "trained" in finished.out
    # What it costs is said before it is paid.
    assert "embedding 2,000 inputs of up to" in finished.err


def test_a_collection_is_probed_by_its_vectors(tmp_path: Path) -> None:
    vectors = spread(900, 32, 1.0, 0)
    found = run("probe", collection_of(tmp_path / "ordered", vectors), "--json")
    assert found.status == 0, found
    told = json.loads(found.out)
    assert (told["verdict"], told["chunks"]) == ("matryoshka", 900)
    assert [probe["dimensions"] for probe in told["prefixes"]] == [4, 8, 16]
    rotated = run("probe", collection_of(tmp_path / "rotated", turned(vectors, 1)))
    assert rotated.status == 1, rotated
    assert "not Matryoshka" in rotated.out


def test_too_few_chunks_are_undecided(tmp_path: Path) -> None:
    finished = run("probe", collection_of(tmp_path, spread(100, 32, 1.0, 0)))
    assert finished.status == 3, finished
    assert "undecided: too few chunks, or too small a lead, to tell: 100 chunks, of 500 that it takes" in finished.out


def test_the_same_seed_says_the_same(tmp_path: Path) -> None:
    store = collection_of(tmp_path, spread(700, 32, 1.0, 0))
    once, again, other = (run("probe", store, "--seed", seed, "--json").out for seed in (1, 1, 2))
    assert once == again != other


def test_leaving_out_what_is_declared_is_shown(tmp_path: Path, documentation: Path) -> None:
    space = declared_checkpoint("wordllama").space
    declaration = tmp_path / "model.toml"
    declaration.write_text(
        f'provider = "wordllama"\nmodel = "{space.model}"\nrevision = "{space.revision}"\ndimensions = 256\n'
        'trained_prefixes = [64, 128]\ndocument_prompt = "passage: "\nquery_prompt = "query: "\n'
        'post_processing = ["layer-norm"]\ntokenizer = "wordllama"\n'
        "limits = { tokens_per_input = 100000, tokens_per_request = 100000 }\n"
    )
    finished = run("probe", "--model", declaration, documentation, "--sample", 700, "--json")
    told = json.loads(finished.out)
    assert {one["step"] for one in told["omissions"]} == {"layer norm", "document prompt", "query prompt"}
    assert {one["dimensions"] for one in told["omissions"]} == {32, 64, 128, 256}
    assert finished.err.count("embedding ") == 2
    quiet = run("probe", "--model", declaration, documentation, "--sample", 700, "--no-omissions")
    assert "left out" not in quiet.out
    assert "is measured with --omissions" in quiet.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe",),
        ("probe", "one", "two"),
        ("probe", "nowhere"),
        ("probe", "--model", "no-such-model", "source"),
        ("probe", "--model", "wordllama", "no-such-source"),
        ("probe", "store", "--dimensions", "64,x"),
    ],
)
def test_what_cannot_be_measured_is_no_answer(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert run(*arguments).status == 2
