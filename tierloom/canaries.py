"""Canaries: short texts whose vectors are kept with a checkpoint, so that a model that changed in silence is noticed.

A provider may replace the model behind a name. Its answers to the same texts then differ, by far more than the noise
between two answers of one model. What is compared is the cosine, after the steps that the checkpoint declares.
"""

from functools import cache
from importlib import resources
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom import names
from tierloom.checkpoint import Checkpoint, Dimensions, Space
from tierloom.collection import Fingerprint
from tierloom.errors import CheckpointMismatch, Corrupt, InputError, Malformed, ModelChanged, NotFound
from tierloom.model_input import model_input
from tierloom.post_processing import layer_norm
from tierloom.sealed import read_sealed, seal, unseal
from tierloom.stores.store import Store

FORMAT: Final = 1
# Below these cosines a model is another one, or no longer quite the same. Answers of one model differ by 0.0001 to
# 0.001 from run to run: see docs/canaries.md.
CHANGED: Final = 0.99
DRIFTED: Final = 0.999

MOST_TEXTS: Final = 64
# Of a text, in UTF-8: what is kept free in requests.
LONGEST_TEXT: Final = 64
# Base64 of as many float32 vectors as there may be, of the most dimensions there may be, and their texts.
_LONGEST: Final = 24 << 20
_UNIT_WITHIN: Final = 1e-3

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class Canaries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model answered to `texts` (without the document prompt) on the day `recorded` (RFC 3339, UTC).

    `vectors` holds the bytes of `directions` of these answers: little-endian float32 (texts, dimensions).
    """

    checkpoint: Fingerprint
    dimensions: Dimensions
    texts: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=MOST_TEXTS)]
    vectors: bytes
    recorded: str
    format: Literal[1] = FORMAT

    @property
    def kept(self) -> NDArray[np.float32]:
        """float32 (texts, dimensions), unit length."""
        return np.frombuffer(self.vectors, "<f4").reshape(len(self.texts), self.dimensions)

    def to_bytes(self) -> bytes:
        return seal(self, _LONGEST)


@cache
def canary_texts() -> tuple[str, ...]:
    """The texts that are recorded: short, of many languages and kinds; never changed, for they cost nothing to keep."""
    return tuple((resources.files("tierloom") / "canary_texts.txt").read_text(encoding="utf-8").splitlines())


def canary_inputs(space: Space, texts: tuple[str, ...]) -> list[str]:
    """What the model is sent for canaries: what it would be sent for chunks of these texts."""
    return [model_input(space.document_prompt, "", text) for text in texts]


def directions(answers: NDArray[np.float32], space: Space) -> NDArray[np.float32]:
    """What is compared of answers of a model, finite float32 (n, D): after the declared steps, at unit length. Zero for
    an answer without a direction."""
    normed = layer_norm(answers) if "layer-norm" in space.post_processing else answers
    wide = normed.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float32)
    return units


def cosines(kept: NDArray[np.float32], answers: NDArray[np.float32], space: Space) -> NDArray[np.float64]:
    """The cosine of each kept direction with the answer of now, float64 (n,), to six decimals: as they are shown."""
    products = np.einsum("nd,nd->n", kept.astype(np.float64), directions(answers, space).astype(np.float64))
    rounded: NDArray[np.float64] = products.round(6)
    return rounded


def read_canaries(store: Store, checkpoint: Checkpoint) -> Canaries | None:
    """The canaries of a checkpoint; None if it has none yet. Raises as `sealed_canaries`."""
    canaries = sealed_canaries(store, checkpoint.fingerprint)
    if canaries is not None and canaries.dimensions != checkpoint.space.dimensions:
        name = names.canaries(checkpoint.fingerprint)
        raise Malformed(f"{name}: of {canaries.dimensions} dimensions, not {checkpoint.space.dimensions}. {_CURE}")
    return canaries


def sealed_canaries(store: Store, fingerprint: str) -> Canaries | None:
    """What is kept for the checkpoint of this fingerprint, if there is anything.

    Raises `Malformed`, `Corrupt`, `CheckpointMismatch` or `FormatTooNew` for an object that is not what was recorded.
    """
    name = names.canaries(fingerprint)
    try:
        canaries = unseal(read_sealed(store, name, _LONGEST), Canaries, name, FORMAT, _LONGEST)
        _check(canaries, name)
    except NotFound:
        return None
    except (Malformed, Corrupt) as error:
        raise type(error)(f"{error}. {_CURE}") from error
    if canaries.checkpoint != fingerprint:
        raise CheckpointMismatch(f"{name} holds the canaries of checkpoint {canaries.checkpoint}. {_CURE}")
    return canaries


_CURE: Final = (
    "It was damaged or edited; nothing was paid for. Put the object back from a copy; if there is none and the "
    "endpoint still serves the same model, remove it and record it anew with: tierloom canary STORE --record"
)


def kept_canaries(store: Store, checkpoint: Checkpoint) -> Canaries:
    """As `read_canaries`, where there must be some. Raises `InputError` when there are none."""
    canaries = read_canaries(store, checkpoint)
    if canaries is None:
        raise InputError(
            f"{store.url} keeps no canaries of checkpoint {checkpoint.fingerprint} ({checkpoint.space.model}) yet: "
            f"the first run that embeds records them, or now: tierloom canary {store.url} --record"
        )
    return canaries


def refuse_changed(canaries: Canaries, at: int, answer: NDArray[np.float32], checkpoint: Checkpoint) -> None:
    """Judge whatever came with the answer float32 (D,) to canary `at`: raises `ModelChanged` where it is another
    model's."""
    cosine = float(cosines(canaries.kept[at : at + 1], answer[np.newaxis], checkpoint.space)[0])
    if cosine < CHANGED:
        raise changed(canaries, at, f"cosine {cosine:.6f}", checkpoint)


def changed(canaries: Canaries, at: int, found: str, checkpoint: Checkpoint) -> ModelChanged:
    """The error: `found` says what was found of canary `at`, the worst one."""
    return ModelChanged(
        f"{served_by(checkpoint)} no longer answers as it did for this collection on {canaries.recorded}: {found} "
        f"with the canary {canaries.texts[at]!r}, where {CHANGED:g} is the least; nothing of it is stored. Bring that "
        "model back and start again; if it is gone for good, declare what is there with another revision and run: "
        f"tierloom reembed STORE --model FILE.toml (checkpoint {checkpoint.fingerprint})"
    )


def served_by(checkpoint: Checkpoint) -> str:
    """The model and where it answers, for messages."""
    if checkpoint.space.in_process:
        return f"{checkpoint.space.model}, in this process,"
    return f"{checkpoint.space.model} at {checkpoint.endpoint.base_url or 'the endpoint of the provider'}"


def _check(canaries: Canaries, name: str) -> None:
    texts, dimensions = len(canaries.texts), canaries.dimensions
    if len(canaries.vectors) != 4 * texts * dimensions:
        raise Malformed(
            f"{name}: {len(canaries.vectors)} bytes, not {texts} float32 vectors of {dimensions} dimensions"
        )
    if any(len(text.encode()) > LONGEST_TEXT for text in canaries.texts):
        raise Malformed(f"{name}: holds a text of more than {LONGEST_TEXT} bytes")
    lengths = np.linalg.norm(canaries.kept.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) < _UNIT_WITHIN).all():
        raise Malformed(f"{name}: holds vectors that are not of unit length")
