"""tierloom plan: what it would take, and cost, before anything is paid for."""

import json
from dataclasses import replace
from typing import Any

import click

from index_builder.reembedding.planning import Wishes, plan_generation
from pipelines.beam_options import split_arguments
from pipelines.commands.ingest import described
from pipelines.commands.options import field_options, model_options
from pipelines.commands.spending_options import rate_options
from pipelines.plan_table import as_json, as_table
from pipelines.planning import all_ranges, plan_ingest, plan_reembed
from pipelines.reembedding import texts_of
from pipelines.running import generation_jobs, make_job
from tierloom.declaring import declared_checkpoint
from tierloom.errors import InputError
from tierloom.spending.terms import Allowance
from tierloom.stores.opening import open_store
from tierloom.versions import read_head
from transforms.base import base_of
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits


@click.group("plan")
@click.argument("store")
@click.pass_context
def command(context: click.Context, store: str) -> None:
    """Count what would be done to STORE, and what it would cost. No model is called, and nothing is written."""
    context.obj = store


@command.command("ingest", context_settings={"ignore_unknown_options": True})
@click.argument("sources", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SOURCE... [BEAM OPTIONS]")
@field_options
@rate_options
@click.option("--json", "printed_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_obj
def ingest(
    store: str,
    sources: tuple[str, ...],
    id_field: str,
    text_field: str,
    sequence_field: str,
    deleted_field: str,
    allowance: Allowance,
    printed_json: bool,
) -> None:
    """Documents, chunks, tokens, requests, dollars, time and bytes that `tierloom ingest` of each SOURCE would take."""
    named, options = split_arguments(sources)
    if not named:
        raise InputError("name at least one source: a folder, a glob or a file")
    fields = Fields(id_field, text_field, sequence_field, deleted_field)
    job = make_job(store, "plan", fields, allowance=allowance, writing=False)
    plan = plan_splits(named, fields, seen=base_of(job).seen)
    click.echo(described(plan), err=True)
    jobs = generation_jobs(job)
    _print(as_json(plan_ingest(jobs, plan.splits, options), jobs), printed_json)


@command.command("reembed", context_settings={"ignore_unknown_options": True})
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM OPTIONS]")
@model_options
@rate_options
@click.option("--json", "printed_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_obj
def reembed(
    store: str,
    beam_options: tuple[str, ...],
    model: str,
    names: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    untrained_prefixes: bool,
    allowance: Allowance,
    printed_json: bool,
) -> None:
    """What `tierloom reembed` would take to build, or to finish, a generation of the model from the texts of STORE."""
    rest, options = split_arguments(beam_options)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: the texts are those of the store")
    opened = open_store(store)
    head = read_head(opened)
    checkpoint = declared_checkpoint(model, base_url, api_key_env)
    collection = plan_generation(head, opened, checkpoint, Wishes(names, untrained_prefixes))
    any_job = make_job(store, "plan", Fields(), allowance=allowance, writing=False)
    source = head if checkpoint.fingerprint != head.checkpoint else texts_of(head)
    job = replace(any_job, checkpoint=checkpoint, collection=collection)
    reached = head.of(checkpoint.fingerprint).reached if checkpoint.fingerprint in head.checkpoints else 0
    ranges = all_ranges(reached, source, collection)
    planned = plan_reembed(any_job.of(source, opened), job, ranges, options)
    _print(as_json(planned, [job]), printed_json)


def _print(values: dict[str, Any], printed_json: bool) -> None:
    click.echo(json.dumps(values) if printed_json else as_table(values))
