"""The canaries of a checkpoint: how they are kept, and what is told from their cosines."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.embedders.endpoint import vector_of
from tierloom import names
from tierloom.canaries import (
    CHANGED,
    DRIFTED,
    LONGEST_TEXT,
    MOST_TEXTS,
    Canaries,
    canary_inputs,
    canary_texts,
    cosines,
    directions,
    kept_canaries,
    read_canaries,
    refuse_changed,
)
from tierloom.canary_check import CanaryCheck
from tierloom.checkpoint import MAX_DIMENSIONS, Checkpoint, Space
from tierloom.errors import CheckpointMismatch, Corrupt, InputError, Malformed, ModelChanged
from tierloom.stores.local import LocalStore

PROMPT = "search_document: "


def checkpoint_of(dimensions: int, **members: object) -> Checkpoint:
    space = Space("openai", "test-model", "1", dimensions, (dimensions,), document_prompt=PROMPT)
    return Checkpoint(space=msgspec.structs.replace(space, **members))


def answers_to(texts: list[str], dimensions: int) -> NDArray[np.float32]:
    return np.stack([vector_of(text, dimensions) for text in texts])


def canaries_of(checkpoint: Checkpoint) -> Canaries:
    space = checkpoint.space
    answers = answers_to(canary_inputs(space, canary_texts()), space.dimensions)
    return Canaries(
        checkpoint=checkpoint.fingerprint,
        dimensions=space.dimensions,
        texts=canary_texts(),
        vectors=directions(answers, space).tobytes(),
        recorded="2025-01-31T12:00:00Z",
    )


def checked(canaries: Canaries, checkpoint: Checkpoint, answers: NDArray[np.float32]) -> CanaryCheck:
    found = cosines(canaries.kept, answers, checkpoint.space)
    return CanaryCheck(checkpoint, canaries, found, {}, 0, recorded=False)


def with_noise(
    units: NDArray[np.float32], distances: NDArray[np.float64], draw: np.random.Generator
) -> NDArray[np.float32]:
    """The rows of `units` turned, each in a random direction, until their cosine is 1 less its distance."""
    aside = draw.standard_normal(units.shape)
    aside -= (aside * units).sum(axis=1, keepdims=True) * units
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = (1 - distances)[:, np.newaxis]
    return (cosine * units + np.sqrt(1 - cosine**2) * aside).astype(np.float32)


def test_there_are_64_short_texts_each_another_one() -> None:
    assert len(canary_texts()) == len(set(canary_texts())) == MOST_TEXTS == 64
    assert all(text.strip() == text and 0 < len(text.encode()) <= LONGEST_TEXT for text in canary_texts())
    assert sum(len(text.encode()) for text in canary_texts()) < 2000


# Many trials of few dimensions, some of as many as large models have.
@pytest.mark.parametrize(("dimensions", "trials"), [(64, 10_000), (768, 500), (3072, 100)])
def test_checks_of_a_noisy_model_raise_no_alarm(dimensions: int, trials: int) -> None:
    """Noise as of endpoints: cosine distances of 0.0001 to 0.001, evenly over the orders of size."""
    checkpoint, draw = checkpoint_of(dimensions), np.random.default_rng(dimensions)
    canaries = canaries_of(checkpoint)
    for _ in range(trials):
        distances = 10 ** draw.uniform(-4, -3, MOST_TEXTS)
        check = checked(canaries, checkpoint, with_noise(canaries.kept, distances, draw))
        assert check.state == "same"
        assert abs(check.minimum - (1 - distances.max())) < 2e-6


@pytest.mark.parametrize(("mean", "states"), [(1e-4, {"same"}), (5e-4, {"same"}), (1e-3, {"same", "drifted"})])
def test_noise_without_a_bound_stops_nothing(mean: float, states: set[str]) -> None:
    """Every component has its own normal error; `mean` is the mean distance."""
    checkpoint, draw = checkpoint_of(768), np.random.default_rng(5)
    canaries = canaries_of(checkpoint)
    for _ in range(500):
        noise = draw.standard_normal((MOST_TEXTS, 768), np.float32) * np.float32(np.sqrt(2 * mean / 768))
        assert checked(canaries, checkpoint, canaries.kept + noise).state in states


def test_ten_thousand_requests_of_a_noisy_model_are_accepted() -> None:
    """A request is judged by one canary alone, with the largest noise there is."""
    checkpoint, draw = checkpoint_of(256), np.random.default_rng(7)
    canaries = canaries_of(checkpoint)
    for trial in range(10_000 // MOST_TEXTS + 1):
        answers = with_noise(canaries.kept, np.full(MOST_TEXTS, 1e-3 * (1 + trial % 2)), draw)
        for at in range(MOST_TEXTS):
            refuse_changed(canaries, at, answers[at], checkpoint)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1 << 32))
def test_the_length_of_an_answer_says_nothing(scale: float, seed: int) -> None:
    checkpoint = checkpoint_of(64)
    canaries = canaries_of(checkpoint)
    answers = with_noise(canaries.kept, np.full(MOST_TEXTS, 1e-4), np.random.default_rng(seed))
    scaled = (answers * np.float32(scale)).astype(np.float32)
    assert np.allclose(
        cosines(canaries.kept, scaled, checkpoint.space), cosines(canaries.kept, answers, checkpoint.space), atol=2e-6
    )


@given(distance=st.floats(0, 0.05))
def test_the_state_is_that_of_the_smallest_cosine(distance: float) -> None:
    checkpoint = checkpoint_of(16)
    found = np.ones(MOST_TEXTS)
    found[13] = round(1 - distance, 6)
    check = CanaryCheck(checkpoint, canaries_of(checkpoint), found, {}, 0, recorded=False)
    expected = "changed" if found[13] < CHANGED else "drifted" if found[13] < DRIFTED else "same"
    assert check.state == expected
    assert (check.warning() is not None) == (expected == "drifted")
    if expected == "changed":
        with pytest.raises(ModelChanged) as raised:
            check.refuse_changed()
        for said in ("test-model", f"minimum cosine {found[13]:.6f}", canary_texts()[13], "tierloom reembed"):
            assert said in str(raised.value)
    else:
        check.refuse_changed()


def other_models(checkpoint: Checkpoint) -> dict[str, NDArray[np.float32]]:
    """What the canaries are answered when something is wrong, by what it is."""
    space, draw = checkpoint.space, np.random.default_rng(1)
    right = answers_to(canary_inputs(space, canary_texts()), space.dimensions)
    half = right.copy()
    half[:, space.dimensions // 2 :] = 0
    revised = with_noise(directions(right, space), np.full(MOST_TEXTS, 0.05), draw)
    return {
        "another model": draw.standard_normal(right.shape).astype(np.float32),
        "another revision": revised,
        "no prompt": answers_to(list(canary_texts()), space.dimensions),
        "the prompt of questions": answers_to([f"search_query: {t}" for t in canary_texts()], space.dimensions),
        "dimensions in reverse": right[:, ::-1].copy(),
        "dimensions turned by one": np.roll(right, 1, axis=1),
        "cut and filled with zeros": half,
        "one vector for all": answers_to(["whatever"] * MOST_TEXTS, space.dimensions),
        "answers of its neighbours": np.roll(right, 1, axis=0),
    }


@pytest.mark.parametrize("wrong", other_models(checkpoint_of(64)))
def test_what_is_wrong_is_told_by_any_one_canary(wrong: str) -> None:
    """So whatever canary a request carries, that request is the last."""
    checkpoint = checkpoint_of(64)
    canaries, answers = canaries_of(checkpoint), other_models(checkpoint)[wrong]
    for at in range(MOST_TEXTS):
        with pytest.raises(ModelChanged):
            refuse_changed(canaries, at, answers[at], checkpoint)
    assert checked(canaries, checkpoint, answers).state == "changed"


def test_an_answer_without_a_direction_is_none_of_this_model() -> None:
    checkpoint = checkpoint_of(16)
    with pytest.raises(ModelChanged):
        refuse_changed(canaries_of(checkpoint), 0, np.zeros(16, np.float32), checkpoint)


def test_a_layer_norm_is_taken_before_the_cosine() -> None:
    """A common part of all vectors would hide that the model is another one."""
    plain, normed = checkpoint_of(16), checkpoint_of(16, post_processing=("layer-norm", "unit-norm"))
    other = answers_to(["another text"] * MOST_TEXTS, 16) + 30
    for checkpoint, state in ((plain, "same"), (normed, "changed")):
        answers = answers_to(canary_inputs(checkpoint.space, canary_texts()), 16) + 30
        kept = directions(answers, checkpoint.space)
        canaries = msgspec.structs.replace(canaries_of(checkpoint), vectors=kept.tobytes())
        assert checked(canaries, checkpoint, answers).minimum == 1
        assert checked(canaries, checkpoint, other).state == state


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def keep(store: LocalStore, canaries: Canaries, checkpoint: Checkpoint) -> Path:
    store.create(names.canaries(checkpoint.fingerprint), canaries.to_bytes())
    return store.root / names.canaries(checkpoint.fingerprint)


@pytest.mark.parametrize("dimensions", [1, 16, 3072])
def test_what_is_kept_is_read_back_to_the_bit(store: LocalStore, dimensions: int) -> None:
    checkpoint = checkpoint_of(dimensions)
    canaries = canaries_of(checkpoint)
    keep(store, canaries, checkpoint)
    assert read_canaries(store, checkpoint) == canaries
    units = directions(answers_to(canary_inputs(checkpoint.space, canary_texts()), dimensions), checkpoint.space)
    assert np.array_equal(canaries.kept, units)
    assert np.allclose(np.linalg.norm(units, axis=1), 1)


def test_canaries_of_the_most_dimensions_can_be_kept(store: LocalStore) -> None:
    checkpoint = checkpoint_of(MAX_DIMENSIONS)
    units = np.zeros((MOST_TEXTS, MAX_DIMENSIONS), "<f4")
    units[:, 0] = 1
    canaries = msgspec.structs.replace(
        canaries_of(checkpoint_of(1)),
        checkpoint=checkpoint.fingerprint,
        dimensions=MAX_DIMENSIONS,
        vectors=units.tobytes(),
    )
    keep(store, canaries, checkpoint)
    assert read_canaries(store, checkpoint) == canaries


def test_where_none_are_kept_it_is_said_how_to_get_some(store: LocalStore) -> None:
    checkpoint = checkpoint_of(16)
    assert read_canaries(store, checkpoint) is None
    with pytest.raises(InputError, match=f"no canaries of checkpoint {checkpoint.fingerprint}.*canary .* --record"):
        kept_canaries(store, checkpoint)


@given(at=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_named(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    store, checkpoint = LocalStore(tmp_path_factory.mktemp("store")), checkpoint_of(2)
    path = keep(store, canaries_of(checkpoint), checkpoint)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises((Malformed, Corrupt), match=rf"{names.canaries(checkpoint.fingerprint)}.*canary STORE --record"):
        read_canaries(store, checkpoint)


def test_an_edited_text_is_named(store: LocalStore) -> None:
    checkpoint = checkpoint_of(16)
    path = keep(store, canaries_of(checkpoint), checkpoint)
    path.write_text(path.read_text(encoding="utf-8").replace("Paris, Texas", "Paris, France"), encoding="utf-8")
    with pytest.raises(Corrupt, match=f"{path.name}.*damaged or edited; nothing was paid for"):
        read_canaries(store, checkpoint)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"dimensions": 8}, "4096 bytes, not 64 float32 vectors of 8 dimensions"),
        ({"dimensions": 8, "vectors": canaries_of(checkpoint_of(8)).vectors}, "of 8 dimensions, not 16"),
        ({"vectors": b"\0" * 8}, "8 bytes, not 64"),
        ({"vectors": b"\0" * 4 * 64 * 16}, "not of unit length"),
        ({"vectors": np.full((64, 16), np.nan, "<f4").tobytes()}, "not of unit length"),
        ({"texts": ()}, "texts"),
        ({"texts": canary_texts()[1:]}, "not 63 float32"),
    ],
)
def test_what_was_sealed_anew_must_still_be_canaries(store: LocalStore, members: dict[str, object], error: str) -> None:
    checkpoint = checkpoint_of(16)
    keep(store, msgspec.structs.replace(canaries_of(checkpoint), **members), checkpoint)
    with pytest.raises(Malformed, match=error):
        read_canaries(store, checkpoint)


def test_canaries_of_another_checkpoint_are_refused(store: LocalStore) -> None:
    checkpoint, other = checkpoint_of(16), checkpoint_of(16, revision="2")
    keep(store, canaries_of(other), checkpoint)
    with pytest.raises(CheckpointMismatch, match=other.fingerprint):
        read_canaries(store, checkpoint)


def test_the_object_can_be_read_by_anybody(store: LocalStore) -> None:
    """As docs/format.md says it."""
    checkpoint = checkpoint_of(16)
    members = json.loads(keep(store, canaries_of(checkpoint), checkpoint).read_text(encoding="utf-8"))
    assert set(members) == {"checkpoint", "dimensions", "format", "recorded", "sha256", "texts", "vectors"}
