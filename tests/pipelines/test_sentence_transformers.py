"""A sentence-transformers model in a folder, from its declaration to an answer."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.python_documentation import write_documentation
from tests.embedders.small_models import save_static
from tests.pipelines.command_line import head_of, ok, run, write_records

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture
def declaration(sentence_transformers: ModuleType, tmp_path: Path) -> Path:
    """Relative to itself, as it is shared."""
    save_static(tmp_path)
    path = tmp_path / "model.toml"
    path.write_text(
        'provider = "sentence-transformers"\nmodel = "static"\ndimensions = 256\ntrained_prefixes = [64, 128, 256]\n'
        'endpoint = { folder = "static", device = "cpu" }\n'
    )
    return path


def test_documents_are_embedded_and_found(declaration: Path, tmp_path: Path) -> None:
    texts = {"dolls": "A matryoshka is a doll within a doll.", "tides": "The moon pulls the sea, and the tide rises."}
    records = write_records(tmp_path / "records.jsonl", [{"id": name, "text": text} for name, text in texts.items()])
    store = tmp_path / "store"
    ok(run("init", store, "--model", declaration, "--tiers", "64,128"))
    ok(run("ingest", store, records))
    assert head_of(store).documents.live == 2
    for question, name in {"what is a doll in a doll?": "dolls", "why does the sea rise?": "tides"}.items():
        hits = json.loads(ok(run("search", store, question, "--json")).out)["hits"]
        assert hits[0]["document_id"] == name, hits


def test_a_probe_tells_that_it_may_be_cut(declaration: Path, tmp_path: Path) -> None:
    documentation = tmp_path / "documentation.jsonl"
    write_documentation(documentation)
    found = run("probe", "--model", declaration, documentation, "--json")
    assert found.status == 0, found
    assert json.loads(found.out)["verdict"] == "matryoshka"
