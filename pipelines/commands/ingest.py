"""tierloom ingest: documents become searchable."""

import json
import sys
import time

import click

from pipelines.beam_options import split_arguments, with_machines
from pipelines.cap import raise_if_left
from pipelines.commands.options import (
    concurrency_option,
    delete_at_most_option,
    field_options,
    lane_option,
    spending_options,
)
from pipelines.commands.tables import count
from pipelines.running import Ran, Work, make_job, run
from pipelines.summary import summary, summary_table
from tierloom.embedders.embedder import Lane
from tierloom.errors import InputError
from tierloom.spending.terms import Allowance
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest
from transforms.base import base_of
from transforms.job import Job
from transforms.reading.records import Fields
from transforms.reading.sources import Plan, plan_splits
from transforms.reading.syncing import Sync, plan_sync, refuse_excess


@click.command("ingest", context_settings={"ignore_unknown_options": True})
@click.argument("store")
@click.argument("sources", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SOURCE... [BEAM OPTIONS]")
@field_options
@click.option("--sync", is_flag=True, help="Delete what came from these sources and is no longer in them.")
@delete_at_most_option("Refuse a --sync that would delete a larger share of the collection.")
@click.option("--force", is_flag=True, help="Let a --sync delete any share.")
@concurrency_option
@spending_options
@lane_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    store: str,
    sources: tuple[str, ...],
    id_field: str,
    text_field: str,
    sequence_field: str,
    deleted_field: str,
    sync: bool,
    delete_at_most: float,
    force: bool,
    concurrency: int,
    allowance: Allowance,
    lane: Lane,
    as_json: bool,
) -> None:
    """Embed what is new in each SOURCE and publish a new version of STORE.

    A SOURCE is a folder, a glob or a file: text, Markdown, reStructuredText, HTML, JSONL, Parquet; local or
    gs://. Files that were read before and did not change are skipped. Options that are not listed here are Beam's
    (--runner, --direct_num_workers, ...); the runner is FnApiRunner unless you name another.
    """
    began = time.monotonic()
    named, options = split_arguments(sources)
    if not named:
        raise InputError("name at least one source: a folder, a glob or a file")
    fields = Fields(id_field, text_field, sequence_field, deleted_field)
    deed = "ingest --sync" if sync else "ingest"
    allowance = with_machines(allowance, options)
    job = make_job(store, deed, fields, concurrency=concurrency, allowance=allowance, lane=lane)
    base = base_of(job)
    plan = plan_splits(named, fields, seen=base.seen)
    click.echo(described(plan), err=True)
    work = Work(plan.splits)
    if sync:
        missing = plan_sync(named, plan, base.seen, base.shards, fields)
        refuse_excess(missing, base.live_documents, 1.0 if force else delete_at_most / 100)
        click.echo(said(missing), err=True)
        work = Work(plan.splits, missing.deletions, missing.gone)
    show_run(run(job, work, options), job, store, time.monotonic() - began, as_json)


def described(plan: Plan) -> str:
    """What a plan reads, on one line."""
    line = f"reading {count(plan.files, 'file')}, {plan.bytes:,} bytes"
    if plan.unchanged:
        line += f"; {plan.unchanged:,} unchanged since they were read"
    return line + (f"; {plan.passed_over:,} of other kinds passed over" if plan.passed_over else "")


def said(missing: Sync) -> str:
    """What a sync deletes, and what it leaves because it cannot know."""
    line = f"deleting {count(len(missing.deletions), 'document')} that the sources no longer have"
    if missing.kept:
        line += f"; nothing of {', '.join(missing.kept)}: a record there has no id that can be read"
    return line


def show_run(ran: Ran, job: Job, store: str, elapsed: float, as_json: bool) -> None:
    """Print how a run ended. Raises `CapReached` when that was at its cap."""
    report = ran.report
    manifest = read_manifest(open_store(store), report.version)
    values = summary(report, manifest, ran.seconds, elapsed)
    click.echo(json.dumps(values) if as_json else summary_table(values, store))
    sys.stdout.flush()
    onward = "What is complete is published; the same command goes on with the rest"
    if not report.record.left_documents:
        onward = "The generation beside the one in front lacks them; tierloom reembed goes on with it"
    raise_if_left(report.left_documents, report.least_left, report.tokens, job.spending, onward)
