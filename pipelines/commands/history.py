"""tierloom history: the versions of a collection."""

from itertools import chain

import click
import msgspec

from index_builder.upkeep.history import Entry, history
from tierloom.stores.opening import open_store


@click.command("history")
@click.argument("store")
@click.option("--last", type=click.IntRange(1), help="Only so many, the newest.  [default: all that are kept]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a version.")
def command(store: str, last: int | None, as_json: bool) -> None:
    """Show the versions of STORE that are not retired, newest first: when, by what, and what it changed.

    Documents were added, changed or removed; chunks embedded for tokens, in both generations where there are two. At
    the end of a line stand the channels that point there, of two generations with the begin of the checkpoint; and how
    many documents the run left at its cap, in all generations, if it left any.
    """
    entries = history(open_store(store), last)
    for line in map(_json, entries) if as_json else chain([_HEADER], map(_line, entries)):
        click.echo(line)


_FORMAT = "{:>7}  {:20}  {:14}  {:>9}  {:>9}  {:>9}  {:>10}  {:>12}  {:>12}  {}"
_HEADER = _FORMAT.format(
    "version", "created", "by", "added", "changed", "removed", "embedded", "tokens", "live chunks", "kept by"
).rstrip()


def _line(entry: Entry) -> str:
    manifest, run = entry.manifest, entry.manifest.run
    every = [generation.run for generation in manifest.generations]
    paid = (sum(one.embedded_chunks for one in every), sum(one.tokens + one.canary_tokens for one in every))
    numbers = (run.added, run.changed, run.removed, *paid, manifest.live_chunks)
    leases = (f"{entry.leases} lease{'' if entry.leases == 1 else 's'}",) if entry.leases else ()
    left = (f"{manifest.left_documents:,} left at the cap",) if manifest.left_documents else ()
    keepers = ", ".join((*_channels(entry), *leases, *left))
    counts = (f"{number:,}" for number in numbers)
    return _FORMAT.format(manifest.version, manifest.created, run.command, *counts, keepers).rstrip()


def _channels(entry: Entry) -> list[str]:
    if entry.manifest.other is None:
        return [name for name, _ in entry.channels]
    return [f"{name} ({checkpoint[:8]})" for name, checkpoint in entry.channels]


def _json(entry: Entry) -> bytes:
    manifest, run = entry.manifest, entry.manifest.run
    return msgspec.json.encode(
        {
            "version": manifest.version,
            "created": manifest.created,
            "writer": manifest.writer,
            **msgspec.to_builtins(run),
            "other": msgspec.to_builtins(manifest.other.run) if manifest.other else None,
            "left_documents": manifest.left_documents,
            "live_documents": manifest.documents.live,
            "live_chunks": manifest.live_chunks,
            "checkpoints": manifest.checkpoints,
            "channels": [name for name, _ in entry.channels],
            "served": dict(entry.channels),
            "leases": entry.leases,
        }
    )
