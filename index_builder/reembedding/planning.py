"""What a second generation is to be: like the one that serves, but for what its model and its owner say."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tierloom.checkpoint import Checkpoint
from tierloom.collection import Chunking, Collection, plan_tiers
from tierloom.errors import InputError
from tierloom.manifest import Manifest
from tierloom.model_input import check_chunking
from tierloom.serving import Serving
from tierloom.serving_checks import serving_problems
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the owner says of a generation. Without `tiers` it has those of the one that serves; without `chunk_tokens`
    and `chunk_overlap` documents stay cut as they are."""

    tiers: tuple[str, ...] = ()
    untrained_prefixes: bool = False
    connectivity: int = 16
    expansion_add: int = 128
    expansion_search: int = 128
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None

    @property
    def cuts_anew(self) -> bool:
        return self.chunk_tokens is not None or self.chunk_overlap is not None


def plan_generation(head: Manifest, store: Store, checkpoint: Checkpoint, wishes: Wishes) -> Collection:
    """The collection of a generation under this checkpoint. Of one that is there already it is the same again, unless
    it is wished otherwise.

    Raises `InputError` when the checkpoint is the one that serves; `CheckpointError` as `plan_tiers` and
    `check_chunking` do.
    """
    if checkpoint.fingerprint == head.checkpoint and head.is_complete:
        raise InputError(
            f"{checkpoint.space.model} (checkpoint {checkpoint.fingerprint}) is what {store.url} serves already; name "
            "another model, or declare its new revision"
        )
    is_there = checkpoint.fingerprint in head.checkpoints
    like = head.of(checkpoint.fingerprint if is_there else None).collection
    tiers = plan_tiers(
        checkpoint,
        wishes.tiers or [tier.name for tier in like.tiers],
        wishes.untrained_prefixes or (is_there and like.untrained_prefixes),
        wishes.connectivity,
        wishes.expansion_add,
        wishes.expansion_search,
    )
    planned = msgspec.structs.replace(
        like,
        checkpoint=checkpoint.fingerprint,
        prefix_dimensions=tiers[-1].dimensions,
        tiers=tiers,
        chunking=like.chunking if is_there and not wishes.cuts_anew else _chunking(head, store, checkpoint, wishes),
        untrained_prefixes=wishes.untrained_prefixes or (is_there and like.untrained_prefixes),
    )
    # Profiles may name tiers that only the other model has.
    fits = not list(serving_problems(planned))
    return planned if fits else msgspec.structs.replace(planned, serving=Serving())


def refuse_unfit_sources(cuts_anew: bool, sources: Sequence[str]) -> None:
    """Raise `InputError` when sources are needed and not given, or given and not needed."""
    if cuts_anew and not sources:
        raise InputError(
            "with another chunking documents are cut anew, and the store holds only their chunks: name the sources "
            "that they came from"
        )
    if sources and not cuts_anew:
        raise InputError(
            f"what is {sources[0]!r}? The texts are taken from the store; sources are only needed to cut documents "
            "anew (--chunk-tokens, --chunk-overlap)"
        )


def _chunking(head: Manifest, store: Store, checkpoint: Checkpoint, wishes: Wishes) -> Chunking:
    before = head.collection.chunking
    if not wishes.cuts_anew:
        return before.as_cut_by(read_checkpoint(store, head.checkpoint))
    chunking = Chunking(
        max_tokens=before.max_tokens if wishes.chunk_tokens is None else wishes.chunk_tokens,
        overlap_tokens=before.overlap_tokens if wishes.chunk_overlap is None else wishes.chunk_overlap,
    )
    check_chunking(checkpoint, chunking)
    return chunking
