"""More vector shards than a process may open files to begin with."""

import resource
from pathlib import Path

from tests.pipelines.command_line import init, ok, run_apart, write_records


def test_a_run_may_have_more_shards_than_files_may_be_open_at_first(tmp_path: Path) -> None:
    store = tmp_path / "store"
    init(store, "wordllama", "--block-chunks", 4, tiers="64")
    source = write_records(tmp_path / "r.jsonl", [{"id": f"d{n}", "text": f"text number {n}"} for n in range(300)])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, {most}))"
    ok(run_apart("ingest", store, source, before=few))
