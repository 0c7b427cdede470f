"""Answers by profile, class, filter and document, against oracles in numpy."""

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tierloom
from tests.embedders.endpoint import Endpoint
from tests.small_shards import CHECKPOINT, Row, make_collection, publish, store_shard, with_dead
from tierloom.answer import STEPS
from tierloom.document import document_key
from tierloom.errors import CheckpointError, QueryError
from tierloom.gate import Estimate, Gate, Quality, TierQuality
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.routing import MOST, route, served_tiers
from tierloom.search_options import RouteOptions
from tierloom.serving import DEFAULT_SHORTLIST, Narrowing, Profile, Serving
from tierloom.shards.columns import ShardColumns
from tierloom.snapshot import Snapshot
from tierloom.stored_object import StoredObject
from tierloom.stores.local import LocalStore
from tierloom.version_rows import VersionRows

QUERIES = np.random.default_rng(5).standard_normal((12, 32)).astype(np.float32)
SERVING = Serving(
    profiles={
        "quick": Profile(tier="4", rerank=False, top=5),
        "careful": Profile(tier="8", shortlist=60, top=3),
        "funnel": Profile(tier="4", shortlist=150, funnel=(Narrowing(8, 80), Narrowing(16, 30)), rerank=True, top=10),
        "dry-funnel": Profile(tier="4", shortlist=150, funnel=(Narrowing(16, 30),), rerank=False, top=10),
    },
    routes={"autocomplete": "quick", "analyst": "careful"},
    default="careful",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Two vector shards of documents with one to five chunks, some dead."""
    store = LocalStore(tmp_path_factory.mktemp("store"))
    make_collection(store)
    rows = [
        Row(f"{at}", ordinal, 1, f"text {at}", "h", '{"at": 1}') for at in range(100) for ordinal in range(1 + at % 5)
    ]
    shards = [store_shard(store, rows[:170]), store_shard(store, rows[170:])]
    publish(store, [[with_dead(store, shards[0], range(0, 170, 7)), shards[1]]])
    return store


def served(store: LocalStore, serving: Serving = SERVING, gate: Gate | None = None) -> Snapshot:
    manifest = tierloom.open(store.root).manifest
    collection = msgspec.structs.replace(manifest.collection, serving=serving)
    changed = msgspec.structs.replace(manifest, collection=collection, gate=gate)
    return Snapshot(changed, CHECKPOINT, ObjectFiles(store))


@pytest.fixture(scope="module")
def snapshot(store: LocalStore) -> Snapshot:
    return served(store)


class Oracle:
    """Every live chunk with its vector and prefix, scored in float64."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.chunks = list(snapshot.chunks(vectors=True))
        self.vectors = np.array([chunk.vector for chunk in self.chunks], dtype=np.float64)

    def exact(self, query: NDArray[Any]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = self.vectors @ (query.astype(np.float64) / np.linalg.norm(query))
        return scores

    def prefixes(self, query: NDArray[Any], dimensions: int) -> NDArray[np.float64]:
        """Estimated cosines by int8 prefixes, whose stored scale is that of the largest of 16 components."""
        codes = np.rint(self.vectors[:, :16] / np.abs(self.vectors[:, :16]).max(axis=1, keepdims=True) * 127)
        asked = np.rint(query[:dimensions] / np.abs(query[:dimensions]).max() * 127).astype(np.float64)
        cut = codes[:, :dimensions]
        scores: NDArray[np.float64] = cut @ asked / np.linalg.norm(cut, axis=1) / np.linalg.norm(asked)
        return scores

    def names(self, order: NDArray[np.int64]) -> list[tuple[str, int]]:
        return [(self.chunks[at].document_id, self.chunks[at].ordinal) for at in order]


@pytest.fixture(scope="module")
def oracle(snapshot: Snapshot) -> Oracle:
    return Oracle(snapshot)


def names_of(answer: tierloom.Answer) -> list[tuple[str, int]]:
    return [(hit.document_id, hit.ordinal) for hit in answer]


def quality(tier: str, safe: int | None) -> TierQuality:
    return TierQuality(tier, Quality(Estimate(0.5, 0.4, 0.6)), (), safe)


def gate_of(*tiers: TierQuality) -> Gate:
    return Gate(0.95, "held-out", 10, 0, tiers, StoredObject(path="gate/x", bytes=1, sha256="0" * 64))


# Routing


@pytest.mark.parametrize(
    ("asked", "profile", "tier", "top", "reranked", "routed"),
    [
        ({}, "careful", "8", 3, True, False),
        ({"query_class": "autocomplete"}, "quick", "4", 5, False, True),
        ({"query_class": "analyst"}, "careful", "8", 3, True, True),
        ({"query_class": "nobody declared this"}, "careful", "8", 3, True, False),
        ({"profile": "funnel"}, "funnel", "4", 10, True, False),
        ({"query_class": "autocomplete", "profile": "careful"}, "careful", "8", 3, True, True),
        ({"query_class": "autocomplete", "tier": 16}, "quick", "16", 5, False, True),
        ({"query_class": "autocomplete", "rerank": True, "top": 2}, "quick", "4", 2, True, True),
        ({"profile": Profile(tier="16", top=1)}, "given", "16", 1, True, False),
    ],
)
def test_a_query_is_routed(
    snapshot: Snapshot, asked: dict[str, Any], profile: str, tier: str, top: int, reranked: bool, routed: bool
) -> None:
    answer = snapshot.search(QUERIES[0], **asked)
    assert (answer.profile, answer.tier, len(answer), answer.reranked) == (profile, tier, top, reranked)
    assert (answer.query_class, answer.routed) == (asked.get("query_class"), routed)
    assert (answer.version, answer.checkpoint) == (1, CHECKPOINT.fingerprint)
    assert answer.dimensions == int(tier)


def test_without_a_default_the_largest_int8_tier_is_reranked(store: LocalStore) -> None:
    manifest = tierloom.open(store.root).manifest
    binary = msgspec.structs.replace(manifest.collection.tiers[0], name="32-binary", dimensions=32, kind="binary")
    tiers = (*manifest.collection.tiers, binary)
    changed = msgspec.structs.replace(manifest, collection=msgspec.structs.replace(manifest.collection, tiers=tiers))
    chosen = route(changed, RouteOptions())
    assert (chosen.profile, chosen.tier.name, chosen.rerank, chosen.top) == ("default", "16", True, 10)
    assert chosen.shortlist == DEFAULT_SHORTLIST


def manifest_with(store: LocalStore, gate: Gate | None) -> Manifest:
    return served(store, SERVING, gate).manifest


def test_the_shortlist_is_the_safe_one_of_the_gate(store: LocalStore) -> None:
    manifest = manifest_with(store, gate_of(quality("4", None), quality("16", 50)))
    assert route(manifest, RouteOptions(tier=16, profile="quick", rerank=True)).shortlist == 50
    assert route(manifest, RouteOptions(tier=4, profile="quick", rerank=True)).shortlist == DEFAULT_SHORTLIST
    assert route(manifest, RouteOptions(profile="careful", tier=16)).shortlist == 60
    assert route(manifest, RouteOptions(tier=16, shortlist=7, top=3)).shortlist == 7
    assert route(manifest, RouteOptions(tier=16, shortlist=7, top=30)).shortlist == 30
    assert route(manifest, RouteOptions(profile="quick")).shortlist == 5


def test_what_profiles_search_on_is_served(store: LocalStore) -> None:
    manifest = manifest_with(store, None)
    assert {tier.name for tier in served_tiers(manifest.collection)} == {"4", "8"}
    plain = tierloom.open(store.root).manifest.collection
    assert [tier.name for tier in served_tiers(plain)] == ["16"]


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"profile": "slow"}, QueryError, "no profile 'slow'; it has careful, dry-funnel, funnel, quick"),
        ({"tier": "64-binary"}, CheckpointError, "no tier 64-binary; it has 4, 8, 16"),
        ({"profile": Profile(tier="5")}, CheckpointError, "no tier 5"),
        ({"profile": Profile(tier="4", funnel=(Narrowing(17, 5),))}, QueryError, "17.*16"),
        ({"top": 0}, QueryError, "at least 1"),
        ({"shortlist": -1}, QueryError, "at least 1"),
        ({"top": MOST + 1}, QueryError, f"at most {MOST}"),
        ({"shortlist": MOST + 1}, QueryError, f"at most {MOST}"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    snapshot: Snapshot, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        snapshot.search(QUERIES[0], **asked)


# Profiles


def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fixed-width columns that are read from now on."""
    columns: list[str] = []

    def watched(owner: Any, method: str) -> None:
        original = getattr(owner, method)

        def noted(self: Any, name: str, *arguments: Any) -> Any:
            columns.append(name)
            return original(self, name, *arguments)

        monkeypatch.setattr(owner, method, noted)

    watched(VersionRows, "gather")
    for method in ("gather", "column", "page", "place_of_column"):
        watched(ShardColumns, method)
    return columns


@pytest.mark.parametrize(
    ("profile", "touches", "not_touches"),
    [
        ("quick", set(), {"vector", "prefix"}),
        ("careful", {"vector"}, {"prefix"}),
        ("funnel", {"prefix", "vector"}, set()),
        ("dry-funnel", {"prefix"}, {"vector"}),
    ],
)
@pytest.mark.parametrize("by_document", [False, True])
def test_a_profile_touches_what_it_says(
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    touches: set[str],
    not_touches: set[str],
    by_document: bool,
) -> None:
    columns = touched(monkeypatch)
    assert len(snapshot.search(QUERIES[0], profile=profile, by_document=by_document))
    assert touches <= set(columns)
    assert not not_touches & set(columns)


def test_a_funnel_keeps_the_best_of_each_step(snapshot: Snapshot, oracle: Oracle) -> None:
    for query in QUERIES:
        left = np.argsort(-oracle.prefixes(query, 4), kind="stable")[:150]
        for dimensions, keep in ((8, 80), (16, 30)):
            left = left[np.argsort(-oracle.prefixes(query, dimensions)[left], kind="stable")[:keep]]
        expected = left[np.argsort(-oracle.exact(query)[left], kind="stable")[:10]]
        answer = snapshot.search(query, profile="funnel")
        assert names_of(answer) == oracle.names(expected)
        assert np.allclose([hit.score for hit in answer], oracle.exact(query)[expected], atol=1e-5)
        assert (answer.candidates, answer.shortlist) == (150, 150)
        assert all(answer.seconds[step] > 0 for step in ("shortlist", "narrow", "rerank", "describe"))


def test_a_funnel_without_reranking_ends_with_prefix_scores(snapshot: Snapshot, oracle: Oracle) -> None:
    for query in QUERIES:
        answer = snapshot.search(query, profile="dry-funnel")
        scores = dict(zip(oracle.names(np.arange(len(oracle.chunks))), oracle.prefixes(query, 16), strict=True))
        assert np.allclose([hit.score for hit in answer], [scores[name] for name in names_of(answer)], atol=1e-6)
        assert answer.seconds["rerank"] == 0


def test_a_binary_tier_is_oversampled_and_rescored(tmp_path: Path) -> None:
    """By itself, narrowed by prefixes, and reranked: each step knows more."""
    store = LocalStore(tmp_path)
    make_collection(store, tiers=("8-binary", 16))
    publish(store, [[store_shard(store, [Row(f"{at}") for at in range(200)])]])
    with tierloom.open(store.root) as snapshot:
        oracle = Oracle(snapshot)
        assert route(snapshot.manifest, RouteOptions()).tier.name == "16"
        for query in QUERIES:
            best = oracle.names(np.argsort(-oracle.exact(query), kind="stable")[:10])
            assert names_of(snapshot.search(query, tier="8-binary", shortlist=200)) == best
            alone = snapshot.search(query, tier="8-binary", rerank=False)
            funnel = (Narrowing(16, 10),)
            narrowed = snapshot.search(
                query, profile=Profile(tier="8-binary", shortlist=200, funnel=funnel, rerank=False)
            )
            assert [hit.score for hit in narrowed] == pytest.approx(
                np.sort(oracle.prefixes(query, 16))[::-1][:10].tolist(), abs=1e-5
            )
            assert (alone.tier, alone.dimensions, len(alone)) == ("8-binary", 8, 10)


# Documents


@pytest.mark.parametrize("documents", [["7"], ["7", "8", "44", "99"], {"0", "nobody"}, [str(at) for at in range(100)]])
@pytest.mark.parametrize("rerank", [True, False])
def test_a_filter_is_exact(snapshot: Snapshot, oracle: Oracle, documents: Any, rerank: bool) -> None:
    for query in QUERIES[:4]:
        scores = oracle.exact(query) if rerank else oracle.prefixes(query, 16)
        mine = np.array([at for at, chunk in enumerate(oracle.chunks) if chunk.document_id in set(documents)], np.int64)
        expected = mine[np.argsort(-scores[mine], kind="stable")][:5]
        answer = snapshot.search(query, documents=documents, tier=16, rerank=rerank, top=5)
        assert [hit.score for hit in answer] == pytest.approx(scores[expected].tolist(), abs=1e-5)
        assert set(names_of(answer)) == set(oracle.names(expected))
        assert answer.candidates == len(mine)


@pytest.mark.parametrize("documents", [[], ["nobody"], ["", "text"]])
@pytest.mark.parametrize("by_document", [False, True])
@pytest.mark.parametrize("rerank", [True, False])
def test_a_filter_that_nothing_passes_answers_nothing(
    snapshot: Snapshot, documents: list[str], by_document: bool, rerank: bool
) -> None:
    answer = snapshot.search(QUERIES[0], documents=documents, by_document=by_document, rerank=rerank)
    assert (len(answer), answer.candidates) == (0, 0)


@pytest.mark.parametrize("profile", ["quick", "careful", "funnel", "dry-funnel"])
@pytest.mark.parametrize("top", [1, 10, 60, 100, 500])
def test_the_best_chunk_stands_for_its_document(snapshot: Snapshot, oracle: Oracle, profile: str, top: int) -> None:
    for query in QUERIES[:4]:
        answer = snapshot.search(query, profile=profile, by_document=True, top=top)
        found = [hit.document_id for hit in answer]
        assert len(set(found)) == len(found)
        live = len({chunk.document_id for chunk in oracle.chunks})
        # A small shortlist is enlarged until there are enough documents.
        assert len(found) == min(top, live)


@pytest.mark.parametrize("documents", [None, ["3", "4", "19", "64"]])
def test_the_best_documents_are_those_of_an_exact_search(
    snapshot: Snapshot, oracle: Oracle, documents: list[str] | None
) -> None:
    for query in QUERIES:
        best: dict[str, float] = {}
        for chunk, score in zip(oracle.chunks, oracle.exact(query), strict=True):
            if documents is None or chunk.document_id in documents:
                best[chunk.document_id] = max(score, best.get(chunk.document_id, -1))
        expected = sorted(best, key=lambda name: -best[name])[:10]
        answer = snapshot.search(query, shortlist=1000, top=10, by_document=True, documents=documents)
        assert [hit.document_id for hit in answer] == expected
        assert [hit.score for hit in answer] == pytest.approx([best[name] for name in expected], abs=1e-5)


def colliding(document_id: str) -> int:
    """Keys of which every one is shared by several documents."""
    return document_key(document_id) if document_id == "a" else document_key("b")


def test_documents_whose_keys_collide_are_told_apart(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    make_collection(store)
    rows = [Row(name, ordinal) for name in "abcd" for ordinal in range(3)]
    publish(store, [[store_shard(store, rows, key_of=colliding)]])
    with tierloom.open(store.root) as snapshot:
        answer = snapshot.search(QUERIES[0], by_document=True)
        assert sorted(hit.document_id for hit in answer) == ["a", "b", "c", "d"]
        assert {hit.document_id for hit in snapshot.search(QUERIES[0], documents=["b"])} == {"b"}


# What an answer says


def test_an_answer_is_a_sequence_of_its_hits(snapshot: Snapshot) -> None:
    answer = snapshot.search(QUERIES[0])
    assert list(answer) == [answer[0], *answer[1:]] == list(answer.hits)
    assert len(answer) == 3
    assert answer
    assert not snapshot.search(QUERIES[0], documents=[])


def test_an_answer_need_not_be_described(snapshot: Snapshot) -> None:
    full, bare = (snapshot.search(QUERIES[0], top=20, describe=describe) for describe in (True, False))
    assert names_of(full) == names_of(bare)
    assert [hit.score for hit in full] == [hit.score for hit in bare]
    assert all((hit.heading, hit.text, hit.metadata) == ("", "", {}) for hit in bare)
    assert all((hit.heading, hit.text, hit.metadata) == ("h", f"text {hit.document_id}", {"at": 1}) for hit in full)


def test_each_answer_is_one_line_of_the_log(snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tierloom.search")
    answer = snapshot.search(QUERIES[0], query_class="autocomplete")
    (message,) = caplog.messages
    line = json.loads(message)
    assert line.pop("milliseconds") == {step: round(1000 * answer.seconds[step], 3) for step in STEPS}
    assert line == {
        "class": "autocomplete",
        "profile": "quick",
        "tier": "4",
        "version": 1,
        "checkpoint": CHECKPOINT.fingerprint,
        "dimensions": 4,
        "shortlist": 5,
        "candidates": 5,
        "hits": 5,
    }


def test_no_line_is_made_that_nobody_wants(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierloom.answering._line", lambda _: pytest.fail("made"))
    assert snapshot.search(QUERIES[0])


# Batches


@pytest.mark.parametrize("asked", [{}, {"profile": "funnel"}, {"by_document": True}, {"documents": ["3", "4"]}])
def test_a_batch_answers_as_one_by_one(snapshot: Snapshot, asked: dict[str, Any]) -> None:
    together = snapshot.search_many(list(QUERIES), **asked)
    assert together == [snapshot.search(query, **asked) for query in QUERIES]
    assert snapshot.search_many(QUERIES, **asked) == together
    assert snapshot.search_many([]) == []


def test_the_texts_of_a_batch_share_requests(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    texts = [f"question {at}" for at in range(30)]
    mixed = [*texts[:10], QUERIES[0], *texts[10:]]
    with Endpoint(dimensions=32) as endpoint:
        reached = msgspec.structs.replace(
            CHECKPOINT,
            limits=msgspec.structs.replace(CHECKPOINT.limits, inputs_per_request=20),
            endpoint=msgspec.structs.replace(CHECKPOINT.endpoint, base_url=endpoint.base_url),
        )
        with Snapshot(tierloom.open(store.root).manifest, reached, ObjectFiles(store)) as snapshot:
            together = snapshot.search_many(mixed)
            assert sorted(len(request.inputs) for request in endpoint.asked) == [10, 20]
            assert together == [snapshot.search(query) for query in mixed]
            assert together[10].hits == snapshot.search(QUERIES[0]).hits


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_profiles_are_exact_when_they_take_everything(data: st.DataObject, snapshot: Snapshot, oracle: Oracle) -> None:
    """Whatever the tier, steps and top: with all rows kept in every step the answer is the exact one."""
    tier = data.draw(st.sampled_from(["4", "8", "16"]))
    funnel = tuple(Narrowing(d, 1000) for d in data.draw(st.lists(st.sampled_from([4, 8, 12, 16]), max_size=3)))
    top = data.draw(st.integers(1, 400))
    query = QUERIES[data.draw(st.integers(0, 11))]
    answer = snapshot.search(query, profile=Profile(tier=tier, shortlist=1000, funnel=funnel, top=top))
    scores = np.sort(oracle.exact(query))[::-1][:top]
    assert np.allclose([hit.score for hit in answer], scores, atol=1e-5)
