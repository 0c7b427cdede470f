"""The embedded model, against the library's own way."""

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import wordllama

from tests.embedders.conftest import bounds
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.wordllama import WordLlamaEmbedder, files_digest
from tierloom.errors import EmbedderRefused

CHECKPOINT = declared_checkpoint("wordllama")
TEXTS = ["a", "The quick brown fox.", "ünïcödé 文字 \U0001f600", " ", "\n\n\n", "\x00", "word " * 700, "x" * 5000]


@pytest.fixture(scope="module")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder(CHECKPOINT)


@pytest.fixture(scope="module")
def library() -> wordllama.WordLlamaInference:
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def test_vectors_have_the_bits_of_the_library_and_the_tokens_are_counted(
    embedder: WordLlamaEmbedder, library: wordllama.WordLlamaInference
) -> None:
    embedded = embedder.embed(TEXTS, bounds(TEXTS))
    assert embedded.vectors.dtype == np.float32
    assert np.array_equal(embedded.vectors, library.embed(TEXTS, norm=False))
    assert embedded.tokens == sum(sum(encoding.attention_mask) for encoding in library.tokenize(TEXTS))
    assert embedded.rejected == {}


def test_a_vector_does_not_depend_on_its_neighbours(embedder: WordLlamaEmbedder) -> None:
    together = embedder.embed(TEXTS, bounds(TEXTS)).vectors
    alone = [embedder.embed([text], bounds([text])).vectors[0] for text in TEXTS]
    assert np.array_equal(together, np.stack(alone))


def test_texts_without_a_vector_are_rejected_alone(embedder: WordLlamaEmbedder) -> None:
    texts = ["fine", "", "\ud800", "also fine"]
    embedded = embedder.embed(texts, [1, 0, 3, 1])
    assert {i: r.reason for i, r in embedded.rejected.items()} == {1: "empty-input", 2: "invalid-unicode"}
    assert np.all(np.linalg.norm(embedded.vectors[[0, 3]], axis=1) > 0)


def test_a_text_beyond_one_gathering_is_the_mean_of_all_its_tokens(
    embedder: WordLlamaEmbedder, library: wordllama.WordLlamaInference
) -> None:
    text = "one two three four " * 10_000
    embedded = embedder.embed([text], bounds([text]))
    ids = library.tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) > 16384
    # 40,000 float32 added one after the other, as the library does, are off by about 5e-5.
    assert np.allclose(embedded.vectors[0], library.embedding[ids].astype(np.float64).mean(axis=0), atol=2e-4)


def test_a_megabyte_among_many_takes_little_memory(embedder: WordLlamaEmbedder) -> None:
    texts = ["x" * 1_000_000] + ["short text"] * 200
    tracemalloc.start()
    try:
        embedded = embedder.embed(texts, bounds(texts))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert embedded.rejected == {}
    assert peak < 100 << 20


def test_threads_may_share_it(embedder: WordLlamaEmbedder) -> None:
    blocks = [[f"{block} {text}" for text in TEXTS] for block in range(8)]
    one_by_one = [embedder.embed(block, bounds(block)).vectors for block in blocks]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(lambda block: embedder.embed(block, bounds(block)).vectors, blocks))
    assert np.array_equal(np.stack(at_once), np.stack(one_by_one))


def test_the_known_revision_is_that_of_the_installed_files() -> None:
    assert files_digest(CHECKPOINT.space) == CHECKPOINT.space.revision


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [("revision", "0" * 16, "not 0000"), ("dimensions", 128, "l2_supercat_128"), ("model", "l9", "l9_256")],
)
def test_another_model_than_the_installed_one_is_refused(member: str, value: object, message: str) -> None:
    space = msgspec.structs.replace(CHECKPOINT.space, **{member: value})
    with pytest.raises(EmbedderRefused, match=message):
        WordLlamaEmbedder(msgspec.structs.replace(CHECKPOINT, space=space))


def test_importing_it_leaves_logging_alone() -> None:
    program = (
        "import logging; before = (list(logging.root.handlers), logging.root.level)\n"
        "import tierloom.embedders.wordllama\n"
        "assert (list(logging.root.handlers), logging.root.level) == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
