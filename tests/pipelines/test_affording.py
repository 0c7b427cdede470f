"""Caps of commands that ask a model all at once: all of it or nothing."""

import json
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint, error, tokens_of
from tests.pipelines.command_line import declare, ok, run, write_records
from tests.pipelines.priced import priced_collection
from tests.two_generations import two_generations
from tierloom.stores.local import LocalStore

ASKED = ["how many?", "which one of them?", "why?"]
TOKENS = tokens_of(ASKED)
TEXTS = [f"document number {n} of many" for n in range(120)]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    written = [{"id": f"d{n}", "sequence": 1, "text": text} for n, text in enumerate(TEXTS)]
    return write_records(tmp_path / "records.jsonl", written)


def questions(folder: Path) -> Path:
    path = folder / "queries.jsonl"
    path.write_text("".join(json.dumps({"query": text}) + "\n" for text in ASKED))
    return path


def lines(folder: Path) -> Path:
    path = folder / "questions.txt"
    path.write_text("\n".join(ASKED))
    return path


@pytest.mark.parametrize("cap", [("--max-tokens", TOKENS - 1), ("--max-usd", (TOKENS - 1) * 0.02e-6)])
@pytest.mark.parametrize("command", ["gate", "advise"])
def test_questions_beyond_a_cap_are_not_asked(
    tmp_path: Path, endpoint: Endpoint, records: Path, command: str, cap: tuple[str, object]
) -> None:
    store = priced_collection(tmp_path / "store", endpoint)
    ok(run("ingest", store, records))
    before = endpoint.requests
    path = questions(tmp_path) if command == "gate" else lines(tmp_path)
    refused = run(command, store, "--queries", path, *cap)
    assert refused.status == 4
    assert f"this takes {TOKENS} tokens" in refused.error
    assert "the model was not asked" in refused.error
    assert endpoint.requests == before
    billed = endpoint.billed_tokens
    ok(run(command, store, "--queries", path, "--max-tokens", TOKENS))
    assert endpoint.billed_tokens - billed == TOKENS


def test_a_comparison_counts_the_questions_of_both_models(tmp_path: Path) -> None:
    two_generations(LocalStore(tmp_path / "store"))
    refused = run("compare", tmp_path / "store", "--queries", questions(tmp_path), "--max-tokens", 1)
    assert refused.status == 4
    assert "the model was not asked" in refused.error


def test_a_probe_beyond_its_cap_asks_nothing(tmp_path: Path, endpoint: Endpoint, records: Path) -> None:
    model = declare(tmp_path, endpoint)
    probe = ("probe", "--model", model, records, "--dimensions", "8")
    refused = run(*probe, "--max-tokens", 100)
    assert refused.status == 4
    assert f"--max-tokens 100: this takes {tokens_of(TEXTS):,} tokens" in refused.error
    assert endpoint.requests == 0
    assert run(*probe, "--max-tokens", tokens_of(TEXTS)).status == 3
    assert endpoint.billed_tokens == tokens_of(TEXTS)


def test_what_a_probe_pays_twice_counts_twice(tmp_path: Path, endpoint: Endpoint, records: Path) -> None:
    """What failed may have been billed: a cap that allows each text once allows no second try."""
    probe = ("probe", "--model", declare(tmp_path, endpoint), records, "--dimensions", "8")
    endpoint.script = lambda asked: error(500, "try again") if asked.number == 0 else None
    assert run(*probe, "--max-tokens", tokens_of(TEXTS)).status == 4
    assert endpoint.billed_tokens == 0


def test_dollars_need_a_price(tmp_path: Path, endpoint: Endpoint, records: Path) -> None:
    refused = run("probe", "--model", declare(tmp_path, endpoint), records, "--max-usd", 1)
    assert refused.status == 2
    assert "the price of test-model is not known" in refused.err
    assert endpoint.requests == 0
