"""How figures are drawn: as SVG that takes its colours and its typeface from the page that it stands in.

Matplotlib knows no CSS variables. It draws with colours that nothing else has, and they are put in their place
afterwards; so a figure follows the reader's light or dark theme.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#000001"
MUTED: Final = "#000002"
GRID: Final = "#000003"
SURFACE: Final = "#000004"
FLOOR: Final = "#000005"
SERIES: Final = tuple(f"#0001{at:02x}" for at in range(8))

_VARIABLES: Final = {INK: "--ink", MUTED: "--muted", GRID: "--line", SURFACE: "--surface", FLOOR: "--floor"} | {
    colour: f"--series-{at}" for at, colour in enumerate(SERIES)
}
_COLOURS: Final = re.compile("|".join(_VARIABLES))
_TAG: Final = re.compile(r"<[^>]+>")
# Dashes tell the tiers apart where colours do not.
_DASHES: Final = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "h")

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tierloom",
    "svg.image_inline": True,
    "text.parse_math": False,
    "text.color": INK,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.formatter.use_locale": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 72,
    "savefig.dpi": "figure",
    "path.simplify": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw as the report does, whatever else is configured on this machine."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def panel(width: float = 5.2, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; sizes in inches. Call it within `styled()`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def series(at: int) -> dict[str, Any]:
    """The look of a line: the colour, dash and marker of the series of this number."""
    return {
        "color": colour(at),
        "linestyle": _DASHES[at % len(_DASHES)],
        "marker": _MARKERS[at % len(_MARKERS)],
        "linewidth": 1.8,
        "markersize": 4.5,
        "markeredgewidth": 0,
    }


def colour(at: int) -> str:
    return SERIES[at % len(SERIES)]


def svg(figure: Figure, name: str) -> str:
    """The figure as an element to be put into a page. `name` keeps its ids apart from those of other figures."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = written.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" xmlns:xlink="http://www.w3.org/1999/xlink" aria-hidden="true">'
    return opening + _tidy(body, name) + "</svg>"


def _tidy(body: str, name: str) -> str:
    body = re.sub(r"\s*<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = _COLOURS.sub(lambda found: f"var({_VARIABLES[found[0]]})", body)
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', body))
    body = _with_own_ids(body, {one for pair in used for one in pair if one}, name)
    return re.sub(r"\n\s*", "\n", _TAG.sub(lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body))


def _with_own_ids(body: str, used: set[str], name: str) -> str:
    """Without the ids that nothing refers to; matplotlib gives the same ones to every figure."""
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
