"""What a run may spend, and how fast: a plain value that travels to its workers.

Dollars are counted in whole picodollars (1e-12 of one), so that sums are exact: a price per million tokens with six
digits behind the point is a whole number of them per token.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal

from tierloom.checkpoint import Checkpoint, Price
from tierloom.errors import InputError

PICO: Final = 10**12
_MILLION: Final = 10**6

# How a model is asked: request by request, or by its provider's Batch API.
Lane = Literal["requests", "batch"]


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a run may spend, as it was asked for; None is no cap."""

    tokens: int | None = None
    usd: float | None = None

    def __bool__(self) -> bool:
        return self.tokens is not None or self.usd is not None

    def __str__(self) -> str:
        tokens = [] if self.tokens is None else [f"--max-tokens {self.tokens}"]
        usd = [] if self.usd is None else [f"--max-usd {self.usd:g}"]
        return " ".join(tokens + usd)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a user allows a run, whatever its models; rates per minute take the place of those of a checkpoint.

    On `machines` that share nothing, each has its share; None until it is known how many there are. Workers that share
    a machine share the `folder`, in which they keep what they have spent. Without a folder, only the threads of one
    process know of each other.
    """

    caps: Caps = Caps()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    machines: int | None = None
    folder: str | None = None

    def beside(self, tokens: int, picodollars: int) -> "Allowance":
        """What is left to machines that do not know that so much was spent on another one, before they began."""
        if (self.machines or 1) == 1:
            return self
        caps = self.caps
        left = Caps(
            tokens=None if caps.tokens is None else max(0, caps.tokens - tokens),
            usd=None
            if caps.usd is None
            else max(0.0, float(Fraction(str(caps.usd)) - Fraction(picodollars + 1, PICO))),
        )
        return replace(self, caps=left)


UNLIMITED: Final = Allowance()


@dataclass(frozen=True, slots=True)
class Spending:
    """The caps of a run, and the price and rates of one of its models, named by its checkpoint. Rates are those of one
    machine, which has one of the `shares` of the caps."""

    caps: Caps = Caps()
    picodollars_per_token: int = 0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    shares: int = 1
    folder: str | None = None
    model: str = ""

    @property
    def max_tokens(self) -> int | None:
        """The tokens that one machine may spend."""
        return None if self.caps.tokens is None else self.caps.tokens // self.shares

    @property
    def max_picodollars(self) -> int | None:
        """The picodollars that one machine may spend."""
        return None if self.caps.usd is None else math.floor(Fraction(str(self.caps.usd)) * PICO / self.shares)

    def usd_of(self, tokens: int) -> float:
        """What so many tokens cost."""
        return tokens * self.picodollars_per_token / PICO


def spending_for(checkpoint: Checkpoint, allowance: Allowance, lane: Lane = "requests") -> Spending:
    """How a run may spend on the model of `checkpoint`.

    Raises `InputError` for a cap in dollars on a model whose price is not declared.
    """
    caps, shares = allowance.caps, allowance.machines or 1
    per_token = picodollars_per_token(checkpoint, lane)
    if caps.usd is not None and per_token is None:
        raise InputError(
            f"--max-usd {caps.usd:g}: the price of {checkpoint.space.model} is not known{_for(lane)}; declare it with "
            'its checkpoint (price = { usd_per_million_tokens = ..., as_of = "YYYY-MM-DD", page = "..." }), '
            "or cap the tokens with --max-tokens"
        )
    limits = checkpoint.limits
    return Spending(
        caps=caps,
        picodollars_per_token=per_token or 0,
        requests_per_minute=_share(allowance.requests_per_minute or limits.requests_per_minute, shares),
        tokens_per_minute=_share(allowance.tokens_per_minute or limits.tokens_per_minute, shares),
        shares=shares,
        folder=allowance.folder,
        model=checkpoint.fingerprint,
    )


def picodollars_per_token(checkpoint: Checkpoint, lane: Lane = "requests") -> int | None:
    """The price of a token, rounded up; None where it is not known. A model that runs in the worker itself is free."""
    if checkpoint.space.in_process:
        return 0
    usd = _usd_per_million(checkpoint.price, lane)
    return None if usd is None else math.ceil(Fraction(str(usd)) * PICO / _MILLION)


def _usd_per_million(price: Price | None, lane: Lane) -> float | None:
    if price is None:
        return None
    return price.usd_per_million_tokens if lane == "requests" else price.batch_usd_per_million_tokens


def _for(lane: Lane) -> str:
    return " for its Batch API" if lane == "batch" else ""


def _share(limit: int | None, shares: int) -> int | None:
    return None if limit is None else max(1, limit // shares)
