"""The command line, run in this process or in one of its own, and what a collection must be like after it."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import tierloom
from pipelines.cli import main
from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Endpoint
from tierloom.manifest import Manifest
from tierloom.stores.opening import open_store
from tierloom.versions import read_head

KEY = "sk-planted+0123456789/abcdef=="
KEY_VARIABLE = "TIERLOOM_TEST_KEY"
ROOT = Path(__file__).parents[2]

# Of what happens by lot: the first in each run of the tests, all of them in `make torture`.
SEEDS = (0, pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.long))
# Before a command that is sent Ctrl-C: a shell's `&` has its children ignore it, and these tests may be among them.
HEEDS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"

_PROGRESS = re.compile(r"reading [\d,]+ files?, |[\d,]+ chunks, |version \d+: [\d.]+% of the way")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error of ours, whether for people or in a structured log."""
        lines = [line for line in self.err.splitlines() if not _PROGRESS.match(line)]
        assert self.status in (ExitCode.FAILED, ExitCode.CAPPED, ExitCode.CHANGED, ExitCode.LATER), self
        assert len(lines) == 1, self.err
        if lines[0].startswith("{"):
            line = json.loads(lines[0])
            assert line["level"] == "error", self.err
            return str(line["message"])
        assert lines[0].startswith("error: "), self.err
        return lines[0].removeprefix("error: ")

    @property
    def hits(self) -> list[dict[str, Any]]:
        """What `tierloom search --json` found."""
        hits: list[dict[str, Any]] = self.json["hits"]
        return hits

    @property
    def json(self) -> Any:
        assert self.status == 0, self
        return json.loads(self.out)


def run(*arguments: object) -> Finished:
    """A command in this process: what `tierloom` on a terminal does."""
    # Over bytes, as a terminal's are: click writes to those too.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status = 0
    with (
        mock.patch.object(sys, "argv", ["tierloom", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
    return Finished(status, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def run_apart(*arguments: object, environment: Mapping[str, str] | None = None, before: str = "") -> Finished:
    """A command in a process of its own, after the Python statements `before`."""
    ended = subprocess.run(
        apart(arguments, before), capture_output=True, text=True, timeout=110, env=os.environ | dict(environment or {})
    )
    return Finished(ended.returncode, ended.stdout, ended.stderr)


def apart(arguments: Sequence[object], before: str = "") -> list[str]:
    """The command of a process of its own."""
    program = f"import sys\n{before}\nfrom pipelines.cli import main\nif __name__ == '__main__': main()\n"
    return [sys.executable, "-c", program, *map(str, arguments)]


def ok(finished: Finished) -> Finished:
    assert finished.status == 0, finished
    return finished


def init(store: object, model: object, *options: object, tiers: str = "8,16") -> None:
    ok(run("init", store, "--model", model, "--tiers", tiers, *options))


def declare(folder: Path, endpoint: Endpoint | str, **members: object) -> Path:
    """A TOML file that declares a model of 16 dimensions at an endpoint."""
    base_url = endpoint if isinstance(endpoint, str) else endpoint.base_url
    lines = [
        'provider = "openai"',
        'model = "test-model"',
        *(f"{name} = {json.dumps(value)}" for name, value in ({"dimensions": 16} | members).items()),
        "trained_prefixes = [4, 8, 16]",
        f'endpoint = {{ base_url = "{base_url}", api_key_env = "{KEY_VARIABLE}" }}',
    ]
    path = folder / "model.toml"
    path.write_text("\n".join(lines))
    return path


def write_records(path: Path, records: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def head_of(store: object) -> Manifest:
    return read_head(open_store(str(store)))


def live_texts(store: object) -> dict[tuple[str, int], str]:
    """The text of every live chunk by document id and ordinal; each is there once."""
    with tierloom.open(str(store)) as snapshot:
        chunks = list(snapshot.chunks())
    texts = {(chunk.document_id, chunk.ordinal): chunk.text for chunk in chunks}
    assert len(texts) == len(chunks)
    return texts


def assert_whole(store: object) -> None:
    """Every live chunk is in every tier exactly once, the counts add up, and every object is sound."""
    head, texts = head_of(store), live_texts(store)
    assert head.documents.adds_up
    assert head.live_chunks == len(texts)
    assert len({document_id for document_id, _ in texts}) == head.documents.live
    with tierloom.open(str(store)) as snapshot:
        for tier in head.collection.tiers:
            query = [1.0] * snapshot.checkpoint.space.dimensions
            hits = snapshot.search(query, tier=tier.name, shortlist=10_000, top=10_000)
            assert Counter((hit.document_id, hit.ordinal) for hit in hits) == Counter(texts.keys())
    verified = run("verify", store)
    assert verified.status == 0, verified


def identity_of(counts: Mapping[str, int]) -> bool:
    """`documents in = live + superseded + deleted + dead-lettered`."""
    parts = ("live", "superseded", "deleted", "dead_lettered")
    return counts["documents_in"] == sum(counts[part] for part in parts)
