"""What a server says of itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.server.conftest import ENVIRONMENT, rows
from tests.server.serving import DECLARED, Server, collection, declare, point, serving, started
from tests.server.test_refusals import UNIT
from tests.small_shards import Row, make_collection, publish, store_shard
from tierloom.commit import commit
from tierloom.digest import bytes_digest
from tierloom.gate import Estimate, Gate, Quality, Reranked, TierQuality
from tierloom.manifest import Manifest
from tierloom.stored_object import StoredObject
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head

SAMPLE = StoredObject(path="gates/sample.npz", bytes=6, sha256=bytes_digest(b"sample"))


def estimate(mean: float) -> Estimate:
    return Estimate(mean, mean - 0.01, mean + 0.01)


def with_gate(manifest: Manifest) -> Manifest:
    qualities = tuple(
        TierQuality(
            tier=tier,
            alone=Quality(estimate(0.5)),
            reranked=(Reranked(20, Quality(estimate(0.9))), Reranked(50, Quality(estimate(0.97)))),
            safe_shortlist=50,
        )
        for tier in ("4", "8")
    )
    gate = Gate(floor=0.95, source="held-out", queries=100, seed=1, tiers=qualities, sample=SAMPLE)
    return msgspec.structs.replace(manifest, version=manifest.version + 1, gate=gate)


def test_the_version_says_what_is_served(server: Server, store: LocalStore) -> None:
    reply = server.client.get("/v1/version").json()
    head = read_head(store)
    assert (reply["version"], reply["channel"], reply["live_chunks"]) == (2, "prod", 450)
    assert (reply["checkpoint"], reply["model"]) == (head.collection.checkpoint, "small-test-model")
    assert reply["profiles"] == json.loads(msgspec.json.encode(DECLARED.profiles))
    assert (reply["routes"], reply["default"]) == ({"autocomplete": "quick"}, "thorough")
    assert [(tier["name"], tier["kind"], tier["recall"]) for tier in reply["tiers"]] == [
        ("4", "int8", None),
        ("8", "int8", None),
        ("16", "int8", None),
    ]
    assert reply["last_error"] is None


def test_the_version_says_what_the_gate_measured(tmp_path: Path) -> None:
    store = collection(tmp_path / "store", rows())
    store.create(SAMPLE.path, b"sample")
    point(store, commit(store, with_gate).version)
    with serving(store, "--canary", 0) as server:
        tiers = server.client.get("/v1/version").json()["tiers"]
    measured = [(tier["safe_shortlist"], tier["recall"], tier["reranked_recall"]) for tier in tiers]
    assert measured == [(50, 0.5, 0.97), (50, 0.5, 0.97), (None, None, None)]


def test_a_channel_that_cannot_be_followed_is_reported_and_the_old_version_serves(tmp_path: Path) -> None:
    store = collection(tmp_path / "store", rows())
    with serving(store, "--canary", 0, "--interval", 0.05) as server:
        shard = store_shard(store, [Row("new")])
        broken = publish(store, [[shard]])
        path = store.root / shard.path
        path.chmod(0o644)
        whole = path.read_bytes()
        path.write_bytes(b"x" + whole[1:])
        point(store, broken.version)
        while (reply := server.client.get("/v1/version").json())["last_error"] is None:
            pass
        assert "sha256" in reply["last_error"]
        assert (reply["version"], server.search(vector=UNIT)["version"]) == (2, 2)
        assert server.metrics()["tierloom_following_errors_total"] >= 1
        path.write_bytes(whole)
        while server.client.get("/v1/version").json()["version"] != broken.version:
            pass
        metrics = server.metrics()
        assert (metrics["tierloom_version"], metrics["tierloom_channel_moves_total"]) == (broken.version, 1)
        assert server.client.get("/v1/version").json()["last_error"] is None


def test_queries_are_counted_by_what_served_them(server: Server) -> None:
    def counted(before: dict[str, float]) -> dict[str, float]:
        after = server.metrics()
        return {
            name: after[name] - before.get(name, 0)
            for name in after
            if name.startswith("tierloom_queries") and after[name] != before.get(name, 0)
        }

    before = server.metrics()
    server.search(**{"vector": UNIT, "class": "autocomplete"})
    server.search(queries=[UNIT, UNIT], tier=8)
    for unknown in ("x", "y", "{}\n"):
        server.search(**{"vector": UNIT, "class": unknown})
    server.client.post("/v1/search", json={"vector": [1]})
    assert counted(before) == {
        'tierloom_queries_total{class="autocomplete",outcome="ok",profile="quick",tier="4",version="2"}': 1,
        'tierloom_queries_total{class="",outcome="ok",profile="thorough",tier="8",version="2"}': 2,
        'tierloom_queries_total{class="other",outcome="ok",profile="thorough",tier="16",version="2"}': 3,
        'tierloom_queries_total{class="",outcome="QueryError",profile="",tier="",version=""}': 1,
    }
    after = server.metrics()
    steps = {step: after[f'tierloom_step_seconds_count{{step="{step}"}}'] for step in ("embed", "rerank", "describe")}
    assert len(set(steps.values())) == 1
    assert after["tierloom_version"] == 2
    assert after["process_resident_memory_bytes"] > 1 << 20


def test_the_description_names_only_what_it_holds(server: Server) -> None:
    description = server.client.get("/openapi.json").json()
    assert description["openapi"] == "3.0.3"
    assert set(description["paths"]) == {
        *("/v1/search", "/v1/compare", "/v1/version"),
        *("/healthz", "/readyz", "/metrics"),
    }
    values = list(walk(description))
    refs = {value["$ref"] for value in values if "$ref" in value}
    assert refs <= {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert not [value for value in values if value.get("type") == "null"]
    question = description["components"]["schemas"]["Question"]
    assert set(question["properties"]) >= {"query", "vector", "queries", "class", "top", "documents"}


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from walk(part)


def test_one_line_is_logged_for_a_request_and_one_for_an_answer(server: Server) -> None:
    server.client.post("/v1/search?secret=1", json={"vector": UNIT}, headers={"X-Request-Id": "mine-1"})
    server.client.post("/v1/search", json={"vector": UNIT}, headers={"X-Request-Id": 'an odd "one"'})
    access = [line for line in server.log_lines("tierloom.access") if line["request_id"] == "mine-1"]
    answers = [line for line in server.log_lines("tierloom.search") if line.get("request_id") == "mine-1"]
    assert [(line["method"], line["path"], line["status"]) for line in access] == [("POST", "/v1/search", 200)]
    assert access[0]["ms"] > 0
    assert [(line["profile"], line["tier"], line["version"]) for line in answers] == [("thorough", "16", 2)]
    assert "odd" not in server.logged()
    assert "secret" not in server.logged()


def test_an_empty_collection_is_served(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make_collection(store)
    declare(store)
    with serving(store, channel="latest") as server:
        assert server.search(vector=UNIT)["hits"] == []
        assert server.client.get("/v1/version").json()["live_chunks"] == 0


def test_the_canary_compares_what_was_asked_with_exact_search(tmp_path: Path) -> None:
    store = collection(tmp_path / "store", rows())
    with serving(store, "--canary", 0.01, environment=ENVIRONMENT) as server:
        metrics: dict[str, float] = {}
        while metrics.get('tierloom_canary_comparisons_total{profile="quick"}', 0) < 3:
            server.search(**{"vector": UNIT, "class": "autocomplete"})
            server.search(vector=UNIT, profile="quick")
            metrics = server.metrics()
        while metrics.get('tierloom_canary_comparisons_total{profile="thorough"}', 0) < 3:
            server.search(vector=UNIT, top=3)
            metrics = server.metrics()
        exact = {hit["document_id"] for hit in server.search(vector=UNIT, shortlist=450, top=3)["hits"]}
        quick = {hit["document_id"] for hit in server.search(vector=UNIT, profile="quick")["hits"]}
    assert metrics['tierloom_canary_overlap{profile="quick"}'] == pytest.approx(len(exact & quick) / 3)
    assert metrics['tierloom_canary_overlap{profile="thorough"}'] <= 1.0


def test_the_canary_spares_large_collections(tmp_path: Path) -> None:
    store = collection(tmp_path / "store", rows())
    with serving(store, "--canary", 0.01, "--canary-chunks", 449) as server:
        for _ in range(20):
            server.search(vector=UNIT)
        assert not [name for name in server.metrics() if name.startswith("tierloom_canary_comparisons_total")]


def test_until_a_version_is_open_nothing_is_ready(tmp_path: Path) -> None:
    store = collection(tmp_path / "store", rows())
    with started(store) as server:
        first = server.client.get("/readyz")
        assert server.client.get("/healthz").status_code == 200
        if first.status_code != 200:
            assert first.status_code == 503
            assert first.json()["error"]["message"] == "the collection is being opened"
