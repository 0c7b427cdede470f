import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index_builder.estimates import estimate

SHARES = st.lists(st.sampled_from([at / 10 for at in range(11)]), min_size=1, max_size=300)


@given(SHARES)
def test_an_interval_holds_its_mean_and_stays_a_share(values: list[float]) -> None:
    found = estimate(np.array(values))
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert 0 <= found.low <= found.mean <= found.high <= 1


@given(st.sampled_from([0.0, 0.5, 1.0]), st.integers(2, 400))
def test_a_sample_without_a_miss_is_not_sure(value: float, count: int) -> None:
    found = estimate(np.full(count, value))
    assert found.high > found.low
    more = estimate(np.full(4 * count, value))
    assert more.high - more.low < found.high - found.low


def test_a_miss_never_raises_the_low_end() -> None:
    """Whatever is missed of a perfect sample: with it the sample is no surer than without."""
    perfect = estimate(np.ones(200))
    for missed in np.arange(1, 11) / 10:
        assert estimate(np.append(np.ones(199), 1 - missed)).low <= perfect.low + 1e-9


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_nineteen_of_twenty_intervals_hold_the_truth(share: float) -> None:
    draw = np.random.default_rng(0)
    samples = draw.binomial(10, share, (2000, 200)) / 10
    held = [one.low <= share <= one.high for one in map(estimate, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)
