"""The parts that several figures have: axes, the floor, the legend, and how numbers are written on them."""

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from index_builder.reporting.facts import VersionFacts
from pipelines.report.canvas import FLOOR, MUTED

# Points of a line that can each have a marker, and those that let it have its full width.
_MARKED: Final = 40
_BOLD: Final = 200
_TICKS: Final = 9
_HOLES: Final = 12
# What has room beside each other in the legend, in letters.
_LEGEND_LETTERS: Final = 66


def floor(axes: Axes, floor: float) -> None:
    axes.axhline(floor, color=FLOOR, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1.5)
    axes.annotate(
        "floor", (1, floor), xycoords=("axes fraction", "data"), xytext=(-2, -3), textcoords="offset points",
        ha="right", va="top", color=FLOOR, fontsize=8.5,
    )  # fmt: skip


def shortlist_axis(axes: Axes, shortlists: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(shortlists), [f"{shortlist:,}" for shortlist in shortlists])
    if shortlists:
        axes.set_xlim(min(shortlists) / 2.2, max(shortlists) * 1.6)
    axes.set_xlabel("K: candidates that are reranked")


def version_axis(axes: Axes, versions: Sequence[VersionFacts]) -> None:
    """Versions side by side, each labelled by its number: those that were retired take no room, and are marked by a
    dotted line."""
    step = -(-len(versions) // _TICKS)
    # The newest version always has its label.
    places = list(range(len(versions) - 1, -1, -step))[::-1]
    axes.set_xticks(places, [str(versions[place].version) for place in places])
    axes.set_xlim(-0.7, len(versions) - 0.3)
    axes.set_xlabel("version")
    holes = [at for at in range(1, len(versions)) if versions[at].version != versions[at - 1].version + 1]
    for hole in holes[:_HOLES]:
        axes.axvline(hole - 0.5, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0.5)


def legend(axes: Axes) -> None:
    """Above the axes, in as many columns as there is room for."""
    labels = axes.get_legend_handles_labels()[1]
    longest = max(map(len, labels), default=1)
    columns = max(1, min(4, _LEGEND_LETTERS // (longest + 7)))
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=columns,
        borderaxespad=0,
        handlelength=2.2,
        columnspacing=1.2,
    )


def thin(look: dict[str, Any], points: int) -> dict[str, Any]:
    """Without markers where they would run into each other."""
    return {
        **look,
        "marker": look["marker"] if points <= _MARKED else None,
        "linewidth": 1.8 if points <= _BOLD else 1.1,
    }


def short_number(value: float, _place: float | None = None) -> str:
    """Short, for an axis: 950, 12k, 1.5M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:g}"


def short_percent(share: float, _place: float | None = None) -> str:
    return f"{100 * share:.4g} %" if share <= 1.0001 else ""


NUMBERS: Final = FuncFormatter(short_number)
PERCENT: Final = FuncFormatter(short_percent)
