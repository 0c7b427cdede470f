"""A planted API key reaches the endpoint and nothing else: no object, no log, no message, no job graph."""

import base64
import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import apache_beam as beam
import pytest
from apache_beam.internal import cloudpickle_pickler

from pipelines.beam_options import split_arguments
from pipelines.ingest import Ingest
from pipelines.running import make_job
from tests.embedders.endpoint import Asked, Endpoint, Reply, error
from tests.pipelines.command_line import KEY, KEY_VARIABLE, Finished, declare, init, run, run_apart, write_records
from transforms.job import Job
from transforms.reading.records import Fields

# Whatever is said, at the lowest level there is, by every library.
LOUD = "import logging; logging.basicConfig(level=1, force=True); logging.disable(logging.NOTSET)"


def spellings() -> Iterator[bytes]:
    """The key, and what of it survives being encoded at any offset."""
    yield KEY.encode()
    yield quote(KEY, safe="").encode()
    yield KEY.replace("/", "\\/").encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + KEY.encode())
        yield encoded[4:-4]


def holds_the_key(data: bytes) -> bool:
    return any(spelling in data for spelling in spellings())


def said(finished: Finished) -> bytes:
    return (finished.out + finished.err).encode()


def test_the_search_for_the_key_finds_it() -> None:
    for hidden in (KEY, quote(KEY, safe=""), base64.b64encode(f"x{KEY}y".encode()).decode()):
        assert holds_the_key(f"before {hidden} after".encode())
    assert not holds_the_key(b"nothing here")


def echo(asked: Asked) -> Reply | None:
    """An endpoint that quotes the key that it was sent."""
    key = asked.headers["authorization"]
    if any("poison" in text for text in asked.inputs):
        return error(400, f"bad input for {key}")
    return None


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_records(tmp_path / "r.jsonl", [{"id": id_, "text": id_} for id_ in ("alpha", "poison", "zulu")])


def test_no_object_and_no_log_line_holds_the_key(tmp_path: Path, endpoint: Endpoint, store: Path, source: Path) -> None:
    endpoint.script = echo
    notes = tmp_path / "temporary"
    notes.mkdir()
    # What a worker leaves in a temporary folder stays there to be looked at.
    keep = f"{LOUD}; import tempfile, shutil; tempfile.tempdir = {str(notes)!r}; shutil.rmtree = lambda *a, **k: None"
    commands: list[tuple[object, ...]] = [
        ("ingest", store, source),
        ("dead-letters", store),
        ("dead-letters", store, "--retry"),
        ("search", store, "question"),
        ("show", store, "--json"),
    ]
    for command in commands:
        finished = run_apart(*command, before=keep)
        assert finished.status == 0, finished.err[-2000:]
        assert not holds_the_key(said(finished)), command
    assert any(asked.headers["authorization"] == f"Bearer {KEY}" for asked in endpoint.asked)
    left = [path for folder in (store, notes) for path in folder.rglob("*") if path.is_file()]
    assert any("progress" in str(path) for path in left)
    assert [path for path in left if holds_the_key(path.read_bytes())] == []


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_no_error_holds_the_key(endpoint: Endpoint, store: Path, source: Path, status: int) -> None:
    def quoting(asked: Asked) -> Reply:
        code = "insufficient_quota" if status == 429 else None
        # A refusal of the second kind is final: no test waits for the retries of a 500.
        return error(401 if status == 500 and asked.number else status, asked.headers["authorization"], code)

    endpoint.script = quoting
    finished = run_apart("ingest", store, source, before=LOUD)
    assert finished.status == 1
    assert "[redacted]" in finished.err
    assert not holds_the_key(said(finished))
    assert not holds_the_key(said(run("search", store, "question")))


def job_of(store: Path) -> Job:
    return replace(make_job(str(store), "ingest", Fields()), progress=str(store))


def test_the_job_graph_does_not_hold_the_key(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Beam pickles lies compressed in the graph: it is looked at before.
    pickled: list[bytes] = []
    for compressor in (cloudpickle_pickler.bz2, cloudpickle_pickler.zlib):
        monkeypatch.setattr(compressor, "compress", _recording(compressor.compress, pickled))
    pipeline = beam.Pipeline(options=split_arguments([])[1])
    _ = pipeline | beam.Create([]) | Ingest([job_of(store)])
    graph = pipeline.to_runner_api().SerializeToString()
    assert b"write vector shards" in graph
    assert sum(KEY_VARIABLE.encode() in data for data in pickled) > 5
    assert not any(map(holds_the_key, [graph, *pickled, pickle.dumps(job_of(store))]))


def _recording(compress: Callable[..., bytes], seen: list[bytes]) -> Callable[..., bytes]:
    def recording(data: bytes, *arguments: int, **options: int) -> bytes:
        seen.append(data)
        return compress(data, *arguments, **options)

    return recording


def test_the_log_of_a_run_in_this_process_does_not_hold_the_key(
    endpoint: Endpoint, store: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.script = echo
    assert run("ingest", store, source).status == 0
    assert not holds_the_key(caplog.text.encode())
