"""The gate as its user meets it: from documents to figures, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import tierloom
from tests.pipelines.command_line import head_of, ok, run, write_records
from tests.pipelines.docstrings import questions_and_answers
from tierloom.snapshot import Snapshot

TOP = 10


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    ok(run("init", path, "--model", "wordllama", "--tiers", "64,256"))
    records = [{"id": f"d{at}", "text": f"about {word}", "sequence": 1} for at, word in enumerate(WORDS)]
    ok(run("ingest", path, write_records(tmp_path / "a.jsonl", records)))
    return path


WORDS = ("apples", "rivers", "engines", "violins", "taxes", "glaciers", "pastry", "satellites", "chess", "volcanoes")


def write_queries(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_run_says_what_was_measured(tmp_path: Path, store: Path) -> None:
    table = run("gate", store).out
    assert "10 held-out chunks, floor 0.95" in table
    assert table.count("<- the reader's default") == 2
    more = write_records(tmp_path / "b.jsonl", [{"id": "e", "text": "about bees", "sequence": 1}])
    finished = ok(run("ingest", store, more))
    assert "reranking 20" in finished.out
    assert "gate " in finished.out
    assert " of the time" in finished.out


def test_queries_of_the_owner_are_measured_from_then_on(tmp_path: Path, store: Path) -> None:
    asked = [{"query": word, "relevant": [f"d{at}"]} for at, word in enumerate(WORDS)]
    asked.append({"query": "nothing", "relevant": ["nowhere"]})
    finished = ok(run("gate", store, "--queries", write_queries(tmp_path / "q.jsonl", asked)))
    assert "11 given queries" in finished.out
    assert "nDCG@10" in finished.out
    assert "1 relevant document not live, such as nowhere" in finished.err
    measured = run("gate", store, "--json").json
    assert measured["source"] == "given"
    assert measured["exact"]["hit_rate"]["mean"] == pytest.approx(10 / 11, abs=1e-6)
    more = write_records(tmp_path / "b.jsonl", [{"id": "nowhere", "text": "nothing", "sequence": 1}])
    ok(run("ingest", store, more))
    assert run("gate", store, "--json").json["exact"]["hit_rate"]["mean"] == 1.0
    assert "held-out" in ok(run("gate", store, "--held-out")).out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: Input data was truncated"),
        ('{"question": "x"}', "unknown field `question`"),
        ('{"query": "x", "vector": [1.0]}', "line 1: name either a query or a vector"),
        ('{"relevant": ["a"]}', "line 1: name either a query or a vector"),
        ('{"vector": [1.0, 2.0]}', r"shape (2,)"),
        ('{"query": " "}', "the query is empty"),
        ("", "holds no query"),
    ],
)
def test_queries_that_are_none_are_refused(tmp_path: Path, store: Path, line: str, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(line + "\n")
    assert said in run("gate", store, "--queries", path).error
    assert head_of(store).version == 1


def test_a_version_below_the_floor_is_not_published(tmp_path: Path) -> None:
    store = tmp_path / "store"
    ok(run("init", store, "--model", "wordllama", "--tiers", "64", "--recall-floor", "1"))
    records = [
        {"id": f"d{at}", "text": answer, "sequence": 1} for at, (_, answer) in enumerate(questions_and_answers(1500))
    ]
    said = run("ingest", store, write_records(tmp_path / "a.jsonl", records)).error
    assert "tier 64 misses its recall floor" in said
    assert "tierloom gate STORE --floor" in said
    assert head_of(store).version == 0
    ok(run("gate", store, "--floor", 0.9))
    again = ok(run("ingest", store, tmp_path / "a.jsonl"))
    assert "0 paid for" in again.out
    assert head_of(store).gate is not None


@pytest.mark.timeout(900)
def test_what_the_gate_promises_holds_for_queries_that_it_did_not_see(tmp_path: Path) -> None:
    """21,000 real chunks with the default model: questions that the gate measured choose the shortlist, others are
    answered with it."""
    pairs = questions_and_answers(21_000)
    store = tmp_path / "store"
    ok(run("init", store, "--model", "wordllama", "--tiers", "64,128"))
    records = [{"id": f"d{at}", "text": answer, "sequence": 1} for at, (_, answer) in enumerate(pairs)]
    ok(run("ingest", store, write_records(tmp_path / "a.jsonl", records)))
    assert head_of(store).live_chunks >= 20_000
    seen = [{"query": pairs[at][0], "relevant": [f"d{at}"]} for at in range(0, 21_000, 42)]
    ok(run("gate", store, "--queries", write_queries(tmp_path / "q.jsonl", seen)))
    unseen = [at for at in range(0, 21_000, 7) if at % 42]
    with tierloom.open(store) as snapshot:
        gate = snapshot.manifest.gate
        assert gate is not None
        exact = [_documents(snapshot, pairs[at][0], None, 0) for at in unseen]
        for tier in gate.tiers:
            assert tier.safe_shortlist is not None
            found = [_documents(snapshot, pairs[at][0], tier.tier, tier.safe_shortlist) for at in unseen]
            recall = np.mean([len(set(mine) & set(true)) / TOP for mine, true in zip(found, exact, strict=True)])
            lost = _ndcg(exact, unseen) - _ndcg(found, unseen)
            print(f"tier {tier.tier}, shortlist {tier.safe_shortlist}: recall {recall:.4f}, nDCG lost {lost:.4f}")
            assert recall >= gate.floor
            assert abs(lost) <= 0.002


def _documents(snapshot: Snapshot, question: str, tier: str | None, shortlist: int) -> list[str]:
    vector = snapshot.query_vector(question)
    if tier is None:
        found = snapshot.exact(vector, TOP)
    else:
        found = snapshot.candidates(vector, tier=int(tier), shortlist=shortlist, rerank=True).best(TOP)
    return [hit.document_id for hit in snapshot.hits(found)]


def _ndcg(answers: Sequence[Sequence[str]], asked: Sequence[int]) -> float:
    """One relevant document a question: what it gains is set by its rank alone."""
    gains = [
        1 / np.log2(2 + found.index(f"d{at}")) if f"d{at}" in found else 0.0
        for found, at in zip(answers, asked, strict=True)
    ]
    return float(np.mean(gains))
