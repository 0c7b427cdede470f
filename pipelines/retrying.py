"""Sending dead letters through again: the same pipeline, from the letters' own places."""

import time
from collections.abc import Sequence

from pipelines.beam_options import split_arguments, with_machines
from pipelines.commands.ingest import show_run
from pipelines.running import Work, make_job, run
from pipelines.telling import say
from tierloom.errors import InputError
from tierloom.spending.terms import Allowance, Lane
from transforms.base import base_of, retried_letters
from transforms.read import split_of_letter
from transforms.reading.records import Fields


def retry_letters(
    store: str,
    beam_options: Sequence[str],
    concurrency: int,
    allowance: Allowance,
    lane: Lane,
    as_json: bool,
    began: float,
) -> None:
    """Retry every open letter that can be, and print how it ended. Raises `InputError` for an argument of nobody's."""
    rest, options = split_arguments(beam_options)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: every open letter is retried")
    allowance = with_machines(allowance, options)
    deed = "dead-letters --retry"
    job = make_job(store, deed, Fields(), retry=True, concurrency=concurrency, allowance=allowance, lane=lane)
    base, letters = base_of(job), retried_letters(job)
    if lost := len(base.letters) - len(letters):
        say(
            f"{lost:,} of {len(base.letters):,} letters stay open: their sources cannot be read again, and their "
            "records were too large to be kept; send newer events of these documents",
            "retry",
            stay_open=lost,
        )
    splits = [split_of_letter(letter, base.seen) for letter in letters if letter.chunk is None]
    show_run(run(job, Work(splits), options), job, store, time.monotonic() - began, as_json)
