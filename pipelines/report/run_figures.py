"""The figures of what a collection takes and of what its runs did. Each takes facts and gives an SVG element."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from matplotlib.ticker import MaxNLocator

from index_builder.reporting.facts import Facts, VersionFacts
from pipelines.commands.tables import size
from pipelines.report.axes import NUMBERS, legend, thin, version_axis
from pipelines.report.canvas import INK, MUTED, colour, panel, series, styled, svg

# More versions than these share their bars.
BARS: Final = 60
# Parts of a whole are drawn in colours that lie apart.
_PARTS: Final = (0, 2, 1, 3)
# Fewer bars than these leave room between them.
_FULL: Final = 8


def memory(facts: Facts) -> str:
    """Bytes of each tier, of the full vectors, and of a full index."""
    bars = [
        *((f"tier {tier.tier.name}", tier.bytes, colour(at)) for at, tier in enumerate(facts.tiers)),
        ("full vectors, float16", facts.full_vector_bytes, MUTED),
        ("full index, float32", facts.full_index_bytes, INK),
    ]
    with styled():
        figure, axes = panel(5.2, 0.75 + 0.36 * len(bars))
        places = range(len(bars))
        axes.barh(places, [taken for _, taken, _ in bars], color=[paint for *_, paint in bars], height=0.62)
        for place, (_, taken, _) in zip(places, bars, strict=True):
            axes.annotate(
                _against(taken, facts.full_index_bytes), (taken, place), xytext=(5, 0), textcoords="offset points",
                va="center", color=INK, fontsize=8.5,
            )  # fmt: skip
        axes.set_yticks(places, [label for label, *_ in bars])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlim(0, max(taken for _, taken, _ in bars) * 1.3 or 1)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        return svg(figure, "memory")


def _against(taken: int, full: int) -> str:
    ratio = full / taken if taken else 0.0
    return f"{size(taken)}, {ratio:.1f} times less" if ratio >= 1.05 else size(taken)


def live_chunks(facts: Facts) -> str:
    with styled():
        figure, axes = panel()
        live = [version.live_chunks for version in facts.versions]
        axes.fill_between(range(len(live)), live, color=colour(0), alpha=0.18, linewidth=0)
        axes.plot(range(len(live)), live, **thin(series(0), len(live)))
        axes.set_ylim(bottom=0, top=max(live) * 1.1 or 1)
        axes.yaxis.set_major_formatter(NUMBERS)
        version_axis(axes, facts.versions)
        return svg(figure, "live-chunks")


def bars_by_version(facts: Facts, name: str, parts: Sequence[tuple[str, Callable[[VersionFacts], float]]]) -> str:
    """Stacked bars, one a version; where there are too many, each stands for several that follow each other. What is
    negative hangs below the axis."""
    versions = facts.versions
    step = -(-len(versions) // BARS)
    begins = range(0, len(versions), step)
    width = 0.78 * step * min(1, len(begins) / _FULL)
    with styled():
        figure, axes = panel()
        over, under = np.zeros(len(begins)), np.zeros(len(begins))
        for at, (label, value) in enumerate(parts):
            sums = np.array([sum(map(value, versions[begin : begin + step])) for begin in begins], dtype=float)
            base = np.where(sums < 0, under, over)
            axes.bar(
                [begin + (step - 1) / 2 for begin in begins],
                sums,
                bottom=base,
                color=colour(_PARTS[at]),
                label=label,
                width=width,
            )
            over, under = over + np.maximum(sums, 0), under + np.minimum(sums, 0)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_ylim(1.08 * under.min(), 1.08 * over.max() or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=bool(over.max() >= 5)))
        axes.yaxis.set_major_formatter(NUMBERS)
        version_axis(axes, versions)
        if len(parts) > 1:
            legend(axes)
        return svg(figure, name)
