"""What the server answers is what the library answers."""

import os
from typing import Any
from unittest import mock

import numpy as np
import pytest

import tierloom
from tests.server.conftest import ENVIRONMENT
from tests.server.serving import DIMENSIONS, Server
from tierloom.answer import Answer
from tierloom.snapshot import Snapshot
from tierloom.stores.local import LocalStore

VECTOR = np.random.default_rng(3).standard_normal(DIMENSIONS).round(6).tolist()
FURTHER = np.random.default_rng(4).standard_normal(DIMENSIONS).round(6).tolist()


@pytest.fixture(scope="module")
def snapshot(store: LocalStore) -> Any:
    with mock.patch.dict(os.environ, ENVIRONMENT), tierloom.open(store.root, channel="prod") as opened:
        yield opened


def expected(answer: Answer, text: bool = True) -> dict[str, Any]:
    """Everything but the times."""
    hits = [
        {"document_id": hit.document_id, "ordinal": hit.ordinal, "score": pytest.approx(hit.score)}
        | ({"heading": hit.heading, "text": hit.text, "metadata": hit.metadata} if text else {})
        for hit in answer
    ]
    named = ("profile", "tier", "dimensions", "version", "checkpoint", "shortlist", "candidates", "reranked")
    return {"hits": hits, "class": answer.query_class, **{name: getattr(answer, name) for name in named}}


def without_times(reply: dict[str, Any]) -> dict[str, Any]:
    assert list(reply["milliseconds"]) == ["embed", "shortlist", "narrow", "rerank", "describe"]
    assert all(took >= 0 for took in reply["milliseconds"].values())
    return {name: value for name, value in reply.items() if name != "milliseconds"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top": 7},
        {"tier": 8, "shortlist": 20},
        {"tier": "4", "rerank": False},
        {"profile": "quick"},
        {"profile": "quick", "rerank": True, "top": 4},
        {"documents": ["document-3", "document-7", "no such"]},
        {"documents": []},
        {"by_document": True, "top": 20},
    ],
    ids=str,
)
def test_options_are_those_of_the_library(server: Server, snapshot: Snapshot, options: dict[str, Any]) -> None:
    assert without_times(server.search(vector=VECTOR, **options)) == expected(snapshot.search(VECTOR, **options))


def test_a_class_gets_its_route(server: Server, snapshot: Snapshot) -> None:
    reply = server.search(**{"vector": VECTOR, "class": "autocomplete"})
    assert without_times(reply) == expected(snapshot.search(VECTOR, query_class="autocomplete"))
    assert (reply["profile"], reply["tier"], len(reply["hits"])) == ("quick", "4", 3)
    assert server.search(**{"vector": VECTOR, "class": "no such"})["profile"] == "thorough"


def test_a_question_is_embedded_by_the_model(server: Server, snapshot: Snapshot) -> None:
    asked = "which vector has this text?"
    assert without_times(server.search(query=asked)) == expected(snapshot.search(asked))


def test_a_batch_is_answered_in_its_order(server: Server, snapshot: Snapshot) -> None:
    queries = [VECTOR, "some text", FURTHER]
    reply = server.search(queries=queries, top=2)
    assert [without_times(answer) for answer in reply["answers"]] == [
        expected(answer) for answer in snapshot.search_many(queries, top=2)
    ]
    assert server.search(queries=[]) == {"answers": []}


def test_without_text_there_are_ids_and_scores(server: Server, snapshot: Snapshot) -> None:
    reply = server.search(vector=VECTOR, text=False)
    assert without_times(reply) == expected(snapshot.search(VECTOR, describe=False), text=False)


def test_a_vector_may_say_its_checkpoint(server: Server, snapshot: Snapshot) -> None:
    own = snapshot.manifest.collection.checkpoint
    assert server.search(vector=VECTOR, checkpoint=own)["checkpoint"] == own


def test_tiers_are_compared_with_exact_search(server: Server, snapshot: Snapshot) -> None:
    question = "how do tiers compare?"
    reply = server.client.post("/v1/compare", json={"query": question, "top": 5}).json()
    lanes = {lane["name"]: lane for lane in reply["lanes"]}
    assert list(lanes) == ["exact", *(f"{tier} {way}" for tier in (4, 8, 16) for way in ("alone", "reranked"))]
    vector = snapshot.query_vector(question)
    exact = [(hit.document_id, hit.ordinal) for hit in snapshot.hits(snapshot.exact(vector, 5))]
    for tier, rerank in ((tier, rerank) for tier in (4, 8, 16) for rerank in (False, True)):
        lane = lanes[f"{tier} {'reranked' if rerank else 'alone'}"]
        answer = snapshot.search(vector, tier=tier, rerank=rerank, top=5, shortlist=None if rerank else 5)
        found = [(hit.document_id, hit.ordinal) for hit in answer]
        assert [(hit["document_id"], hit["ordinal"]) for hit in lane["hits"]] == found
        assert [hit.get("place") for hit in lane["hits"]] == [
            exact.index(hit) + 1 if hit in exact else None for hit in found
        ]
        assert lane["overlap"] == len({*found} & {*exact}) / 5
    assert (lanes["exact"]["overlap"], reply["reference"]) == (1.0, "exact")
    assert lanes["4 alone"]["overlap"] < lanes["16 reranked"]["overlap"]
