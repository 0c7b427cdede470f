"""What leaving out a declared step does, with a model whose need of it is known."""

import zlib
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from index_builder.probing.omissions import Omission, declared_steps, measure_omissions, omission_inputs
from tierloom.checkpoint import Space
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import open_model

D = 64
BARE = Space("openai", "m", "1", D, (16,))
WHOLE = msgspec.structs.replace(
    BARE, document_prompt="document: ", query_prompt="query: ", post_processing=("layer-norm", "unit-norm")
)
TEXTS = [f"text {at}" for at in range(300)]


class Model:
    """A text is a point; a prompt moves it by a little that is the same for all, and another one by something else for
    each: a model that was trained with prompts. Every vector has a mean of its own, which layer norm removes."""

    def __init__(self, offset: float = 0.0) -> None:
        self.asked: list[str] = []
        self._offset = offset

    def __call__(self, inputs: Sequence[str]) -> NDArray[np.float32]:
        self.asked += inputs
        return np.array([self._vector(text) for text in inputs], np.float32)

    def _vector(self, text: str) -> NDArray[np.float64]:
        prompt, _, body = text.rpartition(": ")
        noise = 0.05 if prompt else 0.6
        mean = self._offset * abs(float(_drawn(f"mean {text}")[0]))
        vector: NDArray[np.float64] = _drawn(body) + noise * _drawn(f"{prompt}|{body}") + mean
        return vector


def _drawn(text: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(text.encode())).standard_normal(D)


def of_step(found: Sequence[Omission], step: str) -> dict[int, tuple[float, float]]:
    return {one.dimensions: (one.declared, one.without) for one in found if one.step == step}


def test_nothing_declared_costs_nothing() -> None:
    model = Model()
    assert declared_steps(BARE) == ()
    assert measure_omissions(BARE, model, TEXTS, (16,)) == []
    assert model.asked == []
    assert omission_inputs(BARE, TEXTS) == []


@pytest.mark.parametrize(
    "changes",
    [{}, {"document_prompt": ""}, {"query_prompt": ""}, {"document_prompt": "", "query_prompt": ""}],
)
def test_the_cost_that_is_announced_is_what_is_asked(changes: dict[str, str]) -> None:
    model, space = Model(), msgspec.structs.replace(WHOLE, **changes)
    measure_omissions(space, model, TEXTS, (16,))
    assert Counter(model.asked) == Counter(omission_inputs(space, TEXTS))


def test_prompts_that_are_left_out_are_missed() -> None:
    space = msgspec.structs.replace(WHOLE, post_processing=("unit-norm",))
    found = measure_omissions(space, Model(), TEXTS, (16,))
    assert {one.step for one in found} == {"document prompt", "query prompt"}
    for step in ("document prompt", "query prompt"):
        declared, without = of_step(found, step)[D]
        assert declared == 1.0
        assert without < 0.8
        declared, without = of_step(found, step)[16]
        assert without < declared < 0.6


def test_a_layer_norm_that_is_left_out_is_missed() -> None:
    space = msgspec.structs.replace(BARE, post_processing=("layer-norm", "unit-norm"))
    found = of_step(measure_omissions(space, Model(offset=4.0), TEXTS, (16, 32)), "layer norm")
    assert set(found) == {16, 32, D}
    assert found[D][0] == 1.0
    assert all(without < 0.75 * declared for declared, without in found.values())
    harmless = of_step(measure_omissions(space, Model(), TEXTS, (16, 32)), "layer norm")
    assert harmless[D][1] > 0.85


def test_shares_are_those_by_hand() -> None:
    model = Model(offset=0.5)
    found = of_step(measure_omissions(WHOLE, model, TEXTS, (16,)), "query prompt")

    def nearest(queries: NDArray[np.float32], documents: NDArray[np.float32], cut: int) -> list[set[int]]:
        sides = [side[:, :cut] for side in (queries, documents)]
        left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
        scores = left @ right.T
        np.fill_diagonal(scores, -np.inf)
        return [{*row} for row in np.argsort(-scores, axis=1)[:, :10].tolist()]

    def embedded(prompt: str) -> NDArray[np.float32]:
        raw = model([prompt + text for text in TEXTS])
        centred: NDArray[np.float32] = raw - raw.mean(axis=1, keepdims=True)
        return centred

    documents, queries, bare = embedded("document: "), embedded("query: "), embedded("")
    wanted = nearest(queries, documents, D)
    for at, side in enumerate((queries, bare)):
        shares = [len(a & b) / 10 for a, b in zip(nearest(side, documents, 16), wanted, strict=True)]
        assert found[16][at] == pytest.approx(np.mean(shares), abs=1e-3)


def test_too_few_texts_tell_nothing() -> None:
    assert measure_omissions(WHOLE, Model(), TEXTS[:11], (16,)) == []


def test_a_real_model_needs_no_layer_norm_that_it_was_not_made_for() -> None:
    checkpoint = declared_checkpoint("wordllama")
    space = msgspec.structs.replace(checkpoint.space, post_processing=("layer-norm", "unit-norm"))
    model = open_model(checkpoint)
    texts = [
        f"{one} {two}" for one in ("red", "old", "quick", "deep") for two in ("house", "river", "song", "law", "dog")
    ]

    def embed(inputs: Sequence[str]) -> NDArray[np.float32]:
        return model.embed(inputs, [len(text) for text in inputs]).vectors

    found = of_step(measure_omissions(space, embed, texts, (64,)), "layer norm")
    assert found[256][1] > 0.9
