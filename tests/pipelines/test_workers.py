"""More than one worker process, and index builds in processes of their own."""

from pathlib import Path

import pytest

from index_builder.build_pool import SMALL_ROWS
from tests.embedders.endpoint import Endpoint, error
from tests.pipelines.command_line import (
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

WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Several splits: each file weighs more than one may."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for part in range(4):
        records = [{"id": f"d{part}-{n}", "sequence": 1, "text": f"text {part} {n}", "n": n} for n in range(20)]
        records[0]["padding"] = "y" * (2 << 20)
        write_records(folder / f"{part}.jsonl", records)
    return folder


@pytest.mark.engine
def test_two_worker_processes_make_one_version(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint), "--block-chunks", 8, "--shard-rows", 30)
    finished = run_apart("ingest", store, docs, "--json", *WORKERS)
    assert finished.json["documents"]["live"] == 80
    assert "HTTP Request" not in finished.err
    assert len(live_texts(store)) == 80
    assert endpoint.billed_tokens == finished.json["tokens"] + finished.json["canary_tokens"]
    assert_whole(store)


@pytest.mark.engine
def test_an_error_in_a_worker_process_ends_in_one_line(tmp_path: Path, endpoint: Endpoint, docs: Path) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint))
    endpoint.script = lambda asked: error(401, "no such key")
    finished = run_apart("ingest", store, docs, *WORKERS)
    refusal = f"error: {endpoint.base_url}, asked for test-model: HTTP 401: no such key"
    # Beam's worker prints what was raised in it, whatever its log level; the last line is ours.
    assert (finished.status, finished.err.splitlines()[-1]) == (1, refusal)
    assert "HTTP Request" not in finished.err
    assert head_of(store).version == 0


def test_large_index_shards_are_built_in_processes(tmp_path: Path, endpoint: Endpoint) -> None:
    store = tmp_path / "store"
    init(store, declare(tmp_path, endpoint), tiers="16")
    records = [{"id": f"d{n}", "sequence": 1, "text": f"text {n}"} for n in range(SMALL_ROWS + 100)]
    ok(run("ingest", store, write_records(tmp_path / "r.jsonl", records)))
    [index] = head_of(store).index_shards
    assert index.codes == len(records)
    for n in (0, 1234, SMALL_ROWS + 99):
        assert run("search", store, f"text {n}", "--top", 1, "--json").hits[0]["document_id"] == f"d{n}"
    ok(run("verify", store))
