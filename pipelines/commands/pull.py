"""tierloom pull: mirror a version for a fleet."""

import sys

import click
import msgspec

from pipelines.commands.tables import count, size, table
from pipelines.telling import is_structured
from tierloom import names
from tierloom.generations import told
from tierloom.mirroring.fetching import Progress
from tierloom.mirroring.pulling import PullReport, pull, roll_back
from tierloom.stores.opening import open_store


@click.command("pull")
@click.argument("store")
@click.argument("folder", metavar="DIR", required=False)
@click.option("--channel", default=names.LATEST, show_default=True, help="Mirror what this channel names.")
@click.option("--version", "version", type=click.IntRange(0), help="Mirror this version instead.")
@click.option(
    "--checkpoint",
    metavar="NAME",
    help="Mirror the generation of this model, or of this (begin of a) fingerprint.  [default: as the channel serves]",
)
@click.option("--tiers", help="Names of tiers, such as 64,256-binary.  [default: all]")
@click.option("--no-vectors", is_flag=True, help="Leave out the full vectors: to search by tiers and prefixes.")
@click.option("--rollback", is_flag=True, help="Of the mirror STORE itself, without DIR: serve the version before.")
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    store: str,
    folder: str | None,
    channel: str,
    version: int | None,
    checkpoint: str | None,
    tiers: str | None,
    no_vectors: bool,
    rollback: bool,
    as_json: bool,
) -> None:
    """Mirror a version of STORE into DIR, a folder that is a store itself and is read like one.

    What is there already is kept, every byte is checked, and DIR serves the new version from one moment to the next;
    until then, and if anything fails, what it served before. The version before is kept for --rollback.
    """
    if rollback == (folder is not None):
        raise click.UsageError("give STORE and DIR; or, with --rollback, the mirror alone")
    if folder is None:
        _print_rollback(store, as_json)
        return
    chosen = [name.strip() for name in tiers.split(",")] if tiers is not None else None
    shown = _show if sys.stderr.isatty() and not is_structured() else None
    try:
        report = pull(
            open_store(store),
            folder,
            channel,
            version=version,
            checkpoint=checkpoint,
            tiers=chosen,
            vectors=not no_vectors,
            on_progress=shown,
        )
    finally:
        if shown:
            click.echo("\r\033[K", nl=False, err=True)
    click.echo(msgspec.json.encode(report) if as_json else table(_rows(report, folder, channel)))


def _print_rollback(folder: str, as_json: bool) -> None:
    left, now = roll_back(folder)
    if as_json:
        said = {"version": now.version, "checkpoint": now.checkpoint}
        said |= {"previous": left.version, "previous_checkpoint": left.checkpoint}
        click.echo(msgspec.json.encode(said))
    else:
        flipped = now.checkpoint != left.checkpoint
        by, after = (f" of checkpoint {one.checkpoint}" if flipped else "" for one in (now, left))
        click.echo(
            f"{folder} serves version {now.version}{by} again, after {left.version}{after}; the next pull goes forward"
        )


def _show(progress: Progress) -> None:
    done = f"{size(progress.bytes)} of {size(progress.bytes_in_all)}"
    click.echo(f"\r\033[K  {progress.objects:,} of {progress.objects_in_all:,} objects, {done}", nl=False, err=True)


def _rows(report: PullReport, folder: str, channel: str) -> list[tuple[str, str]]:
    previous = "none" if report.previous is None else f"{report.previous}{_flipped(report)}, for --rollback"
    rows = [
        ("version", f"{report.version}, served by {folder} under channel {channel}"),
        ("checkpoint", told(report.model, report.checkpoint)),
        ("before it", previous),
        ("tiers", ", ".join(report.tiers)),
        ("full vectors", "here" if report.vectors else "left out"),
        ("fetched", f"{count(report.fetched_objects, 'object')}, {size(report.fetched_bytes)}"),
        ("kept", f"{count(report.kept_objects, 'object')}, {size(report.kept_bytes)}"),
    ]
    return [*rows, *([("removed", count(report.removed_objects, "object"))] if report.removed_objects else [])]


def _flipped(report: PullReport) -> str:
    before = report.previous_checkpoint
    return f" of checkpoint {before}" if before not in (None, report.checkpoint) else ""
