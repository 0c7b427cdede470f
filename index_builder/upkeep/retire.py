"""Retiring a generation: from the next version on it is not kept current any more, and its objects become garbage.

Versions that have it stay what they are, until retention lets them go.
"""

from dataclasses import dataclass

import msgspec

from index_builder.upkeep.publishing import publish_change
from index_builder.upkeep.retained import read_manifests, stored_manifests
from tierloom import names
from tierloom.channel import Channel, read_channels
from tierloom.errors import InputError, RetirementRefused
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.promotion_checks import reasons_against
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint, read_head, read_manifest


@dataclass(frozen=True, slots=True)
class Retired:
    """The first `version` without the generation of `model`, and the model that it `serves`. Of the generation: chunks
    that lived in it, bytes that it alone named, and the tokens that the runs of all versions still kept embedded for
    it."""

    version: int
    model: str
    checkpoint: str
    serves: str
    chunks: int
    bytes: int
    tokens: int


def retire(store: Store, checkpoint: str, force: bool = False) -> Retired:
    """Publish a version without the generation of a checkpoint (a fingerprint); the other one is in front from then on.

    `force` throws away vectors of a generation that is still being built, or leaves one to serve that may not be
    promoted. Raises `RetirementRefused` where `force` is needed, where a channel serves the generation, and where no
    other one is there, or complete; `CheckpointMismatch` without such a generation.
    """
    gone = read_head(store).of(checkpoint)
    model, tokens = _model(store, checkpoint), tokens_paid(store, checkpoint)

    def change(head: Manifest) -> Manifest:
        nonlocal gone
        gone = head.of(checkpoint)
        remaining = _remaining(gone, store)
        _refuse_served(checkpoint, store)
        if not force:
            _refuse_unfinished(gone, tokens, store)
            _refuse_unfit(gone, remaining, head, store)
        return msgspec.structs.replace(remaining, other=None)

    published = publish_change(f"retire {model}", change, store)
    left = {one.path for one in published.objects()}
    return Retired(
        version=published.version,
        model=model,
        checkpoint=checkpoint,
        serves=_model(store, published.checkpoint),
        chunks=gone.live_chunks,
        bytes=sum({one.path: one.bytes for one in gone.own_objects() if one.path not in left}.values()),
        tokens=tokens,
    )


def tokens_paid(store: Store, checkpoint: str) -> int:
    """What the model was paid for in the generation of a checkpoint, by the runs of every version that is kept."""
    runs = {
        generation.run.run: generation.run.tokens
        for manifest in read_manifests(store, sorted(stored_manifests(store)))
        for generation in manifest.generations
        if generation.checkpoint == checkpoint
    }
    return sum(runs.values())


def _remaining(gone: Manifest, store: Store) -> Manifest:
    """The version with the generation that stays in front. Raises `RetirementRefused`."""
    if gone.other is None:
        raise RetirementRefused(
            f"{_named(gone, store)} is the only generation of {store.url}; build another one first, with tierloom "
            f"reembed {store.url} --model ..."
        )
    remaining = gone.turned(gone.other)
    if not remaining.is_complete:
        finish = f"tierloom reembed {store.url} --model {_model(store, remaining.checkpoint)}"
        raise RetirementRefused(
            f"{_named(gone, store)} is all that serves: {_named(remaining, store)} is still being built "
            f"({_percent(remaining)}). Finish that with {finish}, or retire it instead"
        )
    return remaining


def _refuse_served(checkpoint: str, store: Store) -> None:
    serving = [channel for channel in read_channels(store) if channel.name != names.LATEST]
    served = [channel.name for channel in serving if _serves(channel, store) == checkpoint]
    if served:
        raise RetirementRefused(
            f"{_model(store, checkpoint)} ({checkpoint[:12]}) is what channels serve: {', '.join(served)}. Move them "
            f"first: tierloom promote {store.url} VERSION --channel {served[0]} --checkpoint NAME, or tierloom rollback"
        )


def _serves(channel: Channel, store: Store) -> str | None:
    """The checkpoint that a channel serves; None where its version is gone."""
    try:
        return read_manifest(store, channel.version).of(channel.checkpoint).checkpoint
    except InputError:
        return None


def _refuse_unfinished(gone: Manifest, tokens: int, store: Store) -> None:
    if not gone.is_complete:
        raise RetirementRefused(
            f"{_named(gone, store)} is still being built ({_percent(gone)}): {gone.live_chunks:,} chunks, for which at "
            f"least {tokens:,} tokens were paid, would be thrown away. --force does so"
        )


def _refuse_unfit(gone: Manifest, remaining: Manifest, head: Manifest, store: Store) -> None:
    """Where what serves is retired, the other one must be fit to."""
    if not gone.live_chunks or gone.checkpoint != head.checkpoint:
        return
    if against := reasons_against(remaining, remaining.collection.recall_floor, store.url):
        raise RetirementRefused(
            f"{_named(remaining, store)} would serve in the place of {_model(store, gone.checkpoint)}, and may not be "
            f"promoted: {'; '.join(against)}. --force retires it all the same"
        )


def _named(generation: Manifest, store: Store) -> str:
    return f"{_model(store, generation.checkpoint)} ({generation.checkpoint[:12]})"


def _model(store: Store, checkpoint: str) -> str:
    return read_checkpoint(store, checkpoint).space.model


def _percent(generation: Manifest) -> str:
    return f"{100 * generation.reached // KEY_UNITS} %"
