"""A second generation, built while the first one serves and documents change."""

import base64
import json
import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error
from tests.generations import agreed_texts, open_generation
from tests.pipelines.command_line import ROOT, SEEDS, apart, declare, head_of, init, ok, run, write_records
from tests.pipelines.docstrings import questions_and_answers
from tests.pipelines.test_killed import Killer
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import open_embedder
from tierloom.manifest import KEY_UNITS

DOCUMENTS = 200
NEW = "second: "


def records(
    start: int = 0, stop: int = DOCUMENTS, sequence: int = 1, text: str = "document"
) -> list[dict[str, object]]:
    return [{"id": f"d{n}", "sequence": sequence, "text": f"{text} number {n}"} for n in range(start, stop)]


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    """A collection of small blocks, with some documents in it."""
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", 16, "--shard-rows", 50, "--untrained-prefixes")
    ok(run("ingest", path, write_records(tmp_path / "records.jsonl", records())))
    return path


@pytest.fixture
def model(tmp_path: Path, endpoint: Endpoint) -> Path:
    """Another checkpoint at the same endpoint."""
    folder = tmp_path / "second"
    folder.mkdir()
    return declare(folder, endpoint, document_prompt=NEW)


def reembed(store: Path, model: Path, *options: object) -> tuple[object, ...]:
    return ("reembed", store, "--model", model, "--untrained-prefixes", *options)


def billed_of(endpoint: Endpoint, prompt: str) -> Counter[str]:
    return Counter({text: times for text, times in endpoint.billed.items() if text.startswith(prompt)})


def test_the_same_documents_under_another_checkpoint(store: Path, model: Path, endpoint: Endpoint) -> None:
    before, paid = head_of(store), endpoint.billed_tokens
    closing = ok(run(*reembed(store, model, "--json"))).json
    head = head_of(store)
    assert (head.vector_shards, head.gate) == (before.vector_shards, before.gate)
    assert len(agreed_texts(store)) == DOCUMENTS
    assert billed_of(endpoint, NEW) == Counter(f"{NEW}document number {n}" for n in range(DOCUMENTS))
    assert (closing["embedded_chunks"], closing["live_chunks"]) == (DOCUMENTS, DOCUMENTS)
    assert closing["canary_tokens"] > 0
    assert closing["tokens"] + closing["canary_tokens"] == endpoint.billed_tokens - paid
    assert head.other
    assert head.other.gate
    assert ok(run("verify", store))


def test_it_says_how_to_go_on_and_history_what_it_cost(store: Path, model: Path, endpoint: Endpoint) -> None:
    billed = endpoint.billed_tokens
    told = ok(run(*reembed(store, model))).out
    new = head_of(store).generations[1].checkpoint[:8]
    assert f"tierloom promote {store} {head_of(store).version} --channel prod --checkpoint {new}" in told
    rows = [json.loads(line) for line in ok(run("history", store, "--json")).out.splitlines()]
    others = [row["other"] for row in rows if row["other"]]
    assert sum(one["tokens"] + one["canary_tokens"] for one in others) == endpoint.billed_tokens - billed


def test_asked_again_it_does_nothing(store: Path, model: Path, endpoint: Endpoint) -> None:
    ok(run(*reembed(store, model)))
    version, paid = head_of(store).version, endpoint.billed_tokens
    closing = ok(run(*reembed(store, model, "--json"))).json
    assert (closing["published"], closing["tokens"]) == (False, 0)
    assert (head_of(store).version, endpoint.billed_tokens) == (version, paid)


def test_changes_meanwhile_go_into_both(store: Path, model: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    """Stopped after some parts; then documents come, change and go, and it goes on."""
    endpoint.script = lambda asked: error(401, "no such key") if len(billed_of(endpoint, NEW)) >= 60 else None
    assert "no such key" in run(*reembed(store, model)).error
    endpoint.script = None
    head = head_of(store)
    assert head.other
    assert not head.other.is_complete
    changed = [*records(0, 20, 2, "changed"), *records(DOCUMENTS, DOCUMENTS + 10)]
    gone = [{"id": f"d{n}", "sequence": 3, "deleted": True} for n in range(15, 30)]
    ok(run("ingest", store, write_records(tmp_path / "new.jsonl", [*changed, *gone])))
    lines = [*records(30, 35, 2, "streamed"), {"id": "d36", "sequence": 2, "deleted": True}]
    ok(run("stream", store, write_records(tmp_path / "stream.jsonl", lines), "--once", "--interval", 0))
    ok(run(*reembed(store, model)))
    texts = agreed_texts(store)
    assert {document_id for document_id, _, _ in texts} == (
        {f"d{n}" for n in range(DOCUMENTS + 10)} - {f"d{n}" for n in range(15, 30)} - {"d36"}
    )
    assert texts["d3", 2, 0] == "changed number 3"
    assert texts["d33", 2, 0] == "streamed number 33"
    # Those that changed before they had come have only been paid for as they are now.
    assert set(billed_of(endpoint, NEW).values()) == {1}
    ok(run("verify", store))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_one_is_finished_by_the_next(
    store: Path, model: Path, endpoint: Endpoint, seed: int, tmp_path: Path
) -> None:
    killer = Killer(at=random.Random(seed).randint(5, 40))
    endpoint.script = killer
    killer.victim = subprocess.Popen(
        apart(reembed(store, model, "--concurrency", 1)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    assert killer.victim.wait(timeout=100) == -signal.SIGKILL
    endpoint.script = None
    ok(run(*reembed(store, model)))
    assert len(agreed_texts(store)) == DOCUMENTS
    paid = billed_of(endpoint, NEW)
    # So many chunks may a worker have had in flight.
    assert paid.total() - len(paid) <= 16


def test_what_the_new_model_refuses_is_a_letter_of_its_generation(store: Path, model: Path, endpoint: Endpoint) -> None:
    def refuse(asked: Asked) -> Reply | None:
        return error(400, "no") if any(text == f"{NEW}document number 7" for text in asked.inputs) else None

    endpoint.script = refuse
    ok(run(*reembed(store, model)))
    one, two = head_of(store).generations
    assert two.is_complete
    assert (one.documents.dead_lettered, two.documents.dead_lettered, two.documents.live) == (0, 1, DOCUMENTS - 1)
    endpoint.script = None
    ok(run("dead-letters", store, "--retry"))
    assert len(agreed_texts(store)) == DOCUMENTS
    assert sum(part.letters for part in head_of(store).generations[1].dead_letters) == 0


@pytest.mark.parametrize("options", [("--direct_runner_bundle_repeat=2",), ("--direct_num_workers=2",)])
def test_replayed_and_shared_bundles(store: Path, model: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    ok(run(*reembed(store, model, *options)))
    new = write_records(tmp_path / "new.jsonl", records(190, 230, 2, "changed"))
    ok(run("ingest", store, new, *options))
    assert len(agreed_texts(store)) == 230


def test_documents_are_cut_anew_from_their_sources(
    store: Path, model: Path, endpoint: Endpoint, tmp_path: Path
) -> None:
    source = tmp_path / "records.jsonl"
    cutting = ("--chunk-tokens", 8, source)
    refused = run(*reembed(store, model, *cutting[:2]))
    assert "name the sources" in refused.error
    ok(run(*reembed(store, model, *cutting)))
    one, two = head_of(store).generations
    assert two.is_complete
    assert two.collection.chunking.max_tokens == 8
    with open_generation(store, two) as snapshot:
        chunks = [(chunk.document_id, chunk.ordinal, chunk.text) for chunk in snapshot.chunks()]
    assert ("d7", 1, "number 7") in chunks
    new = write_records(tmp_path / "new.jsonl", [{"id": "d7", "sequence": 2, "text": "document of nine words"}])
    ok(run("ingest", store, new))
    one, two = head_of(store).generations
    assert (one.documents.live, two.documents.live) == (DOCUMENTS, DOCUMENTS)
    assert (one.live_chunks, two.live_chunks) == (DOCUMENTS, len(chunks) + 1)


def test_sources_that_lack_a_document_do_not_complete_it(store: Path, model: Path, tmp_path: Path) -> None:
    some = write_records(tmp_path / "some.jsonl", records(0, 100))
    refused = run(*reembed(store, model, "--chunk-tokens", 8, some))
    assert "lacks" in refused.error
    assert "name all that the collection was made of" in refused.error
    ok(run(*reembed(store, model, "--chunk-tokens", 8, tmp_path / "records.jsonl")))
    assert head_of(store).generations[1].is_complete


def test_clear_words_for_what_cannot_be(store: Path, model: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    paid = endpoint.billed_tokens
    same = run("reembed", store, "--model", tmp_path / "model.toml")
    assert "serves already" in same.error
    assert "sources are only needed" in run(*reembed(store, model, tmp_path / "records.jsonl")).error
    assert "unknown model" in run("reembed", store, "--model", "text-embedding-3-smal").error
    assert "lie beyond" in run(*reembed(store, model, "--tiers", "32")).error
    assert (head_of(store).other, endpoint.billed_tokens) == (None, paid)
    ok(run(*reembed(store, model)))
    (tmp_path / "third").mkdir()
    third = declare(tmp_path / "third", endpoint, document_prompt="third: ")
    assert "two generations already" in run(*reembed(store, third)).error
    assert "begun with tiers 8,16" in run(*reembed(store, model, "--tiers", "8")).error


def test_a_model_that_front_loads_nothing_is_noticed_while_it_is_cheap(tmp_path: Path, endpoint: Endpoint) -> None:
    """The first part is small: not much more than that is paid for."""
    store = tmp_path / "store"
    init(store, "wordllama", tiers="64")
    texts = [text for _, text in questions_and_answers(7000)]
    lines = [{"id": f"d{n}", "sequence": 1, "text": text[:300]} for n, text in enumerate(texts)]
    ok(run("ingest", store, write_records(tmp_path / "docstrings.jsonl", lines)))
    rotated = declare(tmp_path, endpoint, dimensions=256)
    rotated.write_text(rotated.read_text().replace("[4, 8, 16]", "[64, 256]"))
    endpoint.script = Rotated()
    refused = run("reembed", store, "--model", rotated)
    assert "this is no Matryoshka model" in refused.error
    assert "while it was cheap" in refused.error
    other = head_of(store).generations[1]
    assert 0 < other.reached < KEY_UNITS
    assert other.live_chunks < 6000


class Rotated:
    """A model whose vectors are those of wordllama, turned at random: as good, but front-loading nothing."""

    def __init__(self) -> None:
        self._model = open_embedder(declared_checkpoint("wordllama"))
        self._rotation, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((256, 256)))

    def __call__(self, asked: Asked) -> Reply:
        vectors = self._model.embed(asked.inputs, [1] * len(asked.inputs)).vectors @ self._rotation
        rows = enumerate(vectors.astype("<f4"))
        data = [{"index": at, "embedding": base64.b64encode(row.tobytes()).decode()} for at, row in rows]
        return answer(data, tokens=1)
