"""Adding tiers to a live collection, from the prefixes that are stored, and dropping them. No model is asked."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import msgspec

from index_builder.build import IndexTask
from index_builder.build_pool import BuildPool, VerifiedBuilds
from index_builder.upkeep.publishing import publish_upkeep
from tierloom.collection import Collection, Tier, tier_order
from tierloom.errors import CheckpointError
from tierloom.manifest import IndexShard, Manifest
from tierloom.stores.store import Store


@dataclass(frozen=True, slots=True)
class AddedTiers:
    """The version that has the tiers first, and their index shards in it."""

    version: int
    index_shards: tuple[IndexShard, ...]


def add_tiers(
    store: Store,
    tiers: Sequence[Tier],
    untrained_prefixes: bool = False,
    apart: bool = True,
    checkpoint: str | None = None,
) -> AddedTiers:
    """Build tiers over all that is live in the generation of a checkpoint, and publish them together.

    Whatever is published meanwhile is built as well: no version has a tier that does not cover it. Killed at any
    point, it has published nothing, and finds what it has built when it is asked again. `untrained_prefixes` is
    noted if it was needed. Raises `CheckpointError` when the generation has a tier of that name, or stores no such
    prefix; `VerificationError` when a tier misses what it should find; `CheckpointMismatch` without such a generation.
    """
    with BuildPool(apart) as pool:
        builds = VerifiedBuilds(store, pool)

        def change(head: Manifest) -> Manifest:
            collection = _with_tiers(head.collection, tiers, untrained_prefixes)
            built = builds.of([task for tier in tiers for task in _tasks(tier, head)])
            return msgspec.structs.replace(head, collection=collection, index_shards=(*head.index_shards, *built))

        published = publish_upkeep("tiers add", change, store, checkpoint)
    names = {tier.name for tier in tiers}
    return AddedTiers(published.version, tuple(index for index in published.index_shards if index.tier in names))


def drop_tiers(store: Store, names: Sequence[int | str], checkpoint: str | None = None) -> int:
    """Publish a version whose generation of a checkpoint has no tiers of these names; its number. Their prefixes stay
    stored, so they can be added again.

    Raises `CheckpointError` when it has no such tier, serves it in a profile, or would have none left;
    `CheckpointMismatch` without such a generation.
    """

    def change(head: Manifest) -> Manifest:
        dropped = {head.collection.tier(name).name for name in names}
        tiers = tuple(tier for tier in head.collection.tiers if tier.name not in dropped)
        if not tiers:
            every = ", ".join(tier.name for tier in head.collection.tiers)
            raise CheckpointError(f"tiers {every} are all that this collection has; add another one first")
        _refuse_served(head.collection, dropped)
        return msgspec.structs.replace(
            head,
            collection=msgspec.structs.replace(head.collection, tiers=tiers),
            index_shards=tuple(index for index in head.index_shards if index.tier not in dropped),
        )

    return publish_upkeep("tiers drop", change, store, checkpoint).version


def _refuse_served(collection: Collection, dropped: Set[str]) -> None:
    used = {name: profile.tier for name, profile in collection.serving.profiles.items() if profile.tier in dropped}
    if used:
        said = "; ".join(f"profile {name} searches tier {tier}" for name, tier in used.items())
        raise CheckpointError(f"{said}; let it search another one first, with tierloom serving")


def refuse_unfit_tiers(collection: Collection, tiers: Sequence[Tier]) -> None:
    """Raise `CheckpointError` for a tier that the collection has, or does not store the prefix of."""
    there = {tier.name for tier in collection.tiers}
    if twice := [tier.name for tier in tiers if tier.name in there]:
        raise CheckpointError(f"this collection has tiers {', '.join(twice)} already; drop them to build them anew")
    if beyond := [tier.name for tier in tiers if tier.dimensions > collection.prefix_dimensions]:
        raise CheckpointError(
            f"tiers {', '.join(beyond)} lie beyond the {collection.prefix_dimensions} components that this collection "
            "stores as prefixes; a collection with larger tiers must be made anew"
        )


def _with_tiers(collection: Collection, tiers: Sequence[Tier], untrained_prefixes: bool) -> Collection:
    refuse_unfit_tiers(collection, tiers)
    return msgspec.structs.replace(
        collection,
        tiers=tuple(sorted((*collection.tiers, *tiers), key=tier_order)),
        untrained_prefixes=collection.untrained_prefixes or untrained_prefixes,
    )


def _tasks(tier: Tier, head: Manifest) -> list[IndexTask]:
    """The new tier groups the vector shards as the largest there is: what hangs together is rewritten together."""
    stored = {shard.path: shard for shard in head.vector_shards}
    grouped = head.index_shards_of(head.collection.tiers[-1].name)
    return [IndexTask(tier, tuple(stored[path] for path in index.vector_shards)) for index in grouped]
