"""How an advice looks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from index_builder.advising.choosing import Wish, largest_shortlist, pareto_front
from index_builder.advising.measuring import Option
from pipelines.commands.tables import size
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Tier
from tierloom.gate import PrefixProbe
from tierloom.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Advice:
    """All that is said of one version: what was probed, the `options` by their sizes, and the `chosen` one."""

    head: Manifest
    checkpoint: Checkpoint
    sample: int
    wish: Wish
    probes: tuple[PrefixProbe, ...]
    options: list[Option]
    untried: list[Tier]
    chosen: Option | None

    @property
    def rows(self) -> int:
        return self.head.live_chunks

    @property
    def refused(self) -> list[int]:
        return [probe.dimensions for probe in self.probes if probe.verdict == "refused"]


def as_json_object(advice: Advice) -> str:
    """For machines."""
    options: list[dict[str, Any]] = [
        {**msgspec.to_builtins(option), "front": front, "needs_new_collection": _is_beyond(option, advice)}
        for option, front in zip(advice.options, pareto_front(advice.options), strict=True)
    ]
    members = {
        "version": advice.head.version,
        "live_chunks": advice.rows,
        "sample": advice.sample,
        **msgspec.to_builtins(advice.wish),
        "prefixes": advice.probes,
        "options": options,
        "untried": advice.untried,
        "chosen": advice.chosen,
    }
    return msgspec.json.encode(members).decode()


def as_lines(advice: Advice, store: str) -> Iterator[str]:
    """For people; `store` as they named it."""
    yield f"version {advice.head.version}: measured on {advice.sample:,} of {advice.rows:,} live chunks"
    if advice.refused:
        yield f"not tried, because they carry no more than other dimensions would: {advice.refused}; see tierloom probe"
    if undecided := [probe.dimensions for probe in advice.probes if probe.verdict == "undecided"]:
        yield f"whether these carry more than other dimensions would, so few chunks cannot tell: {undecided}"
    yield f"{'tier':>14}{'M':>4}{'K':>6}{'recall@10':>15}{'bytes each':>12}{'in memory':>12}{'ms a query':>12}"
    for option, front in zip(advice.options, pareto_front(advice.options), strict=True):
        yield _line(option, front, advice)
    yield "* nothing else is at least as good in bytes, time and recall; + needs a new collection"
    if advice.untried:
        yield f"out of time for {', '.join(f'{t.name} M={t.connectivity}' for t in advice.untried)}; see --seconds"
    if advice.sample < advice.rows // 2:
        yield (
            f"among {advice.rows:,} chunks the same K finds less than among {advice.sample:,}: each has more rivals. "
            "What a version really finds is measured when it is published"
        )
    yield from _recommended(advice, store)


def _line(option: Option, front: bool, advice: Advice) -> str:
    half = (option.recall.high - option.recall.low) / 2
    recall, held = f"{option.recall.mean:.3f} ±{half:.3f}", size(round(option.bytes_per_vector * advice.rows))
    marks = ("*" if front else " ") + ("+" if _is_beyond(option, advice) else "")
    return (
        f"{option.tier.name:>14}{option.tier.connectivity:>4}{option.shortlist:>6}{recall:>15}"
        f"{option.bytes_per_vector:>12.0f}{held:>12}{option.milliseconds:>12.2f} {marks}".rstrip()
    )


def _is_beyond(option: Option, advice: Advice) -> bool:
    return option.tier.dimensions > advice.head.collection.prefix_dimensions


def _recommended(advice: Advice, store: str) -> Iterator[str]:
    chosen = advice.chosen
    if chosen is None:
        yield f"nothing that this collection can have fits into {size(advice.wish.memory or 0)}"
        return
    if chosen.recall.low < advice.wish.floor:
        yield f"nothing within reach finds {advice.wish.floor} for sure; this finds most:"
    held = size(round(chosen.bytes_per_vector * advice.rows))
    of_these = "smallest" if advice.wish.memory is None else "fastest"
    why = f", the {of_these} that finds {advice.wish.floor}" if chosen.recall.low >= advice.wish.floor else ""
    yield f"take tier {chosen.tier.name} with M={chosen.tier.connectivity}, K={_reach(chosen, advice)}{why}: {held}"
    if any(_is_same(tier, chosen.tier) for tier in advice.head.collection.tiers):
        yield "this collection has it already"
        return
    if any(tier.name == chosen.tier.name for tier in advice.head.collection.tiers):
        yield f"  tierloom tiers drop {store} {chosen.tier.name}"
    yield f"  tierloom tiers add {store} {chosen.tier.name}{_flags(chosen.tier, advice)}"


def _reach(option: Option, advice: Advice) -> str:
    most = largest_shortlist(option, advice.sample, advice.rows)
    return f"{option.shortlist}" if 2 * option.shortlist > most else f"{option.shortlist} (up to {most:,} at full size)"


def _is_same(one: Tier, other: Tier) -> bool:
    return (one.name, one.connectivity) == (other.name, other.connectivity)


def _flags(tier: Tier, advice: Advice) -> str:
    space = advice.checkpoint.space
    untrained = tier.dimensions not in (*space.trained_prefixes, space.dimensions)
    needed = untrained and not advice.head.collection.untrained_prefixes
    return f" --connectivity {tier.connectivity}" + (" --untrained-prefixes" if needed else "")
