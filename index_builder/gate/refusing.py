"""Refusing versions whose tiers do not find what they should, in words that help."""

from collections.abc import Sequence

from tierloom.collection import Collection
from tierloom.errors import BelowFloor, NotMatryoshka
from tierloom.gate import Gate, PrefixProbe, TierQuality


def refuse_other_models(measured: Sequence[PrefixProbe], collection: Collection) -> None:
    """Raise `NotMatryoshka` when a prefix that tiers are cut to is no better than as many other dimensions, and none of
    the others is; unless untrained prefixes were accepted."""
    sizes = {tier.dimensions for tier in collection.tiers}
    probes = [probe for probe in measured if probe.dimensions in sizes]
    if collection.untrained_prefixes or any(probe.verdict == "matryoshka" for probe in probes):
        return
    for probe in probes:
        if probe.verdict == "refused":
            raise NotMatryoshka(
                f"the first {probe.dimensions} dimensions find {probe.overlap.mean:.3f} of the nearest neighbours, "
                f"random projections to as many {probe.projected.mean:.3f}, random dimensions {probe.subset.mean:.3f}: "
                "this is no Matryoshka model, or its vectors need a step before the cut (`tierloom probe`). Nothing "
                "was published. Serve full dimensions, or accept what such tiers lose with `init --untrained-prefixes`"
            )


def refuse_below_floor(gate: Gate) -> None:
    """Raise `BelowFloor` when a tier has no safe shortlist, with what it found and what can be done."""
    low = [tier for tier in gate.tiers if tier.safe_shortlist is None]
    if low:
        queries = "held-out chunks" if gate.source == "held-out" else "given queries"
        raise BelowFloor(
            f"{'; '.join(map(_told, low))}; the floor is {gate.floor:g}, on {gate.queries} {queries}. Nothing was "
            "published. Build the tier with a larger --connectivity and --expansion-add, drop it with `tierloom tiers "
            "drop`, or lower the floor with `tierloom gate STORE --floor`"
        )


def _told(tier: TierQuality) -> str:
    longest = tier.reranked[-1]
    recall = longest.quality.recall
    return (
        f"tier {tier.tier} misses its recall floor: the best {longest.shortlist} of it, reranked, hold "
        f"{recall.mean:.3f} ({recall.low:.3f} to {recall.high:.3f}) of the exact answers"
    )
