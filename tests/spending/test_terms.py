"""What a cap comes to: exact sums, shares, and a price that is not known."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embedders.conftest import checkpoint_at
from tierloom.checkpoint import Limits, Price
from tierloom.declaring import declared_checkpoint
from tierloom.errors import InputError
from tierloom.spending.terms import PICO, Allowance, Caps, spending_for

PRICED = msgspec.structs.replace(
    checkpoint_at(None, limits=Limits(requests_per_minute=3000, tokens_per_minute=1_000_000)),
    price=Price(0.02, "2026-11-01", "https://example.org/prices", batch_usd_per_million_tokens=0.01),
)


@given(usd=st.decimals(0, 10_000, places=4), price=st.decimals(0, 100, places=6), shares=st.integers(1, 9))
def test_dollars_are_exact(usd: float, price: float, shares: int) -> None:
    priced = msgspec.structs.replace(PRICED, price=Price(float(price), "2026-11-01", "page"))
    spending = spending_for(priced, Allowance(Caps(usd=float(usd)), machines=shares))
    assert spending.picodollars_per_token == Fraction(price) * 10**6
    assert spending.max_picodollars is not None
    assert 0 <= Fraction(usd) * PICO - spending.max_picodollars * shares < shares


def test_the_batch_lane_has_its_own_price() -> None:
    assert spending_for(PRICED, Allowance(), "batch").usd_of(10**6) == 0.01
    assert spending_for(PRICED, Allowance()).usd_of(10**6) == 0.02


def test_a_cap_in_dollars_without_a_price_is_refused() -> None:
    with pytest.raises(InputError, match=r"--max-usd 5: the price of test-model is not known; declare.*--max-tokens"):
        spending_for(checkpoint_at(None), Allowance(Caps(usd=5.0)))
    only_requests = msgspec.structs.replace(PRICED, price=Price(0.02, "2026-11-01", "page"))
    with pytest.raises(InputError, match="not known for its Batch API"):
        spending_for(only_requests, Allowance(Caps(usd=5.0)), "batch")


def test_the_embedded_model_is_free() -> None:
    spending = spending_for(declared_checkpoint("wordllama"), Allowance(Caps(usd=0.01)))
    assert spending.usd_of(10**9) == 0.0


def test_what_is_given_takes_the_place_of_the_checkpoints_rates_and_machines_share_it() -> None:
    spending = spending_for(PRICED, Allowance(Caps(tokens=1000), machines=4))
    assert (spending.requests_per_minute, spending.tokens_per_minute, spending.max_tokens) == (750, 250_000, 250)
    given_ = spending_for(PRICED, Allowance(requests_per_minute=2, tokens_per_minute=500, machines=4))
    assert (given_.requests_per_minute, given_.tokens_per_minute) == (1, 125)
