"""wordllama, a model with Matryoshka training, on chunks of real documentation."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from index_builder.probing.prefixes import model_verdict, probe_prefixes
from pipelines.python_documentation import write_documentation
from tests.embedders.conftest import bounds
from tests.index_builder.probing.vectors import stored, turned
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import open_embedder

SPACE = declared_checkpoint("wordllama").space
TRAINED = tuple(d for d in SPACE.trained_prefixes if d < SPACE.dimensions)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    path: Path = tmp_path_factory.mktemp("corpus") / "documentation.jsonl"
    write_documentation(path)
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    embedder = open_embedder(declared_checkpoint("wordllama"))
    return embedder.embed(texts, bounds(texts)).vectors


def test_its_trained_prefixes_are_accepted(vectors: NDArray[np.float32]) -> None:
    """By about seven standard errors, where three and a half are asked for."""
    probes = probe_prefixes(stored(vectors), TRAINED)
    assert [probe.dimensions for probe in probes] == [64, 128]
    assert model_verdict(probes, SPACE.trained_prefixes) == "matryoshka"


@pytest.mark.parametrize("seed", range(2))
def test_a_random_rotation_of_the_same_vectors_is_refused_at_every_size(
    vectors: NDArray[np.float32], seed: int
) -> None:
    probes = probe_prefixes(stored(turned(vectors, seed)), (16, 32, *TRAINED), seed)
    assert [probe.verdict for probe in probes] == ["refused"] * 4
    assert model_verdict(probes, SPACE.trained_prefixes) == "refused"


def test_other_dimensions_than_the_first_are_refused(vectors: NDArray[np.float32]) -> None:
    """A tier of the wrong columns."""
    probes = probe_prefixes(stored(vectors[:, ::-1]), TRAINED)
    assert {probe.verdict for probe in probes} == {"refused"}
