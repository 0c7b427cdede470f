"""tierloom compare: two generations side by side."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from index_builder.comparing.compare import QUERIES, compare
from index_builder.comparing.comparison import ComparedGeneration, ComparedTier, Comparison
from pipelines.affording import questions, refuse_beyond
from pipelines.commands.spending_options import cap_options
from pipelines.commands.tables import size
from tierloom.gate import Advantage, Estimate
from tierloom.generations import percent_built, told
from tierloom.queries import read_queries
from tierloom.spending.terms import Caps
from tierloom.stores.opening import open_store
from tierloom.versions import head_version, read_checkpoint, read_manifest

Row = tuple[str, str, str]


@click.command("compare")
@click.argument("store")
@click.option(
    "--queries",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Ask these: JSONL with "query", and "relevant" document ids if known. Both models embed them.',
)
@click.option(
    "--sample",
    default=QUERIES,
    show_default=True,
    type=click.IntRange(1),
    help="Without --queries, ask so many chunks that both generations have; no model is asked.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Chooses the chunks.")
@click.option("--version", type=click.IntRange(0), help="Compare in this version.  [default: the newest]")
@cap_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, for `tierloom report`.")
def command(
    store: str, queries: Path | None, sample: int, seed: int, version: int | None, caps: Caps, as_json: bool
) -> None:
    """Put the two generations of STORE side by side on the same queries.

    Recall is of each tier as it is served, reranked, against the exact answers of its own generation. What both have in
    common is told of their exact first ten. nDCG and hit rate are told where relevant documents are known: then they
    say which model finds better, and the last line whether that may be chance.
    """
    opened = open_store(store)
    manifest = read_manifest(opened, head_version(opened) if version is None else version)
    asked = read_queries(queries) if queries else []
    models = [read_checkpoint(opened, checkpoint) for checkpoint in manifest.checkpoints] if asked else []
    refuse_beyond(caps, [questions(model, [query.asked for query in asked]) for model in models])
    found = compare(opened, manifest, asked, sample, seed)
    click.echo(msgspec.json.encode(found) if as_json else described(found))


def described(found: Comparison) -> str:
    """The comparison as a table of two columns, and what both have in common."""
    of = "held-out chunks" if found.source == "held-out" else "given queries"
    return "\n".join(
        [
            f"version {found.version}, {found.queries:,} {of}",
            _table([*_generation_rows(found), *_tier_rows(found)]),
            *_common(found),
        ]
    )


def _generation_rows(found: Comparison) -> Iterator[Row]:
    def row(name: str, value: Callable[[ComparedGeneration], str]) -> Row:
        return (name, value(found.first), value(found.second))

    yield row("", lambda side: told(side.model, side.checkpoint))
    yield row("dimensions", lambda side: f"{side.dimensions:,}")
    if any(percent_built(side.reached) != "100 %" for side in found.sides):
        yield row("built", lambda side: percent_built(side.reached))
    yield row("live documents", lambda side: f"{side.live_documents:,}")
    yield row("live chunks", lambda side: f"{side.live_chunks:,}")
    yield row("in the store", lambda side: size(side.stored_bytes))
    yield row("full vectors", lambda side: size(side.vector_bytes))
    if any(side.exact for side in found.sides):
        yield row("exact nDCG", lambda side: _estimate(side.exact.ndcg if side.exact else None))
        yield row("exact hit rate", lambda side: _estimate(side.exact.hit_rate if side.exact else None))
    yield row("exact time", lambda side: _milliseconds(side.exact_seconds))
    if any(side.embed_seconds is not None for side in found.sides):
        yield row("embedding", lambda side: _milliseconds(side.embed_seconds))


def _tier_rows(found: Comparison) -> Iterator[Row]:
    """A tier of one side stands beside that of the same name."""
    for name in dict.fromkeys(tier.tier for side in found.sides for tier in side.tiers):
        pair = [side.tier(name) for side in found.sides]

        def row(label: str, value: Callable[[ComparedTier], str], pair: list[ComparedTier | None] = pair) -> Row:
            first, second = (value(tier) if tier else "-" for tier in pair)
            return (label, first, second)

        yield row(f"tier {name}", lambda tier: f"{tier.shortlist:,} candidates, reranked")
        yield row("  recall", lambda tier: _estimate(tier.quality.recall))
        if any(tier and tier.quality.ndcg for tier in pair):
            yield row("  nDCG", lambda tier: _estimate(tier.quality.ndcg))
            yield row("  hit rate", lambda tier: _estimate(tier.quality.hit_rate))
        yield row("  in memory", lambda tier: size(tier.bytes))
        yield row("  time", lambda tier: _milliseconds(tier.seconds))


def _common(found: Comparison) -> Iterator[str]:
    yield f"the same documents in the exact first ten: {_estimate(found.documents)}"
    if found.chunks:
        yield f"the same chunks: {_estimate(found.chunks)}"
    second = told(found.second.model, found.second.checkpoint)
    for name, ahead in (("nDCG", found.ndcg), ("hit rate", found.hit_rate)):
        if ahead:
            between = f"({ahead.low:+.3f} to {ahead.high:+.3f})"
            yield f"{second} is ahead in {name} by {ahead.mean:+.3f} {between}{_sure(ahead)}"


def _sure(ahead: Advantage) -> str:
    return "" if ahead.low > 0 or ahead.high < 0 else ", which may be chance"


def _estimate(estimate: Estimate | None) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})" if estimate else "-"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f} ms"


def _table(rows: list[Row]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(2)]
    return "\n".join(f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)
