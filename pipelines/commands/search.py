"""tierloom search: ask a collection."""

import json
import textwrap
from dataclasses import asdict

import click

import tierloom
from pipelines.telling import say
from tierloom import names
from tierloom.answer import Answer, Hit
from tierloom.generations import progress
from tierloom.manifest import Manifest


@click.command("search")
@click.argument("store")
@click.argument("question")
@click.option("--class", "query_class", help="The class of the query: the collection declares its profile.")
@click.option("--profile", help="Search by this declared profile.  [default: the collection's]")
@click.option("--tier", help="Shortlist on this tier: 64, or 256-binary.  [default: the profile's]")
@click.option(
    "--shortlist",
    type=click.IntRange(1),
    help="Candidates to take from the tier.  [default: the profile's, or the smallest that the gate found safe]",
)
@click.option(
    "--rerank/--no-rerank",
    default=None,
    help="Score the shortlist exactly with the full vectors.  [default: as the profile says]",
)
@click.option("--top", type=click.IntRange(1), help="Hits to print.  [default: the profile's]")
@click.option("--by-document", is_flag=True, help="Print the best chunk of each of the best documents.")
@click.option("--channel", default=names.LATEST, show_default=True, help="Search the version that this channel names.")
@click.option("--version", "version", type=click.IntRange(0), help="Search this version, whatever the channel names.")
@click.option(
    "--checkpoint", metavar="NAME", help="Search the generation of this model, or of this (begin of a) fingerprint."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: the hits, and what served them.")
def command(
    store: str,
    question: str,
    query_class: str | None,
    profile: str | None,
    tier: str | None,
    shortlist: int | None,
    rerank: bool | None,
    top: int | None,
    by_document: bool,
    channel: str,
    version: int | None,
    checkpoint: str | None,
    as_json: bool,
) -> None:
    """Print the chunks of STORE that answer QUESTION best."""
    with tierloom.open(store, version, channel=channel, checkpoint=checkpoint) as snapshot:
        _warn_of_building(snapshot.manifest)
        answer = snapshot.search(
            question,
            query_class=query_class,
            profile=profile,
            tier=tier,
            shortlist=shortlist,
            rerank=rerank,
            top=top,
            by_document=by_document,
        )
    if as_json:
        click.echo(json.dumps(asdict(answer), ensure_ascii=False))
        return
    click.echo("\n".join(map(_shown, range(1, len(answer) + 1), answer)) or "nothing found: the collection is empty")
    say(_served_by(answer), "served")


def _warn_of_building(manifest: Manifest) -> None:
    if not manifest.is_complete:
        click.echo(f"this generation is being built: {progress(manifest)} of the documents are in it", err=True)


def _shown(rank: int, hit: Hit) -> str:
    heading = f"  {hit.heading}" if hit.heading else ""
    text = textwrap.shorten(hit.text, 300, placeholder=" ...")
    body = textwrap.fill(text, 100, initial_indent="      ", subsequent_indent="      ")
    return f"{rank:3}.  {hit.score:.4f}  {hit.document_id} #{hit.ordinal}{heading}\n{body}"


def _served_by(answer: Answer) -> str:
    """What served it, for people."""
    unrouted = answer.query_class is not None and not answer.routed
    found = f"{answer.candidates} candidates{', reranked' if answer.reranked else ''}"
    return (
        f"{f'no route for class {answer.query_class}; ' if unrouted else ''}profile {answer.profile}, "
        f"tier {answer.tier}, {found}; version {answer.version}, checkpoint {answer.checkpoint}"
    )
