"""The figures of what tiers find. Each takes facts and gives an SVG element; none holds text of the store but the names
of tiers, which are letters, digits and dashes."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from index_builder.reporting.facts import Facts, VersionFacts
from index_builder.reporting.judgement import at_shortlist, shown_shortlist
from pipelines.report.axes import PERCENT, floor, legend, shortlist_axis, thin, version_axis
from pipelines.report.canvas import INK, MUTED, SURFACE, colour, panel, series, styled, svg
from tierloom.gate import Estimate, Gate, Quality, TierQuality


def recall_by_shortlist(gate: Gate, tier: TierQuality, at: int) -> str:
    """The recall of a tier, which is the one of number `at`, against the size of the shortlist."""
    with styled():
        figure, axes = panel(4.6, 2.9)
        curve = [(reranked.shortlist, reranked.quality.recall) for reranked in tier.reranked]
        bottom = _recall_bottom(gate)
        _curve(axes, curve, at)
        floor(axes, gate.floor)
        _alone(axes, tier, bottom, at)
        _safe(axes, tier, at)
        shortlist_axis(axes, [shortlist for shortlist, _ in curve])
        axes.set_ylim(bottom, 1 + (1 - bottom) * 0.06)
        axes.yaxis.set_major_formatter(PERCENT)
        return svg(figure, f"recall-{at}")


def _curve(axes: Axes, curve: Sequence[tuple[int, Estimate]], at: int) -> None:
    shortlists = [shortlist for shortlist, _ in curve]
    low, high = [estimate.low for _, estimate in curve], [estimate.high for _, estimate in curve]
    axes.fill_between(shortlists, low, high, color=colour(at), alpha=0.18, linewidth=0)
    # A band of one point has no area.
    axes.vlines(shortlists, low, high, color=colour(at), alpha=0.35, linewidth=2)
    axes.plot(shortlists, [estimate.mean for _, estimate in curve], **series(at))


def _alone(axes: Axes, tier: TierQuality, bottom: float, at: int) -> None:
    """The tier without reranking, as a level at the left edge; below the axes it is pointed at."""
    recall = tier.alone.recall
    below = recall.mean < bottom
    axes.plot(
        [0.02], [max(recall.mean, bottom)], transform=axes.get_yaxis_transform(), color=colour(at), clip_on=False,
        marker="v" if below else "_", markersize=6 if below else 12, markeredgewidth=0 if below else 2.5,
    )  # fmt: skip
    # Near the top the curve would run through it.
    under = recall.mean > 1 - 0.2 * (1 - bottom)
    axes.annotate(
        f"alone {recall.mean:.3f}", (0.02, max(recall.mean, bottom)), xycoords=("axes fraction", "data"),
        xytext=(0 if under else 9, -5 if under else 3), textcoords="offset points", color=MUTED, fontsize=8.5,
        va="top" if under else "bottom",
    )  # fmt: skip


def _safe(axes: Axes, tier: TierQuality, at: int) -> None:
    if tier.safe_shortlist is None:
        return
    mean = at_shortlist(tier, tier.safe_shortlist).recall.mean
    axes.axvline(tier.safe_shortlist, color=colour(at), linewidth=1.1, linestyle=(0, (1, 2)), zorder=1.5)
    axes.plot(
        [tier.safe_shortlist], [mean], marker="o", markersize=9, markerfacecolor=SURFACE, markeredgecolor=colour(at),
        markeredgewidth=2.2, zorder=4,
    )  # fmt: skip
    axes.annotate(
        f"safe K = {tier.safe_shortlist:,}", (tier.safe_shortlist, 0.3), xycoords=("data", "axes fraction"),
        xytext=(4, 0), textcoords="offset points", color=INK, fontweight="bold", fontsize=9,
    )  # fmt: skip


def _recall_bottom(gate: Gate) -> float:
    """Where the axis of recall begins, for all tiers alike: below the floor and all that is reranked."""
    lows = [reranked.quality.recall.low for tier in gate.tiers for reranked in tier.reranked]
    least = min([*lows, gate.floor])
    return max(0.0, float(np.floor((least - 0.25 * (1 - least)) * 20) / 20))


def measure_by_shortlist(facts: Facts, measure: Callable[[Quality], Estimate | None], name: str) -> str:
    """A measure of documents (nDCG or the hit rate) of all tiers against the size of the shortlist, and of the exact
    answers."""
    with styled():
        figure, axes = panel(4.6, 2.9)
        for at, tier in facts.measured:
            known = [(reranked.shortlist, measure(reranked.quality)) for reranked in tier.reranked]
            points = [(shortlist, estimate.mean) for shortlist, estimate in known if estimate]
            axes.plot(*zip(*points, strict=True) if points else ([], []), **series(at), label=f"tier {tier.tier}")
        if (gate := facts.head.gate) and gate.exact and (exact := measure(gate.exact)):
            axes.axhline(exact.mean, color=INK, linewidth=1.2, linestyle=(0, (1, 1.5)), label="exact")
        shortlist_axis(axes, _shortlists(facts))
        legend(axes)
        return svg(figure, name)


def recall_over_versions(facts: Facts, reranked: bool) -> str:
    """The recall of each tier, version by version: reranked by its shortlist of today, or alone."""
    with styled():
        figure, axes = panel()
        for at, tier in facts.measured:
            shortlist = shown_shortlist(tier)
            found = [_recall(version, tier.tier, shortlist if reranked else None) for version in facts.versions]
            _line_with_band(axes, found, at, f"tier {tier.tier}" + (f", K = {shortlist:,}" if reranked else ""))
        if reranked:
            floor(axes, facts.floor)
        axes.set_ylim(top=1 + 0.06 * (1 - axes.get_ylim()[0]))
        axes.yaxis.set_major_formatter(PERCENT)
        version_axis(axes, facts.versions)
        legend(axes)
        return svg(figure, "reranked-over-versions" if reranked else "alone-over-versions")


def _recall(version: VersionFacts, tier: str, shortlist: int | None) -> Estimate | None:
    quality = version.gate.of_tier(tier) if version.gate else None
    if quality is None:
        return None
    return quality.alone.recall if shortlist is None else at_shortlist(quality, shortlist).recall


def _line_with_band(axes: Axes, found: Sequence[Estimate | None], at: int, label: str) -> None:
    places = range(len(found))
    mean, low, high = (
        [getattr(estimate, member) if estimate else float("nan") for estimate in found]
        for member in ("mean", "low", "high")
    )
    axes.fill_between(places, low, high, color=colour(at), alpha=0.18, linewidth=0)
    axes.plot(places, mean, **thin(series(at), len(found)), label=label)


def safe_shortlists(facts: Facts) -> str:
    """The smallest safe shortlist of each tier, version by version."""
    with styled():
        figure, axes = panel()
        for at, tier in facts.measured:
            safe = [_safe_shortlist(version, tier.tier) for version in facts.versions]
            axes.plot(
                range(len(safe)), safe, drawstyle="steps-mid", **thin(series(at), len(safe)), label=f"tier {tier.tier}"
            )
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        ticks = _shortlists(facts)
        axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        if ticks:
            axes.set_ylim(min(ticks) / 1.3, max(ticks) * 1.3)
        version_axis(axes, facts.versions)
        legend(axes)
        return svg(figure, "safe-over-versions")


def _safe_shortlist(version: VersionFacts, tier: str) -> float:
    quality = version.gate.of_tier(tier) if version.gate else None
    return float((quality and quality.safe_shortlist) or "nan")


def _shortlists(facts: Facts) -> list[int]:
    """Every size that was measured, ascending."""
    return sorted({reranked.shortlist for _, tier in facts.measured for reranked in tier.reranked})
