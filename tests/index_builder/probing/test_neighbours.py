"""The statistics of a probe, against what one would write down from their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from index_builder.probing import neighbours
from index_builder.probing.controls import rotated, shuffled
from index_builder.probing.neighbours import found_share, nearest, unit_rows

cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(5, 40), st.integers(1, 12), st.integers(1, 4))


def brute_nearest(units: NDArray[np.float32], query: int, top: int) -> set[int]:
    scores = [(float(units[query] @ row), at) for at, row in enumerate(units) if at != query]
    return {at for _, at in sorted(scores, reverse=True)[:top]}


@given(cases)
def test_neighbours_are_those_of_a_full_scan(case: tuple[int, int, int, int]) -> None:
    seed, rows, dimensions, top = case
    units = unit_rows(np.random.default_rng(seed).standard_normal((rows, dimensions + 2)).astype(np.float32))
    found = nearest(units, 3, top)
    for query in range(3):
        expected = brute_nearest(units, query, top)
        # Two scores that differ by the last bit may change places.
        worst = min(float(units[query] @ units[at]) for at in expected)
        assert all(float(units[query] @ units[at]) >= worst - 1e-6 for at in found[query].tolist())
        assert len(set(found[query].tolist()) - {query}) == top


@given(cases, st.booleans())
def test_shares_are_those_of_random_tie_breaking(case: tuple[int, int, int, int], coarse: bool) -> None:
    """Codes of few values tie often: the expected share is taken over every way to break a tie."""
    seed, rows, dimensions, top = case
    draw = np.random.default_rng(seed)
    made = draw.integers(-1, 2, (rows, dimensions)) if coarse else draw.standard_normal((rows, dimensions))
    units = unit_rows(made.astype(np.float32))
    wanted = np.stack([draw.choice(np.delete(np.arange(rows), query), top, replace=False) for query in range(3)])
    shares = found_share(units, wanted)
    scores = units[:3] @ units.T
    for query in range(3):
        others = np.delete(np.arange(rows), query)
        expected = 0.0
        for at in wanted[query]:
            above = np.count_nonzero(scores[query][others] > scores[query][at])
            tied = np.count_nonzero(scores[query][others] == scores[query][at])
            expected += min(1.0, max(0.0, (top - above) / tied))
        assert shares[query] == pytest.approx(expected / top)


def test_one_point_for_everything_finds_as_little_as_a_guess() -> None:
    everywhere_alike = np.ones((101, 1), np.float32)
    wanted = np.arange(1, 11)[np.newaxis]
    assert found_share(everywhere_alike, wanted) == pytest.approx(10 / 100)


def test_zero_prefixes_are_no_one_s_neighbours() -> None:
    assert not unit_rows(np.zeros((3, 4), np.float32)).any()


def test_scores_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    units = unit_rows(np.random.default_rng(0).standard_normal((90, 8)).astype(np.float32))
    whole = found_share(units, nearest(units, 30, 5))
    monkeypatch.setattr(neighbours, "_SCORES_AT_ONCE", 7 * 90)
    assert np.array_equal(np.sort(nearest(units, 30, 5)), np.sort(nearest(units, 30, 5)))
    assert np.array_equal(found_share(units, nearest(units, 30, 5)), whole)


@given(st.integers(0, 2**32 - 1), st.integers(2, 65))
def test_a_rotation_keeps_every_score(seed: int, dimensions: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((20, dimensions)).astype(np.float32)
    for turn in (rotated, shuffled):
        other = turn(vectors, draw)
        assert other.dtype == np.float32
        assert np.allclose(other @ other.T, vectors @ vectors.T, atol=1e-4 * dimensions)


def test_a_rotation_projects_as_a_gaussian_one_does() -> None:
    """Of fixed vectors, a spike among them: lengths of projections have mean and deviation of orthonormalized Gaussian
    ones. 400 draws of each; the deviation of a deviation is about 4 % of it."""
    dimensions, cut, draws = 96, 24, 400
    draw = np.random.default_rng(3)
    spike = np.zeros(dimensions)
    spike[5] = 1.0
    fixed = unit_rows(np.stack([spike, np.ones(dimensions), draw.standard_normal(dimensions)]).astype(np.float32))
    lengths = np.array([np.square(rotated(fixed, draw)[:, :cut]).sum(axis=1) for _ in range(draws)])
    gaussian = np.array(
        [np.square(fixed @ np.linalg.qr(draw.standard_normal((dimensions, cut)))[0]).sum(axis=1) for _ in range(draws)]
    )
    assert np.allclose(lengths.mean(axis=0), cut / dimensions, atol=0.015)
    assert np.allclose(lengths.std(axis=0) / gaussian.std(axis=0), 1.0, atol=0.3)
