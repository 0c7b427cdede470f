"""tierloom reembed: the corpus under another checkpoint, beside the one that serves."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import click

from index_builder.reembedding.beginning import COMMAND, begin_generation, refuse_unfit_generation
from index_builder.reembedding.planning import Wishes, plan_generation, refuse_unfit_sources
from pipelines.beam_options import split_arguments, with_machines
from pipelines.cap import raise_if_left
from pipelines.checking_model import check_model_first
from pipelines.commands.options import field_options, graph_options, model_options
from pipelines.commands.spending_options import concurrency_option, lane_option, spending_options
from pipelines.commands.tables import count
from pipelines.reembedding import Part, Reembedding
from pipelines.run_metrics import metrics_file_option
from pipelines.running import make_job, shared_allowance
from pipelines.summary import summary, summary_table, total_record
from pipelines.telling import give_result, say
from pipelines.turns import take_turn, wait_option
from tierloom.checkpoint import Checkpoint
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import lane_of, refuse_without_batches
from tierloom.generations import shortest_name
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.run_report import RunReport
from tierloom.spending.terms import Allowance, Lane, spending_for
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint, read_head
from transforms.base import base_of
from transforms.job import Job
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits
from transforms.reading.splits import Split


@click.command("reembed", context_settings={"ignore_unknown_options": True})
@click.argument("store")
@click.argument("sources", nargs=-1, type=click.UNPROCESSED, metavar="[SOURCE...] [BEAM OPTIONS]")
@model_options
@graph_options
@click.option("--chunk-tokens", type=click.IntRange(1), help="Cut documents anew, into chunks of so many tokens.")
@click.option("--chunk-overlap", type=click.IntRange(0), help="Tokens that such a chunk shares with the one before.")
@field_options
@concurrency_option
@spending_options
@lane_option
@wait_option
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    store: str,
    sources: tuple[str, ...],
    model: str,
    names: tuple[str, ...],
    base_url: str | None,
    api_key_env: str | None,
    untrained_prefixes: bool,
    connectivity: int,
    expansion_add: int,
    expansion_search: int,
    chunk_tokens: int | None,
    chunk_overlap: int | None,
    id_field: str,
    text_field: str,
    sequence_field: str,
    deleted_field: str,
    concurrency: int,
    allowance: Allowance,
    lane: Lane,
    wait: timedelta,
    as_json: bool,
) -> None:
    """Build a second generation of STORE with another model, while the first one serves.

    The texts are those that the store holds. Whatever is ingested or streamed meanwhile goes into both
    generations. Stopped at any point, it goes on where it was when it is called again, and pays for nothing
    twice. When it is complete, compare it (tierloom compare) and let channels serve it (tierloom promote).

    With --chunk-tokens or --chunk-overlap documents are cut anew, and that takes each SOURCE that they came
    from.
    """
    began = time.monotonic()
    opened = open_store(store)
    named, options = split_arguments(sources)
    head = read_head(opened)
    checkpoint = declared_checkpoint(model, base_url, api_key_env)
    if lane == "batch":
        refuse_without_batches([checkpoint])
    graph = (connectivity, expansion_add, expansion_search)
    wishes = Wishes(names, untrained_prefixes, *graph, chunk_tokens, chunk_overlap)
    collection = plan_generation(head, opened, checkpoint, wishes)
    cuts_anew = collection.chunking.as_cut_by(checkpoint) != head.collection.chunking.as_cut_by(
        read_checkpoint(opened, head.checkpoint)
    )
    refuse_unfit_sources(cuts_anew, named)
    allowance = with_machines(allowance, options)
    asked = _asked(opened, head, checkpoint, named)
    for each in asked:
        spending_for(each, allowance, lane_of(each, lane))
    refuse_unfit_generation(opened, head, collection)
    fields = Fields(id_field, text_field, sequence_field, deleted_field)
    with take_turn(opened, COMMAND, wait) as turn, shared_allowance(allowance) as shared:
        # Before the generation is there: whoever writes to it sends its canaries along.
        paid = _check_models(opened, head, checkpoint, bool(named), concurrency, shared)
        begin_generation(opened, checkpoint, collection, turn.check_now)
        job = make_job(store, COMMAND, fields, concurrency=concurrency, allowance=shared, lane=lane, asked=asked)
        job = replace(job, fence=turn.fence, canary_tokens=paid)
        reembedding = Reembedding(job, checkpoint.fingerprint, options, turn.check_now)
        parts = reembedding.from_sources(_splits(job, named)) if named else reembedding.from_texts()
        _show(opened, replace(job, checkpoint=checkpoint), parts, began, as_json)


def _check_models(
    store: Store, head: Manifest, checkpoint: Checkpoint, cuts_anew: bool, concurrency: int, allowance: Allowance
) -> tuple[tuple[str, int], ...]:
    """Ask the models that will embed for their canaries: none if all is there; the one that serves too where sources
    are read, for they may hold what it lacks. The tokens that this took, by checkpoint."""
    if checkpoint.fingerprint in head.checkpoints and head.of(checkpoint.fingerprint).is_complete:
        return ()
    asked = [checkpoint, *([read_checkpoint(store, head.checkpoint)] if cuts_anew else [])]
    return tuple((each.fingerprint, check_model_first(store, each, concurrency, allowance)) for each in asked)


def _asked(store: Store, head: Manifest, checkpoint: Checkpoint, sources: Sequence[str]) -> Sequence[Checkpoint]:
    """The models that may have to be paid: also that of the other generation, where sources are read that may have
    changed."""
    others = [name for name in head.checkpoints if sources and name != checkpoint.fingerprint]
    return (checkpoint, *(read_checkpoint(store, name) for name in others))


def _splits(job: Job, sources: Sequence[str]) -> Sequence[Split]:
    """Of all files, though they did not change; the sequences that they were given stay known."""
    seen = {name: replace(file, modified_ns=0) for name, file in base_of(job).seen.items()}
    return plan_splits(sources, job.fields, seen=seen).splits


def _show(store: Store, job: Job, parts: Iterable[Part], began: float, as_json: bool) -> None:
    """Tell of each part, and how it ended. Raises `CapReached` when that was at its cap."""
    done: list[Part] = []
    for part in parts:
        done.append(part)
        reached = part.generation.reached / KEY_UNITS
        say(_told(part), "part", version=part.generation.version, reached=reached, tokens=part.record.tokens)
    generation = read_head(store).of(job.fingerprint)
    report = RunReport(total_record([part.record for part in done], COMMAND), generation.version, bool(done))
    values = summary(report, generation, _seconds(done), time.monotonic() - began)
    serve_it = f"tierloom promote {store.url} {generation.version} --channel prod"
    lines = [summary_table(values, store.url)]
    if generation.is_complete:
        lines.append(f"compare it: tierloom compare {store.url}")
        lines.append(f"serve it:   {serve_it} --checkpoint {shortest_name(generation, store)}")
    give_result(values, "\n".join(lines), as_json)
    least = done[-1].ran.report.least_left if done else 0
    onward = "What is built is published; the same command goes on with the rest"
    paid = (report.tokens, report.canary_tokens)
    raise_if_left(report.left_documents, least, *paid, job, onward)


def _seconds(parts: Sequence[Part]) -> dict[str, float]:
    steps = {step for part in parts for step in part.ran.seconds}
    return {step: sum(part.ran.seconds.get(step, 0.0) for part in parts) for step in steps}


def _told(part: Part) -> str:
    generation = part.generation
    return (
        f"version {generation.version}: {generation.reached / KEY_UNITS:.1%} of the way, "
        f"{count(generation.live_chunks, 'chunk')}; {part.record.tokens:,} tokens paid for in this part"
    )
