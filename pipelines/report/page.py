"""The page: facts in words, tables and figures, in one file that asks nobody for anything."""

import unicodedata
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from index_builder.reporting.facts import Facts, VersionFacts, full_row_bytes
from index_builder.reporting.judgement import at_shortlist, notices, percent, shown_shortlist, standing, verdict
from index_builder.reporting.lineage import lineage
from pipelines.commands.tables import count, size
from pipelines.report import quality_figures, run_figures
from pipelines.report.lineage_drawing import draw
from tierloom.gate import Advantage, Estimate, Gate, Quality
from tierloom.generations import percent_built
from tierloom.serving import Profile

# What is drawn of the newest versions in the table; older ones are in the figures.
ROWS: Final = 50
# Of each channel, the newest; tierloom channels lists the others.
MOVES: Final = 5
_LONGEST: Final = 1000


def page(facts: Facts) -> str:
    """The report as HTML. The same facts give the same bytes."""
    return _ENVIRONMENT.get_template("page.html").render(
        facts=facts,
        head=facts.head,
        space=facts.checkpoint.space,
        gate=facts.head.gate,
        verdict=verdict(facts),
        notices=notices(facts),
        drawings=tuple((draw(lineage(one), one), one) for one in facts.generations),
        rows=tuple(reversed(facts.versions))[:ROWS],
        figures={name: Markup(drawn) for name, drawn in _figures(facts).items()},
    )


def _figures(facts: Facts) -> dict[str, str]:
    """Those that have something to show, by name."""
    drawn: dict[str, str] = {}
    if facts.head.gate:
        drawn |= _gate_figures(facts, facts.head.gate)
    if facts.head.live_chunks:
        drawn["memory"] = run_figures.memory(facts)
    if facts.measured:
        drawn["reranked"] = quality_figures.recall_over_versions(facts, reranked=True)
        drawn["alone"] = quality_figures.recall_over_versions(facts, reranked=False)
        drawn["safe"] = quality_figures.safe_shortlists(facts)
    if any(version.run.documents.documents_in or version.live_chunks for version in facts.versions):
        drawn |= _run_figures(facts)
    return drawn


def _gate_figures(facts: Facts, gate: Gate) -> dict[str, str]:
    drawn = {f"recall-{at}": quality_figures.recall_by_shortlist(gate, tier, at) for at, tier in facts.measured}
    for name, measure in (("ndcg", ndcg), ("hits", hit_rate)):
        if any(measure(reranked.quality) for _, tier in facts.measured for reranked in tier.reranked):
            drawn[name] = quality_figures.measure_by_shortlist(facts, measure, name)
    return drawn


def _run_figures(facts: Facts) -> dict[str, str]:
    drawn = {
        "documents": run_figures.bars_by_version(
            facts, "documents", (("added", added), ("changed", changed), ("removed", removed))
        ),
        "chunks": run_figures.bars_by_version(
            facts, "chunks", (("embedded", embedded), ("copied", copied), ("found", found))
        ),
        "tokens": run_figures.bars_by_version(facts, "tokens", (("tokens", tokens),)),
        "live": run_figures.live_chunks(facts),
    }
    if any(map(gate_seconds, facts.versions)):
        drawn["seconds"] = run_figures.bars_by_version(facts, "seconds", (("seconds", gate_seconds),))
    return drawn


def ndcg(quality: Quality) -> Estimate | None:
    return quality.ndcg


def hit_rate(quality: Quality) -> Estimate | None:
    return quality.hit_rate


def added(version: VersionFacts) -> float:
    return version.run.added


def changed(version: VersionFacts) -> float:
    return version.run.changed


def removed(version: VersionFacts) -> float:
    return -version.run.removed


def embedded(version: VersionFacts) -> float:
    return version.run.embedded_chunks


def copied(version: VersionFacts) -> float:
    return version.run.copied_chunks


def found(version: VersionFacts) -> float:
    return version.run.found_chunks


def tokens(version: VersionFacts) -> float:
    return version.run.tokens


def gate_seconds(version: VersionFacts) -> float:
    return version.gate.seconds if version.gate else 0.0


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"  # noqa: RUF001 - a dash


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f}–{estimate.high:.3f}"  # noqa: RUF001 - a dash


def _ahead(advantage: Advantage) -> str:
    """`+0.020 (+0.010 to +0.030)`."""
    return f"{advantage.mean:+.3f} ({advantage.low:+.3f} to {advantage.high:+.3f})"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.2f} ms"  # noqa: RUF001 - a dash


def _moment(written: str) -> str:
    """RFC 3339 for people: to the second, in UTC."""
    return written.replace("T", " ").removesuffix("Z")[:19] + (" UTC" if written.endswith("Z") else "")


def _funnel(profile: Profile) -> str:
    return ", ".join(f"{step.keep:,} by {step.dimensions} dimensions" for step in profile.funnel)


def _plain(value: Any) -> Any:
    """Strings of the store as a page may show them: neither endless, nor with characters that steer how it is read."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    clipped = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(one) in _STEERING else one for one in clipped)


def _clip(value: str, most: int) -> str:
    return value if len(value) <= most else value[: most - 1] + "…"


# Control, format, surrogate, private and unassigned characters; line and paragraph separators.
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        finalize=_plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ahead": _ahead,
        "milliseconds": _milliseconds,
        "built": percent_built,
        "clip": _clip,
        "funnel": _funnel,
        "interval": _interval,
        "moment": _moment,
        "number": _number,
        "percent": percent,
        "size": size,
    }
    environment.globals |= {
        "BARS": run_figures.BARS,
        "MOVES": MOVES,
        "at_shortlist": at_shortlist,
        "count": count,
        "full_row_bytes": full_row_bytes,
        "shown_shortlist": shown_shortlist,
        "standing": standing,
    }
    return environment


_ENVIRONMENT: Final = _environment()
