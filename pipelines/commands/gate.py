"""tierloom gate: how much of the exact answers each tier finds."""

from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

import tierloom
from index_builder.gate.setting import documents_missing, sample_of_queries, set_gate
from pipelines.affording import questions, refuse_beyond
from pipelines.commands.spending_options import cap_options
from pipelines.commands.tables import count
from pipelines.telling import say
from tierloom.gate import Estimate, Gate, Quality
from tierloom.generations import find_generation
from tierloom.manifest import Manifest
from tierloom.queries import JudgedQuery, read_queries
from tierloom.spending.terms import Caps
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_manifest


@click.command("gate")
@click.argument("store")
@click.option(
    "--queries",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Measure with these from now on: JSONL with "query" or "vector", and "relevant" document ids if known.',
)
@click.option("--held-out", is_flag=True, help="Measure with chunks of the corpus from now on, drawn anew.")
@click.option("--floor", type=click.FloatRange(0, 1), help="The recall that each tier must reach from now on.")
@click.option("--version", type=click.IntRange(0), help="Show this version.  [default: the newest]")
@click.option(
    "--checkpoint", metavar="NAME", help="Of the generation of this model, or of this (begin of a) fingerprint."
)
@cap_options
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
def command(
    store: str,
    queries: Path | None,
    held_out: bool,
    floor: float | None,
    version: int | None,
    checkpoint: str | None,
    caps: Caps,
    as_json: bool,
) -> None:
    """Show how much of the exact answers each tier of STORE finds, by itself and reranked; or change what it is
    measured by, which publishes a new version.

    Every version is measured when it is published, and none is whose tiers do not reach the floor. Recall is that of
    the first ten, against a search with all full vectors; the numbers in brackets are 95 % confidence intervals.
    """
    if queries is not None and held_out:
        raise click.UsageError("--queries and --held-out exclude each other")
    opened = open_store(store)
    shown = read_manifest(opened, head_version(opened) if version is None else version)
    manifest = shown if checkpoint is None else find_generation(shown, checkpoint, opened)
    if queries is not None or floor is not None or held_out:
        manifest = _changed(opened, store, queries, held_out, floor, manifest.checkpoint, caps)
    click.echo(msgspec.json.encode(manifest.gate) if as_json else described(manifest))


def _changed(
    opened: Store, store: str, queries: Path | None, held_out: bool, floor: float | None, checkpoint: str, caps: Caps
) -> Manifest:
    given = None
    if queries is not None:
        asked = read_queries(queries)
        given = sample_of_queries(asked, _vectors(store, asked, checkpoint, caps))
    manifest = set_gate(opened, floor, given, held_out, checkpoint)
    if queries is not None and (missing := documents_missing(asked, manifest, opened)):
        say(f"{count(len(missing), 'relevant document')} not live, such as {missing[0]}", "missing", "warning")
    return manifest


def _vectors(store: str, queries: list[JudgedQuery], checkpoint: str, caps: Caps) -> NDArray[np.float32]:
    with tierloom.open(store, checkpoint=checkpoint) as snapshot:
        refuse_beyond(caps, [questions(snapshot.checkpoint, [query.asked for query in queries])])
        return np.stack([snapshot.query_vector(query.asked) for query in queries])


def described(manifest: Manifest) -> str:
    """The figures as a table."""
    gate = manifest.gate
    if gate is None:
        return f"version {manifest.version}: nothing is live, so nothing was measured"
    of = "held-out chunks" if gate.source == "held-out" else "given queries"
    head = f"version {manifest.version}, {gate.queries:,} {of}, floor {gate.floor:g}; measured in {gate.seconds:.2f} s"
    return "\n".join([head, *_lines(gate)])


_COLUMNS = "{:12}  {:>9}  {:24}{}"


def _lines(gate: Gate) -> list[str]:
    judged = gate.exact is not None
    further = f"{'nDCG@10':24}{'hit rate@10':24}" if judged else ""
    lines = [_COLUMNS.format("tier", "shortlist", "recall@10", further).rstrip()]
    if gate.exact is not None:
        lines.append(_line("exact", "", gate.exact))
    for tier in gate.tiers:
        lines.append(_line(tier.tier, "alone", tier.alone))
        for one in tier.reranked:
            safe = "  <- the reader's default" if one.shortlist == tier.safe_shortlist else ""
            lines.append(_line("", f"{one.shortlist:,}", one.quality) + safe)
    return lines


def _line(name: str, shortlist: str, quality: Quality) -> str:
    further = "".join(_estimate(one) for one in (quality.ndcg, quality.hit_rate) if one is not None)
    return _COLUMNS.format(name, shortlist, _estimate(quality.recall), further).rstrip()


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})".ljust(24)
