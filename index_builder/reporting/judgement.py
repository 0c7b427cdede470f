"""What the facts of a collection amount to: the verdict of its gate, and what somebody should know about."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from index_builder.reporting.facts import Facts, TierFacts, VersionFacts
from tierloom.gate import Quality, TierQuality
from tierloom.generations import progress

Standing = Literal["safe", "below", "unmeasured"]
Weight = Literal["good", "warning", "bad", "neutral"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A sentence, and how heavily it weighs."""

    weight: Weight
    text: str


def standing(tier: TierFacts) -> Standing:
    if tier.quality is None:
        return "unmeasured"
    return "below" if tier.quality.safe_shortlist is None else "safe"


def at_shortlist(tier: TierQuality, shortlist: int) -> Quality:
    """The quality at the smallest measured shortlist that holds so many; the largest there is if none does."""
    held = [reranked.quality for reranked in tier.reranked if reranked.shortlist >= shortlist]
    rest = [reranked.quality for reranked in tier.reranked[-1:]]
    return (held or rest or [tier.alone])[0]


def shown_shortlist(tier: TierQuality) -> int:
    """Whose recall stands for the tier: the safe shortlist, else the largest that was measured."""
    return tier.safe_shortlist or max((reranked.shortlist for reranked in tier.reranked), default=1)


def verdict(facts: Facts) -> Judgement:
    """What the gate says about the newest version, in a sentence."""
    if not facts.head.live_chunks:
        return Judgement("neutral", "Nothing is live in this collection yet, so there is nothing to measure.")
    if facts.head.gate is None:
        return Judgement("warning", "This version was never measured: what its tiers lose is not known.")
    by_standing: dict[Standing, list[str]] = {"safe": [], "below": [], "unmeasured": []}
    for tier in facts.tiers:
        by_standing[standing(tier)].append(tier.tier.name)
    weight, sentence = _measured_verdict(by_standing, percent(facts.floor))
    figures = "; ".join(_figures(tier.quality) for tier in facts.tiers if tier.quality)
    return Judgement(weight, f"{sentence} {figures[:1].upper()}{figures[1:]}.")


def _measured_verdict(by_standing: dict[Standing, list[str]], floor: str) -> tuple[Weight, str]:
    if below := by_standing["below"]:
        reach = "does not reach" if len(below) == 1 else "do not reach"
        return "bad", f"{tier_list(below)} {reach} the floor of {floor} with any shortlist that was measured."
    if unmeasured := by_standing["unmeasured"]:
        was = "was" if len(unmeasured) == 1 else "were"
        return "warning", f"{tier_list(unmeasured)} {was} not measured in this version."
    safe = by_standing["safe"]
    every = f"All {len(safe)} tiers are" if len(safe) > 1 else f"{tier_list(safe)} is"
    return "good", f"{every} safe to serve: reranked, at least {floor} of the exact answers are found."


def _figures(tier: TierQuality) -> str:
    """`tier 64 finds 97.6 % (96.4 % to 98.8 %) from K = 200`."""
    shortlist = shown_shortlist(tier)
    recall = at_shortlist(tier, shortlist).recall
    at = "from" if tier.safe_shortlist else "even at"
    interval = f"{percent(recall.low)} to {percent(recall.high)}"
    return f"tier {tier.tier} finds {percent(recall.mean)} ({interval}) {at} K = {shortlist:,}"


def notices(facts: Facts) -> tuple[Judgement, ...]:
    """What somebody who was woken at night should look at first, heaviest first."""
    order = ("bad", "warning", "neutral", "good")
    found = (
        *_recall_falls(facts),
        *_generation_notices(facts),
        *_channel_notices(facts),
        *_letter_notices(facts),
        *_cap_notices(facts),
        *_gate_notices(facts),
    )
    return tuple(sorted(found, key=lambda notice: order.index(notice.weight)))


def _recall_falls(facts: Facts) -> Iterator[Judgement]:
    """Tiers that find less than in the version before, beyond what the sample leaves open."""
    measured = [version for version in facts.versions if version.gate]
    if len(measured) < 2 or facts.head.gate is None:
        return
    before, now = measured[-2], facts.head.gate
    for tier in now.tiers:
        past = before.gate.of_tier(tier.tier) if before.gate else None
        if past is None:
            continue
        shortlist = shown_shortlist(tier)
        old, new = at_shortlist(past, shortlist).recall, at_shortlist(tier, shortlist).recall
        if new.high < old.low:
            yield Judgement(
                "neutral",
                f"Tier {tier.tier} finds less than in version {before.version}: {percent(new.mean)} instead of "
                f"{percent(old.mean)}, {shortlist:,} reranked.",
            )


def _generation_notices(facts: Facts) -> Iterator[Judgement]:
    """How it stands with the generation beside that in front."""
    for other in facts.generations[1:]:
        model = other.checkpoint.space.model
        if not other.head.is_complete:
            yield Judgement(
                "neutral", f"A generation of {model} is being built: {progress(other.head)} of it is there."
            )
            continue
        if below := [tier.tier.name for tier in other.tiers if standing(tier) == "below"]:
            lies = "lies" if len(below) == 1 else "lie"
            yield Judgement(
                "warning", f"Of the generation of {model}, {tier_list(below, capital=False)} {lies} below the floor."
            )
        if not other.serving:
            yield Judgement("neutral", f"The generation of {model} is complete, and no channel serves it.")


def _channel_notices(facts: Facts) -> Iterator[Judgement]:
    for channel in facts.channels:
        if pointed := facts.pointed.get(channel.serves):
            yield from _doubts(f"Channel {channel.name} serves version {channel.version}", pointed)
        if behind := facts.head.version - channel.version:
            plural = "" if behind == 1 else "s"
            yield Judgement("neutral", f"Channel {channel.name} is {behind:,} version{plural} behind the newest.")


def _doubts(serves: str, pointed: VersionFacts) -> Iterator[Judgement]:
    if pointed.gate is None:
        if pointed.live_chunks:
            yield Judgement("warning", f"{serves}, which was never measured.")
    elif below := [tier.tier for tier in pointed.gate.tiers if tier.safe_shortlist is None]:
        lies = "lies" if len(below) == 1 else "lie"
        yield Judgement("bad", f"{serves}, where {tier_list(below, capital=False)} {lies} below the floor.")


def _letter_notices(facts: Facts) -> Iterator[Judgement]:
    if letters := sum(part.letters for part in facts.head.dead_letters):
        plural = "" if letters == 1 else "s"
        yield Judgement("warning", f"{letters:,} dead letter{plural} open: tierloom dead-letters lists them.")


def _cap_notices(facts: Facts) -> Iterator[Judgement]:
    if left := facts.head.left_documents:
        plural, them = ("", "it") if left == 1 else ("s", "them")
        yield Judgement(
            "warning",
            f"The {facts.head.run.command} of version {facts.head.version} left {left:,} document{plural} at its cap: "
            f"the same command goes on with {them}.",
        )


def _gate_notices(facts: Facts) -> Iterator[Judgement]:
    gate, declared = facts.head.gate, facts.head.collection.recall_floor
    if gate and gate.floor != declared:
        yield Judgement(
            "warning",
            f"The declared floor is {percent(declared)}; this version was measured for {percent(gate.floor)}.",
        )


def tier_list(names: list[str], capital: bool = True) -> str:
    """`Tier 64`, `Tiers 64, 128 and 256`."""
    word = "Tier" if capital else "tier"
    if len(names) == 1:
        return f"{word} {names[0]}"
    return f"{word}s {', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """`95 %`, `99.21 %`: as many decimals as it needs, at most two."""
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"
