"""tierloom report: a page about a collection."""

from pathlib import Path

import click

from index_builder.comparing.comparison import read_comparison
from index_builder.reporting.facts import gather
from pipelines.commands.tables import size
from tierloom.errors import InputError, MissingExtra
from tierloom.stores.opening import open_store


@click.command("report")
@click.argument("store")
@click.option(
    "-o", "--output", default="report.html", show_default=True, type=click.Path(dir_okay=False, path_type=Path),
    help="Where the page is written.",
)  # fmt: skip
@click.option("--last", type=click.IntRange(1), help="Only so many versions, the newest.  [default: all that are kept]")
@click.option(
    "--comparison",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Show what `tierloom compare --json` has written to this file.",
)
def command(store: str, output: Path, last: int | None, comparison: Path | None) -> None:
    """Write a page about STORE: what each tier loses, what it takes in memory, where the newest version came from, and
    what the versions before it added and cost; and of a collection with two generations, both of them.

    One HTML file that needs no network and no scripts. The same state of STORE gives the same bytes.
    """
    try:
        # Late: an optional extra.
        from pipelines.report.page import page
    except ModuleNotFoundError as error:
        raise MissingExtra("report", f"tierloom report ({error.name})") from error
    found = read_comparison(comparison) if comparison else None
    data = page(gather(open_store(store), last, found)).encode()
    try:
        output.write_bytes(data)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}; name another file with -o") from error
    click.echo(f"{output}: {size(len(data))}")
