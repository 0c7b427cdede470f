"""tierloom ingest: documents become searchable."""

import json
import sys
import time

import click

from pipelines.beam_options import split_arguments
from pipelines.commands.options import concurrency_option
from pipelines.running import Ran, make_job, run
from pipelines.summary import summary, summary_table
from tierloom.errors import InputError
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits


@click.command("ingest", context_settings={"ignore_unknown_options": True})
@click.argument("store")
@click.argument("sources", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SOURCE... [BEAM OPTIONS]")
@click.option("--id-field", default="id", show_default=True, help="The field of a record that is its document id.")
@click.option("--text-field", default="text", show_default=True, help="The field that is embedded.")
@click.option(
    "--sequence-field",
    default="sequence",
    show_default=True,
    help="The field that rises with every change of the document.",
)
@concurrency_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    store: str,
    sources: tuple[str, ...],
    id_field: str,
    text_field: str,
    sequence_field: str,
    concurrency: int,
    as_json: bool,
) -> None:
    """Embed the documents of each SOURCE and publish a new version of STORE.

    A SOURCE is a folder, a glob or a file: text, Markdown, reStructuredText, HTML, JSONL, Parquet; local or
    gs://. Options that are not listed here are Beam's (--runner, --direct_num_workers, ...); the runner is
    FnApiRunner unless you name another.
    """
    began = time.monotonic()
    named, options = split_arguments(sources)
    if not named:
        raise InputError("name at least one source: a folder, a glob or a file")
    fields = Fields(id_field, text_field, sequence_field)
    job = make_job(store, "ingest", fields, concurrency=concurrency)
    plan = plan_splits(named, fields)
    passed_over = f"; {plan.passed_over:,} of other kinds passed over" if plan.passed_over else ""
    click.echo(
        f"reading {plan.files:,} file{'' if plan.files == 1 else 's'}, {plan.bytes:,} bytes{passed_over}", err=True
    )
    show_run(run(job, plan.splits, options), store, time.monotonic() - began, as_json)


def show_run(ran: Ran, store: str, elapsed: float, as_json: bool) -> None:
    """Print how a run ended."""
    manifest = read_manifest(open_store(store), ran.report.version)
    values = summary(ran.report, manifest, ran.seconds, elapsed)
    click.echo(json.dumps(values) if as_json else summary_table(values, store))
    sys.stdout.flush()
