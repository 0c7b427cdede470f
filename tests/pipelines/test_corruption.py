"""A flipped byte in any object: named by `verify`, and never a wrong hit."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.pipelines.command_line import (
    Finished,
    assert_whole,
    declare,
    head_of,
    init,
    live_texts,
    ok,
    run,
    run_apart,
    write_records,
)
from tierloom import names

QUESTION = "text 7"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    def script(asked: Asked) -> Reply | None:
        return error(400, "no") if any("poison" in text for text in asked.inputs) else None

    with Endpoint(dimensions=16, script=script) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    """Two versions with an object of every kind: aliases, dead rows, dead letters and tombstones too."""
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint))
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text {n % 15}"} for n in range(20)]
    ok(run("ingest", path, write_records(tmp_path / "a.jsonl", records)))
    changed = [{"id": "d0", "sequence": 2, "text": "changed"}, {"id": "d1", "sequence": 2, "text": "poison"}]
    gone = {"id": "d10", "sequence": 2, "deleted": True}
    ok(run("ingest", path, write_records(tmp_path / "b.jsonl", [*changed, gone])))
    return path


def objects(store: Path) -> dict[str, list[str]]:
    """The names of the objects of the head, by kind."""
    head = head_of(store)
    kinds: dict[str, list[str]] = {}
    for stored in head.objects():
        kinds.setdefault(f"{Path(stored.path).parts[0]}{Path(stored.path).suffix}", []).append(stored.path)
    return kinds | {
        "checkpoints.json": [names.checkpoint(head.collection.checkpoint)],
        "canaries.json": [names.canaries(head.collection.checkpoint)],
        "channels.json": [names.channel(names.LATEST)],
    }


def flip(path: Path, seed: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_every_kind_of_object_is_there(store: Path) -> None:
    assert set(objects(store)) == {
        "shards.parquet",
        "deletes.roaring",
        "indexes.usearch",
        "indexes.aliases",
        "dead-letters.jsonl",
        "tombstones.parquet",
        "files.parquet",
        "gates.npz",
        "checkpoints.json",
        "canaries.json",
        "channels.json",
    }
    assert ok(run("verify", store)).out.endswith(", 0 wrong\n")


def test_verify_names_every_object_that_was_changed(store: Path) -> None:
    for kind, paths in objects(store).items():
        for path in paths:
            whole = (store / path).read_bytes()
            flip(store / path, seed=len(path))
            finished = run("verify", store)
            assert (finished.status, finished.err) == (1, "") or kind == "channels.json", finished
            assert path in finished.out + finished.err, (kind, finished)
            (store / path).write_bytes(whole)
    ok(run("verify", store))


def test_verify_names_what_is_missing_and_what_is_cut_short(store: Path) -> None:
    for paths in objects(store).values():
        whole = (store / paths[0]).read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", whole + b"\0"):
            (store / paths[0]).write_bytes(damaged)
            finished = run("verify", store)
            assert finished.status == 1
            assert paths[0] in finished.out + finished.err
        (store / paths[0]).unlink()
        finished = run("verify", store)
        # Without the channel the newest version is found all the same; canaries are there when something was embedded.
        may_be_missing = paths[0].startswith("channels/") or paths[0].endswith(".canaries.json")
        assert finished.status == (0 if may_be_missing else 1), finished
        (store / paths[0]).write_bytes(whole)
    ok(run("verify", store))


def test_verify_lists_everything_that_is_wrong_at_once(store: Path) -> None:
    damaged = [paths[0] for kind, paths in objects(store).items() if kind != "channels.json"]
    for path in damaged:
        flip(store / path, seed=1)
    finished = run("verify", store)
    assert finished.status == 1
    assert [path for path in damaged if path not in finished.out] == []


def test_a_damaged_manifest_is_refused(store: Path) -> None:
    manifest = names.manifest(2)
    for seed in range(20):
        whole = (store / manifest).read_bytes()
        flip(store / manifest, seed)
        for command in (("verify", store), ("search", store, QUESTION), ("show", store), ("dead-letters", store)):
            finished = run(*command)
            assert finished.status == 1
            assert manifest in finished.error
        (store / manifest).write_bytes(whole)


def agrees(finished: Finished, expected: object, path: str) -> bool:
    """Whether a search refused to answer and named the object, or gave the right answer."""
    if finished.status == 0:
        return bool(json.loads(finished.out)["hits"] == expected)
    return finished.status == 1 and path in finished.error


def test_no_search_answers_from_a_damaged_object(store: Path) -> None:
    expected = run("search", store, QUESTION, "--json").hits
    refused = set()
    for kind, paths in objects(store).items():
        if kind.startswith("indexes"):
            continue
        for path in paths:
            whole = (store / path).read_bytes()
            flip(store / path, seed=2)
            finished = run("search", store, QUESTION, "--json")
            assert agrees(finished, expected, path), (path, finished)
            refused |= {kind} if finished.status else set()
            (store / path).write_bytes(whole)
    assert refused >= {"shards.parquet", "deletes.roaring", "checkpoints.json"}
    assert "dead-letters.jsonl" not in refused


def test_no_search_answers_from_a_damaged_index(store: Path) -> None:
    # Apart: a damaged graph that were opened would take its process along.
    expected = {tier: run("search", store, QUESTION, "--tier", tier, "--json").hits for tier in (8, 16)}
    for index in head_of(store).index_shards:
        for stored in filter(None, (index, index.aliases)):
            path = store / stored.path
            whole = path.read_bytes()
            flip(path, seed=3)
            finished = run_apart("search", store, QUESTION, "--tier", index.parameters.dimensions, "--json")
            assert finished.status == 1, finished
            assert stored.path in finished.error
            path.write_bytes(whole)
    for tier, hits in expected.items():
        assert run("search", store, QUESTION, "--tier", tier, "--json").hits == hits


def test_another_tier_answers_where_one_is_damaged(store: Path) -> None:
    expected = run("search", store, QUESTION, "--tier", 8, "--json").hits
    for index in head_of(store).index_shards_of("16"):
        flip(store / index.path, seed=4)
    assert run("search", store, QUESTION, "--tier", 8, "--json").hits == expected
    assert run("search", store, QUESTION, "--tier", 16).status == 1


@pytest.mark.parametrize("column", ["document_id", "sequence", "key"])
def test_an_ingest_that_would_decide_by_damaged_columns_publishes_nothing(
    tmp_path: Path, store: Path, column: str
) -> None:
    [first, *_] = head_of(store).vector_shards
    path = store / first.path
    stored = pq.read_metadata(path).row_group(0)
    place = next(stored.column(at) for at in range(stored.num_columns) if stored.column(at).path_in_schema == column)
    data = bytearray(path.read_bytes())
    begin = min(place.data_page_offset, place.dictionary_page_offset or place.data_page_offset)
    data[begin + place.total_compressed_size * 2 // 3] ^= 1
    path.write_bytes(data)
    changed = write_records(tmp_path / "c.jsonl", [{"id": "d5", "sequence": 9, "text": "new"}])
    assert first.path in run("ingest", store, changed).error
    assert head_of(store).version == 2


@pytest.mark.parametrize("seed", range(5))
def test_an_ingest_on_top_of_a_damaged_shard_is_refused_or_right(tmp_path: Path, store: Path, seed: int) -> None:
    """What it does not read it does not judge: searching, merging and verifying do."""
    expected = live_texts(store) | {("d5", 0): "new"}
    [first, *_] = head_of(store).vector_shards
    sound = (store / first.path).read_bytes()
    flip(store / first.path, seed)
    changed = write_records(tmp_path / "c.jsonl", [{"id": "d5", "sequence": 9, "text": "new"}])
    ended = run("ingest", store, changed)
    assert run("verify", store).status == 1
    (store / first.path).write_bytes(sound)
    if ended.status:
        assert first.path in ended.error
        assert head_of(store).version == 2
    else:
        assert live_texts(store) == expected
    assert_whole(store)


def test_a_swapped_pair_of_objects_is_refused(store: Path) -> None:
    one, two = (store / index.path for index in head_of(store).index_shards_of("8"))
    one_bytes, two_bytes = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_bytes)
    two.write_bytes(one_bytes)
    assert run("verify", store).status == 1
    assert run_apart("search", store, QUESTION, "--tier", 8).status == 1
