"""What speaks against serving a generation of a version: it is not complete, its tiers were not measured or lose too
much, or objects are gone. Everything here looks at the generation in front of the manifest that it is given."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tierloom import names
from tierloom.errors import Corrupt, PromotionRefused
from tierloom.gate import Gate, Quality, TierQuality
from tierloom.generations import progress, told
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint, read_head

_AT_ONCE: Final = 16


def refuse_incomplete(manifest: Manifest, store: Store) -> None:
    """Raise `PromotionRefused`, which no force overcomes, for a generation that lacks documents still."""
    if not manifest.is_complete:
        model = read_checkpoint(store, manifest.checkpoint).space.model
        raise PromotionRefused(
            f"{told(model, manifest.checkpoint)} is not complete in version {manifest.version}: its building has "
            f"reached {progress(manifest)} ({manifest.reached:,} of {KEY_UNITS:,} keys). Go on with the command that "
            f"began it: tierloom reembed {store.url} --model ..."
        )


def reasons_against(manifest: Manifest, floor: float, url: str) -> tuple[str, ...]:
    """Why a version may not be promoted in a collection whose recall floor is `floor` now, each with its cure; `url`
    is the store's."""
    if not manifest.live_chunks:
        return ("nothing is live in it; ingest documents first",)
    if manifest.gate is None:
        return (f"its tiers were never measured; publish a version that is (tierloom gate {url} --held-out)",)
    return tuple(_shortcomings(manifest, manifest.gate, floor, url))


def _shortcomings(manifest: Manifest, gate: Gate, floor: float, url: str) -> Iterator[str]:
    if gate.floor < floor:
        yield (
            f"it was measured against a recall floor of {gate.floor:g}, and the collection's is {floor:g} now; promote "
            f"a version that was published since, or lower the floor (tierloom gate {url} --floor {gate.floor:g})"
        )
    for tier in manifest.collection.tiers:
        drop = f"tierloom tiers drop {url} {tier.name}"
        if (quality := gate.of_tier(tier.name)) is None:
            yield f"tier {tier.name} was not measured; drop it ({drop}) and add it again"
        elif quality.safe_shortlist is None:
            yield (
                f"tier {tier.name} reaches a recall of {_best(quality)}, and the floor is {gate.floor:g}; "
                f"drop it ({drop}), or add it again with more --connectivity and --expansion-search"
            )


def _best(quality: TierQuality) -> str:
    if not quality.reranked:
        return f"{_recall(quality.alone)} by itself"
    largest = quality.reranked[-1]
    return f"{_recall(largest.quality)} with a reranked shortlist of {largest.shortlist:,}"


def _recall(quality: Quality) -> str:
    recall = quality.recall
    return f"{recall.mean:.3f} ({recall.low:.3f} to {recall.high:.3f})"


def floor_of(manifest: Manifest, store: Store) -> float:
    """The recall floor of a generation now: what the newest version declares for it, or for what is in its front."""
    head = read_head(store)
    return head.of(manifest.checkpoint if manifest.checkpoint in head.checkpoints else None).collection.recall_floor


def doubts(manifest: Manifest) -> tuple[str, ...]:
    """What the owner of the profiles should look at, though it is no reason against a promotion."""
    gate = manifest.gate
    return tuple(
        f"profile {name} takes a shortlist of {profile.shortlist:,} from tier {profile.tier}; "
        f"the smallest that was measured to be safe is {quality.safe_shortlist:,}"
        for name, profile in manifest.collection.serving.profiles.items()
        if gate and profile.rerank and profile.shortlist
        if (quality := gate.of_tier(profile.tier)) and quality.safe_shortlist
        if profile.shortlist < quality.safe_shortlist
    )


def refuse_missing_objects(manifest: Manifest, store: Store) -> None:
    """Raise `Corrupt` unless the store holds every object of the generation, in the length that the version states."""
    stated: dict[str, int | None] = {stored.path: stored.bytes for stored in manifest.own_objects()}
    stated[names.checkpoint(manifest.checkpoint)] = None
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="promote") as pool:
        found = dict(zip(stated, pool.map(store.size, stated), strict=True))
    odd = [name for name, length in found.items() if length is None or stated[name] not in (None, length)]
    if odd:
        length = "gone" if found[odd[0]] is None else f"{found[odd[0]]:,} bytes long instead of {stated[odd[0]]:,}"
        more = f", and {len(odd) - 1:,} more are not as they should be" if len(odd) > 1 else ""
        raise Corrupt(
            f"version {manifest.version} cannot be served: {odd[0]} is {length}{more}; "
            f"see tierloom verify {store.url} {manifest.version}"
        )
