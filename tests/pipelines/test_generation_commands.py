"""The commands that tell of two generations, and move between them."""

import json
from pathlib import Path

import msgspec
import pytest

from tests.embedders.endpoint import Endpoint
from tests.measured import gate_of
from tests.pipelines.command_line import KEY, KEY_VARIABLE, ok, run
from tests.small_shards import make_collection
from tests.two_generations import (
    NEW,
    OLD,
    QUESTIONS,
    asked_checkpoints,
    asked_generations,
    generation,
    publish_both,
    question,
    rows_of,
    two_generations,
)
from tierloom.manifest import KEY_UNITS
from tierloom.stores.local import LocalStore
from tierloom.versions import read_head

OLD_TOLD = f"small-test-model ({OLD.fingerprint[:8]})"
NEW_TOLD = f"another-test-model ({NEW.fingerprint[:8]})"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    two_generations(store)
    return store


def test_a_channel_is_flipped_and_rolled_back(store: LocalStore) -> None:
    prod = (store.root, "--channel", "prod")
    assert ok(run("promote", store.root, 2, "--channel", "prod")).out == "prod serves version 2; before: nothing\n"
    flipped = ok(run("promote", store.root, 3, "--channel", "prod", "--checkpoint", "another-test-model"))
    assert flipped.out == f"prod serves version 3 of {NEW_TOLD}; before: version 2 of {OLD_TOLD}\n"
    lines = ok(run("channels", *prod)).out.splitlines()
    assert lines[0] == f"prod: version 3 of {NEW_TOLD}"
    assert lines[2] == f"    to {NEW_TOLD}, from {OLD_TOLD}"
    back = ok(run("rollback", *prod))
    assert back.out == f"prod serves version 3 of {OLD_TOLD}; before: version 3 of {NEW_TOLD}\n"
    told = run("promote", store.root, 3, "--channel", "prod", "--checkpoint", NEW.fingerprint[:6], "--json").json
    assert (told["checkpoint"], told["move"]["previous_checkpoint"]) == (NEW.fingerprint, OLD.fingerprint)


def test_latest_is_flipped_by_a_version(store: LocalStore) -> None:
    latest = (store.root, "latest", "--channel", "latest")
    assert "latest follows every publish" in run("promote", *latest).error
    flipped = ok(run("promote", *latest, "--checkpoint", "another-test-model"))
    assert flipped.out == f"latest serves version 4 of {NEW_TOLD}; before: version 3 of {OLD_TOLD}\n"
    assert ok(run("promote", *latest, "--checkpoint", "another-test-model")).out == (
        "latest serves version 4 already\n"
    )
    assert "generation" in run("promote", *latest, "--checkpoint", "unknown").error


def test_show_tells_of_both_generations(store: LocalStore) -> None:
    ok(run("promote", store.root, 3, "--channel", "prod", "--checkpoint", "another-test-model"))
    first, second = ok(run("show", store.root)).out.split("\n\n")[1:]
    assert first.startswith(f"generation {OLD_TOLD}\n  channels      latest\n")
    assert second.startswith(f"generation {NEW_TOLD}\n  channels      prod\n")
    for part, checkpoint in ((first, OLD), (second, NEW)):
        assert f"checkpoint    {checkpoint.fingerprint}: {checkpoint.space.model} (1), 32 dimensions" in part
        assert "live chunks   60 of 60 rows" in part
        assert "gate          passed, floor 0.95" in part
        assert "building" not in part
        assert part.count("vector shards: 1") == 1
    assert len(json.loads(ok(run("show", store.root, "--json")).out)["other"]["vector_shards"]) == 1


def test_show_tells_how_far_a_generation_is(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make_collection(store, OLD, (4,), noise=True)
    front = generation(store, [rows_of("a", 8)], OLD, (4,), gate=gate_of(store, {"4": None}))
    publish_both(store, front, generation(store, [rows_of("a", 3)], NEW, (4,), reached=KEY_UNITS * 3 // 7))
    first, second = ok(run("show", store.root)).out.split("\n\n")[1:]
    assert "gate          tier 4 below the floor of 0.95" in first
    assert "building      42.8 %; 3 of 8 documents are in it" in second
    assert "gate          not measured" in second


def test_one_generation_is_shown_without_a_heading(store: LocalStore) -> None:
    assert "\ngeneration" not in ok(run("show", store.root, 1)).out


def test_history_says_which_channel_serves_which(store: LocalStore) -> None:
    ok(run("promote", store.root, 3, "--channel", "prod", "--checkpoint", "another-test-model"))
    ok(run("promote", store.root, 1, "--channel", "canary"))
    newest, _, oldest, _ = ok(run("history", store.root)).out.splitlines()[1:]
    assert newest.endswith(f"latest ({OLD.fingerprint[:8]}), prod ({NEW.fingerprint[:8]})")
    assert oldest.endswith("  canary")
    told = json.loads(ok(run("history", store.root, "--json", "--last", 1)).out)
    assert told["checkpoints"] == [OLD.fingerprint, NEW.fingerprint]
    assert told["channels"] == ["latest", "prod"]
    assert told["served"] == {"latest": OLD.fingerprint, "prod": NEW.fingerprint}


def test_a_generation_is_measured_by_name(store: LocalStore) -> None:
    ok(run("gate", store.root, "--checkpoint", "another-test-model", "--floor", 0, "--held-out"))
    head = read_head(store)
    front, other = head.generations
    assert head.version == 4
    assert front.gate == read_head(store).gate
    assert front.collection.recall_floor == 0.95
    assert (other.collection.recall_floor, other.checkpoint) == (0, NEW.fingerprint)
    assert other.gate
    assert other.gate.queries == 60
    shown = run("gate", store.root, "--checkpoint", NEW.fingerprint[:9], "--json").json
    assert shown == json.loads(msgspec.json.encode(other.gate))
    assert "no generation" in run("gate", store.root, "--checkpoint", "unknown").error


def test_what_is_being_built_is_not_measured_yet(store: LocalStore) -> None:
    publish_both(store, other=generation(store, [rows_of("three", 5)], reached=17))
    refused = run("gate", store.root, "--checkpoint", "another-test-model", "--held-out")
    assert "its tiers are measured when it is complete" in refused.error


def test_a_flip_is_pulled_and_taken_back(store: LocalStore, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    for checkpoint in ("small-test-model", "another-test-model"):
        ok(run("promote", store.root, 3, "--channel", "prod", "--checkpoint", checkpoint))
        pulled = ok(run("pull", store.root, mirror, "--channel", "prod")).out
    assert f"checkpoint    {NEW_TOLD}" in pulled
    assert f"before it     3 of checkpoint {OLD.fingerprint}, for --rollback" in pulled
    back = ok(run("pull", mirror, "--rollback")).out
    assert back == (
        f"{mirror} serves version 3 of checkpoint {OLD.fingerprint} again, after 3 of checkpoint {NEW.fingerprint}; "
        "the next pull goes forward\n"
    )
    assert run("pull", mirror, "--rollback", "--json").json["checkpoint"] == NEW.fingerprint
    shown = ok(run("show", mirror)).out
    assert f"generation {OLD_TOLD}" in shown
    assert "\n  channels      latest, prod\n" in shown.split("\n\n")[2]
    assert ok(run("verify", mirror)).out.endswith("0 wrong\n")


def test_a_generation_is_searched_by_name(tmp_path: Path) -> None:
    store = tmp_path / "store"
    documents = tmp_path / "documents"
    documents.mkdir()
    for at, text in enumerate(("how to bake bread", "how to sail a boat", "how to prune roses")):
        (documents / f"{at}.txt").write_text(text)
    ok(run("init", store, "--model", "wordllama", "--tiers", "64"))
    ok(run("ingest", store, documents))
    opened = LocalStore(store)
    head = read_head(opened)
    other = generation(opened, [rows_of("a", 3)], NEW, (4,), reached=KEY_UNITS // 2)
    publish_both(opened, other=other)
    for name in ("wordllama", "l2_supercat", head.checkpoint[:10]):
        found = run("search", store, "bread", "--checkpoint", name, "--json").json
        assert (found["hits"][0]["document_id"], found["checkpoint"]) == ("documents/0.txt", head.checkpoint)
    refused = run("search", store, "bread", "--checkpoint", "another-test-model")
    assert refused.status == 1
    assert "this generation is being built: 50 % of the documents are in it" in refused.err


def test_two_generations_stand_side_by_side(store: LocalStore, tmp_path: Path) -> None:
    told = ok(run("compare", store.root, "--sample", 30)).out
    assert told.startswith("version 3, 30 held-out chunks\n")
    lines = told.splitlines()
    assert lines[1].split("  ")[-1] == NEW_TOLD
    assert OLD_TOLD in lines[1]
    assert sum(line.startswith("  tier ") for line in lines) == 3
    assert lines[-1].startswith("the same chunks: 0.")
    assert "built" not in told
    kept = tmp_path / "compared.json"
    kept.write_text(ok(run("compare", store.root, "--sample", 30, "--json")).out)
    ok(run("report", store.root, "-o", tmp_path / "page.html", "--comparison", kept))
    assert "Side by side" in (tmp_path / "page.html").read_text()
    assert "has one generation" in run("compare", store.root, "--version", 1).error
    kept.write_text("{}")
    assert "is no comparison" in run("report", store.root, "--comparison", kept).error


def test_questions_are_judged_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with Endpoint(dimensions=32) as endpoint:
        store = LocalStore(tmp_path / "store")
        asked_generations(store, *asked_checkpoints(endpoint.base_url, KEY_VARIABLE))
        queries = tmp_path / "queries.jsonl"
        asked = [{"query": question(at), "relevant": [f"{at}"]} for at in range(QUESTIONS)]
        queries.write_text("".join(json.dumps(one) + "\n" for one in asked))
        told = ok(run("compare", store.root, "--queries", queries)).out
        assert endpoint.requests == 2
        queries.write_text(json.dumps({"vector": [1.0] * 32}))
        assert "query 1 is a vector" in run("compare", store.root, "--queries", queries).error
    assert "  exact nDCG  " in told
    assert "  embedding  " in told
    ahead = next(line for line in told.splitlines() if "ahead in nDCG" in line)
    assert ahead.startswith("another-test-model (")
    assert "ahead in nDCG by -0." in ahead
    assert "chance" not in ahead
