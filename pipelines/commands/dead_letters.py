"""tierloom dead-letters: what could not be processed, and another try."""

import time

import click
import msgspec

from pipelines.commands.spending_options import concurrency_option, lane_option, spending_options
from tierloom.dead_letter import DeadLetter
from tierloom.errors import MissingExtra
from tierloom.letters import read_letters
from tierloom.object_files import ObjectFiles
from tierloom.spending.terms import Allowance, Lane
from tierloom.stores.opening import open_store
from tierloom.versions import read_head


@click.command("dead-letters", context_settings={"ignore_unknown_options": True})
@click.argument("store")
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM OPTIONS]")
@click.option("--retry", is_flag=True, help="Send them through again.")
@concurrency_option
@spending_options
@lane_option
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a letter; with --retry, the closing table as JSON."
)
def command(
    store: str,
    beam_options: tuple[str, ...],
    retry: bool,
    concurrency: int,
    allowance: Allowance,
    lane: Lane,
    as_json: bool,
) -> None:
    """List the open dead letters of STORE, or --retry them.

    A letter stays open until a retry goes through or a newer event of its document lives.
    """
    if retry:
        _retry(store, beam_options, concurrency, allowance, lane, as_json)
        return
    if beam_options:
        raise click.UsageError(f"unexpected {beam_options[0]!r}: only a --retry takes more than the store")
    opened = open_store(store)
    letters = read_letters(read_head(opened).dead_letters, ObjectFiles(opened))
    for letter in letters:
        click.echo(msgspec.json.encode(letter) if as_json else described(letter))
    if not as_json:
        click.echo(
            f"{len(letters):,} open" + (f"; try again with: tierloom dead-letters {store} --retry" if letters else "")
        )


def described(letter: DeadLetter) -> str:
    """A letter on one line: reason, place, what happened."""
    place = letter.source + (f":{letter.line}" if letter.line else "")
    # Of a file the line tells more, or it is the whole that could not be read.
    place += f"@{letter.offset}" if letter.record and letter.offset else ""
    who = "" if letter.document_id in (None, place) else f" {letter.document_id}"
    chunk = f" #{letter.chunk.ordinal}" if letter.chunk else ""
    return f"{letter.reason}  {place}{who}{chunk}  {letter.detail}"


def _retry(
    store: str, beam_options: tuple[str, ...], concurrency: int, allowance: Allowance, lane: Lane, as_json: bool
) -> None:
    try:
        # Late: listing letters needs no Beam.
        from pipelines.retrying import retry_letters
    except ModuleNotFoundError as error:
        raise MissingExtra("pipeline", f"tierloom dead-letters --retry ({error.name})") from error
    began = time.monotonic()
    retry_letters(store, beam_options, concurrency, allowance, lane, as_json, began)
