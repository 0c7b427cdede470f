"""tierloom erase: remove documents from everything that is stored."""

import sys

import click
import msgspec

from index_builder.upkeep.erase import erase
from index_builder.upkeep.receipt import Receipt
from pipelines.commands.tables import count, size, table
from tierloom import names
from tierloom.stores.opening import open_store
from tierloom.versions import spans


@click.command("erase")
@click.argument("store")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--force", is_flag=True, help="Also retire versions that channels and leases keep; move the channels.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt.")
def command(store: str, ids: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Remove the documents ID... from STORE: from every artifact, and with all old versions that hold them.

    What held them is rewritten at once, and their deletion is remembered. A receipt is stored: it lists what was
    rewritten and removed, and the objects that were looked through afterwards. Exit status 1 when something is
    left that nobody could tell, such as the temporary files of a job at work: erase again when it has ended.
    """
    receipt = erase(open_store(store), ids, force)
    click.echo(msgspec.json.encode(receipt) if as_json else table(_rows(receipt)))
    sys.exit(0 if receipt.complete else 1)


def _rows(receipt: Receipt) -> list[tuple[str, str]]:
    unknown = sum(not document.found for document in receipt.documents)
    freed = size(sum(removed.bytes for removed in receipt.removed))
    rows: dict[str, str] = {
        "documents": f"{len(receipt.documents):,} erased" + (f"; nothing was found of {unknown:,}" if unknown else ""),
        "rewritten": f"{count(len(receipt.rewritten), 'object')}; {count(len(receipt.rebuilt), 'index shard')} rebuilt",
        "retired": f"{count(len(receipt.retired), 'version')} {_in_brackets(receipt)}".rstrip(),
        "removed": f"{count(len(receipt.removed), 'object')}, {freed}",
        "scanned": f"{len(receipt.scanned):,} objects as of version {receipt.version}; the documents are in none",
        "mentioning": _names(receipt.mentioning),
        "unproven": _names(receipt.unproven),
        "remaining": _names(receipt.remaining),
        "receipt": names.erasure(receipt.run),
    }
    return [(name, said) for name, said in rows.items() if said]


def _in_brackets(receipt: Receipt) -> str:
    return f"({spans(receipt.retired)})" if receipt.retired else ""


def _names(paths: tuple[str, ...]) -> str:
    more = f" and {len(paths) - 5:,} more" if len(paths) > 5 else ""
    return ", ".join(paths[:5]) + more
