"""What so many tokens take: dollars, and time, asked for one by one or in batches."""

import math
from dataclasses import dataclass
from typing import Final

from tierloom.checkpoint import Checkpoint
from tierloom.spending.bucket import Rate
from tierloom.spending.terms import PICO, Lane, Spending, picodollars_per_token

# https://platform.openai.com/docs/guides/batch: inputs and bytes of a batch of embeddings, and when it is done.
BATCH_INPUTS: Final = 50_000
BATCH_BYTES: Final = 200_000_000
BATCH_HOURS: Final = 24
# What a request has in its line besides its inputs.
_LINE_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class Estimate:
    """So many requests, or batches of them; `usd` is None where no price is known, `seconds` where no rate is."""

    count: int
    usd: float | None
    seconds: float | None


def estimate_requests(checkpoint: Checkpoint, spending: Spending, requests: int, tokens: int) -> Estimate:
    """Asked for in requests, as fast as the limits per minute allow and no slower."""
    asked = ((requests, spending.requests_per_minute), (tokens, spending.tokens_per_minute))
    waits = [_seconds(amount, Rate(limit)) for amount, limit in asked if limit is not None]
    return Estimate(requests, usd_of(tokens, checkpoint), max(waits, default=None))


def estimate_batches(checkpoint: Checkpoint, requests: int, inputs: int, input_bytes: int, tokens: int) -> Estimate:
    """Asked for in batches, which a provider takes its time for: `seconds` is what it promises at most."""
    lines = input_bytes + inputs + requests * _LINE_BYTES
    count = max(math.ceil(inputs / BATCH_INPUTS), math.ceil(lines / BATCH_BYTES))
    return Estimate(count, usd_of(tokens, checkpoint, "batch"), BATCH_HOURS * 3600.0)


def usd_of(tokens: int, checkpoint: Checkpoint, lane: Lane = "requests") -> float | None:
    """The price of tokens; None where it is not known."""
    per_token = picodollars_per_token(checkpoint, lane)
    return None if per_token is None else tokens * per_token / PICO


def _seconds(amount: int, rate: Rate) -> float:
    return max(0, amount - rate.capacity) / rate.per_second
