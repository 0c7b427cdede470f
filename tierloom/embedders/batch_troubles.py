"""What ends a run that embeds by batches, in words: what happened, to which batch, and what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tierloom import names
from tierloom.embedders.gathering import PROBE
from tierloom.embedders.openai_batches import Standing
from tierloom.embedders.retrying import Fault
from tierloom.embedders.submitted_batch import SubmittedBatch
from tierloom.errors import (
    BatchCancelled,
    BatchLost,
    EmbedderError,
    EmbedderRefused,
    EmbedderUnavailable,
    WaitInterrupted,
)

# So often one run sends an input; each time may take a day.
SENDINGS: Final = 5
# What a probe has that was not answered for want of time.
_NO_VERDICT: Final = frozenset({Fault.EXPIRED, Fault.BUSY, Fault.FAILING})


def trouble_in(
    batch: SubmittedBatch, who: str, redacted: Callable[[str], str], sendings: Callable[[bytes], int]
) -> EmbedderError | None:
    """What is wrong with the job itself, or with going on: told by what became of a batch that has ended.

    `sendings` tells how often an input was sent; one that was sent often enough is given up, if it can be blamed.
    """
    if (failure := batch.probe_failure) and failure.fault not in _NO_VERDICT:
        return EmbedderRefused(f"{who}: {redacted(failure.detail)}; so it answers even the one word {PROBE!r}")
    for content, place in batch.places.items():
        if batch.settled(place):
            continue
        failure = batch.failures[place]
        if failure.fault is Fault.REFUSED_JOB:
            return EmbedderRefused(f"{who}: {failure.detail}")
        if sendings(content) >= SENDINGS and not batch.give_up(place):
            return EmbedderUnavailable(
                f"{who}: sent {SENDINGS} times in batches, and no answer: {failure.detail}; "
                "run the same command again, or use --lane requests"
            )
    return None


def cancelled(batch: SubmittedBatch) -> BatchCancelled:
    """Somebody cancelled it."""
    return BatchCancelled(
        f"batch {batch.record.batch} was cancelled at the provider; what it had answered is kept. "
        "Run the same command again to send the rest, or use --lane requests"
    )


def refused(who: str, standing: Standing) -> EmbedderRefused:
    """The provider did not begin with it."""
    return EmbedderRefused(f"{who}: batch {standing.batch} was refused: {standing.said or 'it does not say why'}")


def lost(batch: SubmittedBatch, who: str, store: str, detail: str) -> BatchLost:
    """The provider does not know it, or its files."""
    return BatchLost(
        f"{who}: batch {batch.record.batch}, on record in {names.batch(batch.digest)}, is not to be had: {detail}. "
        "With the key of another account or project it may be; if it is lost, "
        f"`tierloom batches {store} --forget {batch.digest}` lets its inputs be paid for again"
    )


@contextmanager
def interruptible(under_way: int) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM raise `WaitInterrupted`: it is how to stop a run that waits for a day."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise WaitInterrupted(
            f"stopped; batches that are under way and on record: {under_way}. "
            "Run the same command again to collect them"
        ) from None
