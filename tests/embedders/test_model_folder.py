"""What the files of a model in a folder say, without its library."""

import json
import sys
from pathlib import Path

import pytest

from tierloom.declaring import declared_checkpoint
from tierloom.embedders.model_folder import files_digest, longest_input, tokenizer_file
from tierloom.embedders.opening import open_embedder
from tierloom.errors import CheckpointError, MissingExtra

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "0_Static").mkdir(parents=True)
    (made / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_Static"}]))
    (made / "0_Static" / "tokenizer.json").write_text("{}")
    return made


def declare(folder: Path, *lines: str) -> str:
    path = folder.parent / "model.toml"
    first = 'provider = "sentence-transformers"\nmodel = "m"\ndimensions = 8'
    path.write_text("\n".join([first, *lines]))
    return str(path)


def test_the_digest_is_of_names_and_bytes_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    digest = files_digest(folder)
    assert files_digest(folder.rename(tmp_path / "elsewhere")) == digest
    folder = tmp_path / "elsewhere"
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("x")
    (folder / "README.md").write_text("x")
    assert files_digest(folder) == digest
    (folder / "0_Static" / "tokenizer.json").rename(folder / "0_Static" / "tokenizer2.json")
    assert files_digest(folder) != digest


@pytest.mark.parametrize(
    ("files", "longest"),
    [
        ({}, None),
        ({"sentence_bert_config.json": {"max_seq_length": 512}}, 512),
        ({"tokenizer_config.json": {"model_max_length": 1000000000000000019884624838656}}, None),
        (
            {
                "sentence_bert_config.json": {"max_seq_length": 8192},
                "tokenizer_config.json": {"model_max_length": 512},
            },
            512,
        ),
        ({"sentence_bert_config.json": {"max_seq_length": None}}, None),
    ],
)
def test_the_longest_input_is_read(folder: Path, files: dict[str, object], longest: int | None) -> None:
    for name, members in files.items():
        (folder / name).write_text(json.dumps(members))
    assert longest_input(folder) == longest


def test_a_declaration_takes_from_the_folder_what_it_does_not_say(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 128}')
    checkpoint = declared_checkpoint(declare(folder, 'endpoint = { folder = "model" }'))
    assert checkpoint.space.revision == files_digest(folder)
    assert checkpoint.endpoint.folder == str(folder.resolve())
    assert checkpoint.tokenizer == f"huggingface:{folder.resolve()}/0_Static/tokenizer.json"
    assert checkpoint.limits.tokens_per_input == 128
    assert tokenizer_file(folder) == folder / "0_Static" / "tokenizer.json"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ('endpoint = { folder = "nowhere" }', "no modules.json"),
        ('endpoint = { folder = "model", base_url = "http://h/v1" }', "has no base_url"),
        ('revision = "main"', "'main' is no commit of m"),
        ("", "all 40 digits"),
        ('endpoint = { folder = "model" }\nrevision = "v1"', "not v1"),
        ('endpoint = { folder = "model" }\nhalf_precision = "float8"', "half_precision"),
    ],
)
def test_what_cannot_be_loaded_is_refused_when_declared(folder: Path, line: str, part: str) -> None:
    with pytest.raises(CheckpointError, match=part):
        declared_checkpoint(declare(folder, line))


def test_its_library_is_an_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = declared_checkpoint(declare(folder, f'revision = "{COMMIT}"'))
    # A run of tests that has fetched it has it on its path.
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.delitem(sys.modules, "tierloom.embedders.sentence_transformers", raising=False)
    with pytest.raises(MissingExtra, match=r"tierloom\[sentence-transformers\]"):
        open_embedder(checkpoint)
