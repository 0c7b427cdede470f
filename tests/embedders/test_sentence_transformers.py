"""Models of sentence-transformers in this process, against the library's own way and against wordllama."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.embedders.conftest import bounds
from tests.embedders.small_models import DIMENSIONS, LONGEST, save_static, save_transformer
from tierloom.checkpoint import Checkpoint
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import embed_queries, open_embedder, open_query_embedder
from tierloom.errors import CheckpointError, EmbedderRefused, QueryError

# The first of them waits for the library to be fetched, and all wait for it to be imported.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.usefixtures("sentence_transformers")]

TEXTS = ["short", "a much longer text than any of the others here", "b", "words " * 8, "of middling length", "tea"]


@pytest.fixture(scope="module")
def folder(sentence_transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_transformer(tmp_path_factory.mktemp("models"))


Declare = Callable[..., Checkpoint]


@pytest.fixture
def declare(tmp_path: Path) -> Declare:
    """A checkpoint of a folder, declared with these further lines."""

    def declared(folder: Path, *lines: str, dimensions: int = DIMENSIONS, device: str = "cpu") -> Checkpoint:
        path = tmp_path / "model.toml"
        endpoint = f'endpoint = {{ folder = "{folder}", device = "{device}" }}'
        first = f'provider = "sentence-transformers"\nmodel = "small"\ndimensions = {dimensions}'
        path.write_text("\n".join([first, *lines, endpoint]))
        return declared_checkpoint(str(path))

    return declared


def by_the_library(folder: Path, texts: list[str], **options: Any) -> np.ndarray:
    """One text at a time: nothing is padded."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.stack([model.encode(text, prompt="", show_progress_bar=False, **options) for text in texts])


def test_vectors_are_those_of_the_library_whatever_their_batches(folder: Path, declare: Declare) -> None:
    wanted = by_the_library(folder, TEXTS)
    for limits in ("inputs_per_request = 256", "inputs_per_request = 2", "tokens_per_request = 60"):
        embedder = open_embedder(declare(folder, f"limits = {{ {limits} }}"))
        embedded = embedder.embed(TEXTS, bounds(TEXTS))
        assert embedded.vectors.dtype == np.float32
        assert embedded.rejected == {}
        assert np.allclose(embedded.vectors, wanted, atol=1e-5)
        # A token a character, and two around each text.
        assert embedded.tokens == sum(len(text.replace(" ", "")) + 2 for text in TEXTS)


def test_what_the_library_would_cut_is_rejected_alone(folder: Path, declare: Declare) -> None:
    fits, cut = "x" * (LONGEST - 2), "x" * (LONGEST - 1)
    library = by_the_library(folder, [cut, cut + "and what nobody reads"])
    assert np.allclose(library[0], library[1], atol=1e-6)
    embedder = open_embedder(declare(folder))
    embedded = embedder.embed(["tea", cut, fits], bounds(["tea", cut, fits]))
    assert {at: one.reason for at, one in embedded.rejected.items()} == {1: "too-many-tokens"}
    assert f"{LONGEST + 1} tokens; the model takes {LONGEST}" in embedded.rejected[1].detail
    assert np.allclose(embedded.vectors[[0, 2]], by_the_library(folder, ["tea", fits]), atol=1e-5)
    with pytest.raises(QueryError, match=str(LONGEST)):
        embed_queries(embedder, declare(folder), [cut])


def test_texts_without_a_vector_are_rejected_alone(folder: Path, declare: Declare) -> None:
    embedded = open_embedder(declare(folder)).embed(["tea", "", "\ud800", "cup"], [1, 0, 3, 1])
    assert {at: one.reason for at, one in embedded.rejected.items()} == {1: "empty-input", 2: "invalid-unicode"}
    assert np.all(np.linalg.norm(embedded.vectors[[0, 3]], axis=1) > 0)
    assert open_embedder(declare(folder)).embed([], []).vectors.shape == (0, DIMENSIONS)


def test_threads_may_share_it(folder: Path, declare: Declare) -> None:
    embedder = open_embedder(declare(folder))
    wanted = embedder.embed(TEXTS, bounds(TEXTS)).vectors
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: embedder.embed(TEXTS, bounds(TEXTS)).vectors, range(12)))
    assert all(np.allclose(vectors, wanted, atol=1e-6) for vectors in found)


def test_limits_and_tokenizer_are_read_from_the_folder(folder: Path, declare: Declare) -> None:
    checkpoint = declare(folder)
    assert checkpoint.limits.tokens_per_input == LONGEST
    assert checkpoint.tokenizer == f"huggingface:{folder}/tokenizer.json"
    with pytest.raises(CheckpointError, match=f"more than the {LONGEST} tokens"):
        declare(folder, f"limits = {{ tokens_per_input = {LONGEST + 1} }}")
    assert declare(folder, "limits = { tokens_per_input = 9 }").limits.tokens_per_input == 9


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_another_space(folder: Path, declare: Declare, precision: str) -> None:
    whole, half = declare(folder), declare(folder, f'half_precision = "{precision}"')
    assert whole.fingerprint != half.fingerprint
    full, rounded = (open_embedder(one).embed(TEXTS, bounds(TEXTS)).vectors for one in (whole, half))
    assert not np.array_equal(full, rounded)
    cosines = (full * rounded).sum(axis=1) / np.linalg.norm(full, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.995


def test_where_it_runs_is_no_part_of_its_identity(
    folder: Path, declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = declare(folder), declare(folder, device="cuda:7")
    assert here.fingerprint == there.fingerprint
    with pytest.raises(EmbedderRefused, match=r"on device cuda:7 \(another one: TIERLOOM_DEVICE\)"):
        open_embedder(there)
    monkeypatch.setenv("TIERLOOM_DEVICE", "cpu")
    assert open_embedder(there).embed(["tea"], [9]).rejected == {}


def test_other_files_are_another_model(folder: Path, declare: Declare, tmp_path: Path) -> None:
    checkpoint = declare(folder)
    moved = tmp_path / "small"
    subprocess.run(["cp", "-r", str(folder), str(moved)], check=True)
    assert declare(moved).fingerprint == checkpoint.fingerprint
    (moved / "README.md").write_text("What is not the model is no part of it.")
    assert declare(moved).fingerprint == checkpoint.fingerprint
    settings = json.loads((moved / "1_Pooling" / "config.json").read_text())
    (moved / "1_Pooling" / "config.json").write_text(json.dumps(settings | {"pooling_mode": "cls"}))
    assert declare(moved).fingerprint != checkpoint.fingerprint
    swapped = msgspec.structs.replace(checkpoint, endpoint=declare(moved).endpoint)
    with pytest.raises(EmbedderRefused, match=f"not {checkpoint.space.revision}"):
        open_embedder(swapped)
    with pytest.raises(CheckpointError, match="holds revision"):
        declare(moved, f'revision = "{checkpoint.space.revision}"')


def test_on_another_machine_it_may_lie_elsewhere(
    folder: Path, declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "declared here"
    subprocess.run(["cp", "-r", str(folder), str(moved)], check=True)
    checkpoint = declare(moved)
    moved.rename(tmp_path / "small")
    with pytest.raises(EmbedderRefused, match="TIERLOOM_MODELS"):
        open_query_embedder(checkpoint)
    monkeypatch.setenv("TIERLOOM_MODELS", str(tmp_path))
    assert embed_queries(open_query_embedder(checkpoint), checkpoint, ["tea"]).shape == (1, DIMENSIONS)


def test_dimensions_that_are_not_its_own_are_refused(folder: Path, declare: Declare) -> None:
    with pytest.raises(EmbedderRefused, match="has 32 dimensions, not 16"):
        open_embedder(declare(folder, dimensions=16))


def test_the_prompts_are_those_of_the_checkpoint_alone(declare: Declare, tmp_path: Path) -> None:
    """The model brings some, and puts one before each text unless told otherwise."""
    prompts = {"query": "ask: ", "document": "file: "}
    prompted = save_transformer(tmp_path, prompts, default_prompt="document")
    checkpoint = declare(prompted, 'query_prompt = "mine: "')
    stored = open_embedder(checkpoint).embed(TEXTS, bounds(TEXTS)).vectors
    asked = embed_queries(open_query_embedder(checkpoint), checkpoint, TEXTS)
    assert np.allclose(stored, by_the_library(prompted, TEXTS), atol=1e-5)
    assert np.allclose(asked, by_the_library(prompted, [f"mine: {text}" for text in TEXTS]), atol=1e-5)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, declare: Declare, tmp_path: Path) -> None:
    hostile, trace = tmp_path / "hostile", tmp_path / "it ran"
    subprocess.run(["cp", "-r", str(folder), str(hostile)], check=True)
    (hostile / "modeling_own.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Own: ...\n")
    modules = json.loads((hostile / "modules.json").read_text())
    modules[0]["type"] = "modeling_own.Own"
    (hostile / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EmbedderRefused, match="cannot be loaded"):
        open_embedder(declare(hostile))
    assert not trace.exists()


def test_a_folder_is_loaded_without_a_network(
    sentence_transformers: ModuleType, folder: Path, declare: Declare
) -> None:
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404 if self.path != "/embedded" else 204)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None: ...

    program = (
        "import os, sys, urllib.request, msgspec\n"
        "from tierloom.checkpoint import Checkpoint\n"
        "from tierloom.embedders.opening import open_embedder\n"
        "checkpoint = Checkpoint.from_bytes(open(sys.argv[1], 'rb').read(), sys.argv[2])\n"
        "print(open_embedder(checkpoint).embed(['tea'], [1]).tokens)\n"
        "urllib.request.urlopen(os.environ['HF_ENDPOINT'] + '/embedded')\n"
        "far = msgspec.structs.replace(checkpoint.space, model='nobody/nothing', revision='0' * 40)\n"
        "try: open_embedder(Checkpoint(far))\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    checkpoint = declare(folder)
    stored = folder.parent / "checkpoint.json"
    stored.write_bytes(checkpoint.to_bytes())
    library = str(Path(sentence_transformers.__file__ or "").parents[1])
    with HTTPServer(("127.0.0.1", 0), Hub) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
            "PYTHONPATH": os.pathsep.join([str(Path.cwd()), library]),
        }
        command = [sys.executable, "-c", program, str(stored), checkpoint.fingerprint]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
        hub.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5", "EmbedderRefused"]
    # A model that is to be fetched is asked for: so the library did know where to.
    assert asked[0] == "/embedded"
    assert len(asked) > 1


def test_a_static_model_has_the_vectors_of_wordllama(declare: Declare, tmp_path: Path) -> None:
    """The same table by another way: what is embedded here is what the other embedder embeds."""
    static = save_static(tmp_path)
    texts = ["what is a matryoshka?", "a doll within a doll", "ünïcödé 文字", "word " * 700]
    embedder = open_embedder(declare(static, dimensions=256))
    known = open_embedder(declared_checkpoint("wordllama"))
    embedded, wanted = (one.embed(texts, bounds(texts)) for one in (embedder, known))
    assert embedded.rejected == {}
    assert embedded.tokens == wanted.tokens
    assert np.allclose(embedded.vectors, wanted.vectors, atol=1e-4)
