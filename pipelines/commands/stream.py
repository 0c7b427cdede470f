"""tierloom stream: a source is followed, and its changes become searchable as they come."""

import time
from collections.abc import Callable
from typing import Final

import click

from pipelines.beam_options import with_machines
from pipelines.cap import raise_if_left
from pipelines.commands.options import delete_at_most_option, field_options
from pipelines.commands.spending_options import concurrency_option, spending_options
from pipelines.run_metrics import metrics_file_option, write_run_metrics
from pipelines.running import make_job, quiet_beam, spending_together
from pipelines.streaming.live_line import LiveLine
from pipelines.streaming.loop import Pace, StreamLoop
from pipelines.streaming.stopping import stop_on_signals
from pipelines.streaming.totals import Totals, totals_table
from pipelines.telling import give_result, voice
from pipelines.unbounded import engine_options, run_unbounded
from tierloom.errors import InputError
from tierloom.spending.terms import Allowance
from tierloom.stores.opening import open_store
from transforms.reading.records import Fields
from transforms.streams.opening import StreamOptions, open_stream, refuse_own_output

_SECONDS: Final = 1.0
_ENGINE_SECONDS: Final = 10.0
_METRICS_SECONDS: Final = 15.0


@click.command("stream", context_settings={"ignore_unknown_options": True})
@click.argument("store")
@click.argument("source")
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM OPTIONS]")
@field_options
@click.option(
    "--max-batch", default=2000, show_default=True, type=click.IntRange(1), help="Changes to publish together, at most."
)
@click.option(
    "--interval",
    type=click.FloatRange(0.0),
    help="Seconds between two versions, at least.  [default: 1; with a --runner 10]",
)
@delete_at_most_option("Stop when a larger share of a watched folder's files disappears at once.")
@click.option("--from-beginning", is_flag=True, help="Take the source from its beginning, whatever was published.")
@click.option("--once", is_flag=True, help="Catch up with the source, then end.")
@click.option(
    "--patience",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Seconds to wait for a store, a model or a broker that is out of reach.",
)
@concurrency_option
@spending_options
@click.option("--lane", default="requests", hidden=True)
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    store: str,
    source: str,
    beam_options: tuple[str, ...],
    id_field: str,
    text_field: str,
    sequence_field: str,
    deleted_field: str,
    delete_at_most: float,
    max_batch: int,
    interval: float | None,
    from_beginning: bool,
    once: bool,
    patience: float,
    concurrency: int,
    allowance: Allowance,
    lane: str,
    as_json: bool,
) -> None:
    """Follow SOURCE and publish its changes into STORE as they come.

    A SOURCE is a folder, a .jsonl file that grows, - for standard input, kafka://host:9092/topic or
    pubsub://project/subscription. It is taken up where the last stream left it. SIGTERM or Ctrl-C ends the stream
    after the batch under way.

    With a --runner of Beam's (FlinkRunner, DataflowRunner, ...), the engine follows a topic or a subscription,
    and publishes a version every --interval; see docs/clusters.md.
    """
    if lane != "requests":
        raise InputError(
            f"a stream has no --lane {lane}: it publishes within seconds, and a batch may take a day; leave it out, "
            "or ingest what the stream would bring"
        )
    began = time.monotonic()
    fields = Fields(id_field, text_field, sequence_field, deleted_field)
    if beam_options:
        options = engine_options(beam_options)
        if once:
            raise InputError("--once is of no use to an engine: it never ends; leave out one of them")
        allowance = with_machines(allowance, options)
        job = make_job(store, "stream", fields, concurrency=concurrency, allowance=allowance)
        run_unbounded(job, source, options, _ENGINE_SECONDS if interval is None else interval, from_beginning)
        return
    refuse_own_output(source, open_store(store))
    job = make_job(store, "stream", fields, concurrency=concurrency, allowance=allowance)
    pace = Pace(max_batch, _SECONDS if interval is None else interval, patience, from_beginning, once)
    with stop_on_signals() as stop, quiet_beam(), LiveLine() as line, spending_together(job) as together:
        stream = open_stream(source, StreamOptions(fields, line.say, delete_at_most / 100, patience, stop.is_set))
        totals = StreamLoop(together, stream, pace, line, stop, watch=_metrics_of(began)).run()
    _show(totals, store, time.monotonic() - began, as_json)
    onward = "The same command goes on with them; of standard input, send them again"
    paid = (totals.tokens, totals.canary_tokens)
    raise_if_left(totals.left_documents, totals.least_left, *paid, job, onward)


def _show(totals: Totals, store: str, elapsed: float, as_json: bool) -> None:
    values = totals.as_json() | {"elapsed_seconds": round(elapsed, 3)}
    give_result(values, totals_table(totals, store, elapsed), as_json)


def _metrics_of(began: float) -> Callable[[Totals], None]:
    """What keeps the metrics file young while a stream lives."""
    written = 0.0

    def write(totals: Totals) -> None:
        nonlocal written
        path, now = voice().metrics_file, time.monotonic()
        if path is not None and now - written >= _METRICS_SECONDS:
            write_run_metrics(path, voice().about, totals.as_json(), None, began)
            written = now

    return write
