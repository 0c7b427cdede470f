"""tierloom search: ask a collection."""

import json
import textwrap
from dataclasses import asdict

import click

import tierloom
from tierloom.answer import Hit
from tierloom.routing import UNMEASURED_SHORTLIST
from tierloom.serving import DEFAULT_TOP


@click.command("search")
@click.argument("store")
@click.argument("question")
@click.option("--tier", help="Name of the tier to shortlist on, such as 64.  [default: the largest]")
@click.option(
    "--shortlist",
    default=UNMEASURED_SHORTLIST,
    show_default=True,
    type=click.IntRange(1),
    help="Candidates to take from the tier.",
)
@click.option(
    "--rerank/--no-rerank", default=True, show_default=True, help="Score the shortlist exactly with the full vectors."
)
@click.option("--top", default=DEFAULT_TOP, show_default=True, type=click.IntRange(1), help="Hits to print.")
@click.option("--version", "version", type=click.IntRange(0), help="Search this version.  [default: the newest]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(
    store: str,
    question: str,
    tier: str | None,
    shortlist: int,
    rerank: bool,
    top: int,
    version: int | None,
    as_json: bool,
) -> None:
    """Print the chunks of STORE that answer QUESTION best."""
    with tierloom.open(store, version) as snapshot:
        hits = snapshot.search(question, tier=tier, shortlist=shortlist, rerank=rerank, top=top)
    if as_json:
        click.echo(json.dumps([asdict(hit) for hit in hits], ensure_ascii=False))
    elif hits:
        click.echo("\n".join(_shown(rank, hit) for rank, hit in enumerate(hits, start=1)))
    else:
        click.echo("nothing found: the collection is empty")


def _shown(rank: int, hit: Hit) -> str:
    heading = f"  {hit.heading}" if hit.heading else ""
    text = textwrap.shorten(hit.text, 300, placeholder=" ...")
    body = textwrap.fill(text, 100, initial_indent="      ", subsequent_indent="      ")
    return f"{rank:3}.  {hit.score:.4f}  {hit.document_id} #{hit.ordinal}{heading}\n{body}"
