"""Asking a model for its canaries: is it still the one that a collection was made with?"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from tierloom import names
from tierloom.canaries import (
    CHANGED,
    DRIFTED,
    Canaries,
    canary_inputs,
    canary_texts,
    changed,
    cosines,
    directions,
    kept_canaries,
    read_canaries,
    served_by,
)
from tierloom.canary_room import bound_of_canary
from tierloom.checkpoint import Checkpoint
from tierloom.commit import now
from tierloom.embedders.embedder import Embedded, Embedder
from tierloom.embedders.opening import open_model
from tierloom.errors import AlreadyExists, CapReached, EmbedderRefused
from tierloom.spending.account import Account
from tierloom.stores.store import Store

ModelState = Literal["same", "drifted", "changed"]

# Of the texts: a model that refuses more of them cannot be watched.
_FEWEST: Final = 32


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """What a model answered to its canaries.

    `cosines` with the kept vectors are float64 (texts,); -1 where there was no usable answer, and `missing` says why.
    `tokens` were billed. `recorded` if they had not been kept before: then there was nothing to compare with.
    """

    checkpoint: Checkpoint
    canaries: Canaries
    cosines: NDArray[np.float64]
    missing: Mapping[int, str]
    tokens: int
    recorded: bool

    @property
    def minimum(self) -> float:
        return float(self.cosines.min())

    @property
    def median(self) -> float:
        return float(np.median(self.cosines))

    @property
    def state(self) -> ModelState:
        if self.minimum < CHANGED:
            return "changed"
        return "drifted" if self.minimum < DRIFTED else "same"

    def worst(self, most: int) -> list[tuple[str, float]]:
        """The texts whose answers differ most, with their cosines."""
        order = np.argsort(self.cosines, kind="stable")[:most]
        return [(self.canaries.texts[at], float(self.cosines[at])) for at in order]

    def refuse_changed(self) -> None:
        """Raises `ModelChanged` unless this is still the same model."""
        if self.state == "changed":
            worst = int(self.cosines.argmin())
            found = f"minimum cosine {self.minimum:.6f} over {len(self.cosines)} canaries, worst"
            why = f" ({self.missing[worst]})" if worst in self.missing else ""
            raise changed(self.canaries, worst, found + why, self.checkpoint)

    def warning(self) -> str | None:
        """What to tell people of a model that is no longer quite the same."""
        if self.state != "drifted":
            return None
        text, cosine = self.worst(1)[0]
        return (
            f"warning: {served_by(self.checkpoint)} answers a little otherwise than on {self.canaries.recorded}: "
            f"minimum cosine {cosine:.6f} over {len(self.cosines)} canaries (under {DRIFTED:g}), worst with {text!r}"
        )


def check_model(
    store: Store, checkpoint: Checkpoint, concurrency: int = 8, record: bool = True, account: Account | None = None
) -> CanaryCheck:
    """Ask the model for its canaries, and compare; where none are kept yet, keep them if they are to be recorded.

    What is kept is never replaced. It is read before anything is asked. Raises what `read_canaries` has against it,
    `InputError` where there is nothing to compare with, `CapReached` where the account does not allow it, and as
    `open_model` and `Embedder.embed` do.
    """
    kept = read_canaries(store, checkpoint) if record else kept_canaries(store, checkpoint)
    with closing(open_model(checkpoint, concurrency, account=account)) as model:
        if kept is not None:
            return _compared(kept, checkpoint, _ask(model, checkpoint, kept.texts, account))
        answer = _ask(model, checkpoint, canary_texts(), account)
    fresh = _recordable(checkpoint, answer)
    try:
        store.create(names.canaries(checkpoint.fingerprint), fresh.to_bytes())
    except AlreadyExists:
        # Another run was first, and what it kept counts.
        again = check_model(store, checkpoint, concurrency, record=False, account=account)
        return replace(again, tokens=again.tokens + answer.tokens)
    same = np.ones(len(fresh.texts))
    return CanaryCheck(checkpoint, fresh, same, {}, answer.tokens, recorded=True)


def _ask(model: Embedder, checkpoint: Checkpoint, texts: tuple[str, ...], account: Account | None) -> Embedded:
    inputs = canary_inputs(checkpoint.space, texts)
    bounds = [bound_of_canary(text, checkpoint.limits) for text in inputs]
    if account is not None and not account.set_aside(sum(bounds)):
        raise CapReached(
            f"{account.caps}: the canaries of {checkpoint.space.model}, which every run asks first, may take "
            f"{sum(bounds):,} tokens, so nothing was sent; allow more than that"
        )
    return model.embed(inputs, bounds)


def _recordable(checkpoint: Checkpoint, answer: Embedded) -> Canaries:
    """The canaries that have a vector. Raises `EmbedderRefused` when too few have."""
    texts = canary_texts()
    units = directions(answer.vectors, checkpoint.space)
    good = [at for at in range(len(texts)) if at not in answer.rejected and units[at].any()]
    if len(good) < _FEWEST:
        first = next(iter(answer.rejected.values())).detail if answer.rejected else "they point nowhere"
        raise EmbedderRefused(
            f"{served_by(checkpoint)} has vectors for {len(good)} of {len(texts)} plain short texts ({first}); "
            "with such a model nothing can be embedded: correct its declaration"
        )
    return Canaries(
        checkpoint=checkpoint.fingerprint,
        dimensions=checkpoint.space.dimensions,
        texts=tuple(texts[at] for at in good),
        vectors=units[good].astype("<f4").tobytes(),
        recorded=now(),
    )


def _compared(kept: Canaries, checkpoint: Checkpoint, answer: Embedded) -> CanaryCheck:
    found = cosines(kept.kept, answer.vectors, checkpoint.space)
    missing = {at: rejection.detail for at, rejection in answer.rejected.items()}
    found[sorted(missing)] = -1.0
    return CanaryCheck(checkpoint, kept, found, missing, answer.tokens, recorded=False)
