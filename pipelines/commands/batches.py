"""tierloom batches: what was submitted to a Batch API and is not stored yet."""

import json
from datetime import UTC, datetime

import click

from pipelines.commands.tables import count
from tierloom import names
from tierloom.embedders.batch_records import BatchRecord, BatchRecords
from tierloom.errors import InputError
from tierloom.stores.opening import open_store
from tierloom.versions import read_head


@click.command("batches")
@click.argument("store")
@click.option("--forget", metavar="DIGEST", help="Take this one off the record: what it has will be paid for again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a batch.")
def command(store: str, forget: str | None, as_json: bool) -> None:
    """List the batches that were submitted for STORE, and whose vectors are not stored yet.

    The next `tierloom ingest --lane batch` that wants any of their inputs collects them. --forget one that the provider
    has lost, and only such a one.
    """
    opened = open_store(store)
    read_head(opened)
    records = BatchRecords(opened)
    if forget is not None:
        _forget(forget, records, store)
        return
    found = sorted(records.every().items(), key=lambda item: item[1].planned)
    for digest, record in found:
        click.echo(json.dumps(_members(digest, record)) if as_json else _described(digest, record))
    if not as_json:
        click.echo(f"{len(found):,} on record")


def _forget(digest: str, records: BatchRecords, store: str) -> None:
    if not (names.is_safe(names.batch(digest)) and records.forget(digest)):
        raise InputError(f"{store} has no record of a batch {digest!r}; `tierloom batches {store}` lists those it has")
    click.echo(f"forgotten: {digest}")


def _members(digest: str, record: BatchRecord) -> dict[str, object]:
    return {
        "digest": digest,
        "batch": record.batch,
        "file": record.file,
        "checkpoint": record.checkpoint,
        "attempt": record.attempt,
        "inputs": len(record.inputs),
        "tokens_at_most": record.tokens,
        "planned": datetime.fromtimestamp(record.planned, UTC).isoformat(timespec="seconds"),
    }


def _described(digest: str, record: BatchRecord) -> str:
    """A record on one line: what it is called here and there, what it has, since when."""
    since = datetime.fromtimestamp(record.planned, UTC).strftime("%Y-%m-%d %H:%M")
    has = f"{count(len(record.inputs), 'input')}, up to {count(record.tokens, 'token')}, since {since} UTC"
    return f"{digest}  {record.batch or 'not known to be submitted'}  {has}"
