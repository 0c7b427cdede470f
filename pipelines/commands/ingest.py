"""tierloom ingest: documents become searchable."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import click

from pipelines.beam_options import split_arguments, with_machines
from pipelines.cap import raise_if_left
from pipelines.commands.options import delete_at_most_option, field_options
from pipelines.commands.spending_options import concurrency_option, lane_option, spending_options
from pipelines.commands.tables import count
from pipelines.run_metrics import metrics_file_option
from pipelines.running import Ran, Work, make_job, run
from pipelines.summary import summary, summary_table
from pipelines.telling import give_result, say
from pipelines.turns import take_turn, wait_option
from tierloom.digest import bytes_digest
from tierloom.errors import InputError
from tierloom.sealed import canonical
from tierloom.spending.terms import Allowance, Lane
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
@wait_option
@metrics_file_option
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
    wait: timedelta,
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
    if wait and not sync:
        raise click.UsageError("--wait goes with --sync: others ingest at the same time")
    fields = Fields(id_field, text_field, sequence_field, deleted_field)
    allowed = (1.0 if force else delete_at_most / 100) if sync else None
    deed = "ingest --sync" if sync else "ingest"
    allowance = with_machines(allowance, options)
    with take_turn(open_store(store), turn_to_sync(named), wait) if sync else nullcontext() as turn:
        job = make_job(store, deed, fields, concurrency=concurrency, allowance=allowance, lane=lane)
        ran = run(replace(job, fence=turn.fence if turn else None), _work(job, named, allowed), options)
    show_run(ran, job, store, time.monotonic() - began, as_json)


def turn_to_sync(sources: Sequence[str]) -> str:
    """The deed of syncing these sources; others may be synced meanwhile."""
    where = sorted(source if "://" in source else os.path.abspath(source) for source in sources)  # noqa: PTH100 -- a glob
    return f"ingest-sync-{bytes_digest(canonical(where))[:12]}"


def _work(job: Job, named: Sequence[str], delete_at_most: float | None) -> Work:
    """What there is to read, and for a sync, which may delete such a share of the collection, to delete."""
    base = base_of(job)
    plan = plan_splits(named, job.fields, seen=base.seen)
    say(described(plan), "reading", files=plan.files, bytes=plan.bytes, unchanged=plan.unchanged)
    if delete_at_most is None:
        return Work(plan.splits)
    missing = plan_sync(named, plan, base.seen, base.shards, job.fields)
    refuse_excess(missing, base.live_documents, delete_at_most)
    say(said(missing), "syncing", deletions=len(missing.deletions), files_gone=len(missing.gone))
    return Work(plan.splits, missing.deletions, missing.gone)


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
    give_result(values, summary_table(values, store), as_json)
    onward = "What is complete is published; the same command goes on with the rest"
    if not report.record.left_documents:
        onward = "The generation beside the one in front lacks them; tierloom reembed goes on with it"
    raise_if_left(report.left_documents, report.least_left, report.tokens, report.canary_tokens, job, onward)
