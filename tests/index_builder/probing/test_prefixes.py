"""Verdicts on vectors whose nature is known. Each has its margin: with the seeds given and with others, a wrong verdict
is several times further away than the noise goes."""

import tracemalloc

import msgspec
import numpy as np
import pytest

from index_builder.probing.prefixes import FEWEST_ROWS, MOST_QUERIES, MOST_ROWS, model_verdict, probe_prefixes
from tests.index_builder.probing.vectors import spread, stored, turned
from tierloom.gate import Advantage, Estimate, PrefixProbe, Verdict

pytestmark = pytest.mark.slow

SIZES = (16, 32, 64, 128)


@pytest.mark.parametrize("seed", range(2))
def test_the_spectrum_of_a_matryoshka_model_is_accepted_and_a_rotation_of_it_refused(seed: int) -> None:
    vectors = spread(1500, 256, 0.5, seed)
    accepted = probe_prefixes(stored(vectors), SIZES, seed)
    assert [probe.verdict for probe in accepted] == ["matryoshka"] * 4
    refused = probe_prefixes(stored(turned(vectors, seed)), SIZES, seed)
    # A prefix without training is one draw of the projections, and one in ten draws is a little ahead by luck.
    verdicts = [probe.verdict for probe in refused]
    assert verdicts.count("refused") >= 3
    assert "matryoshka" not in verdicts
    for before, after in zip(accepted, refused, strict=True):
        assert before.overlap.mean > after.overlap.mean + 0.05
        assert after.projected.low - 0.05 < after.overlap.mean < after.projected.high + 0.05


@pytest.mark.parametrize("seed", range(2))
def test_vectors_without_an_order_are_refused(seed: int) -> None:
    assert {probe.verdict for probe in probe_prefixes(stored(spread(2000, 384, 0.0, seed)), SIZES, seed)} == {"refused"}


@pytest.mark.parametrize("size", [1.0, 8.0])
def test_rogue_dimensions_make_no_matryoshka(size: float) -> None:
    """A few dimensions of BERT-like models have a mean or a deviation many times that of the others."""
    vectors = spread(2000, 256, 0.0, 4)
    vectors[:, [200, 220]] = vectors[:, [200, 220]] * size + 10
    assert "matryoshka" not in {probe.verdict for probe in probe_prefixes(stored(vectors), SIZES)}


def test_a_spectrum_turned_round_is_refused() -> None:
    vectors = spread(2000, 256, 0.5, 0)[:, ::-1]
    assert {probe.verdict for probe in probe_prefixes(stored(vectors), SIZES)} == {"refused"}


def test_a_prefix_of_zeros_or_of_one_point_is_refused() -> None:
    vectors = spread(1200, 64, 0.5, 0)
    for value in (0.0, 3.0):
        vectors[:, :8] = value
        (probe,) = probe_prefixes(stored(vectors), [8])
        assert probe.verdict == "refused"
        assert probe.overlap.mean == pytest.approx(10 / 1199, abs=0.01)


def test_a_corpus_too_small_is_undecided() -> None:
    vectors = stored(spread(FEWEST_ROWS - 1, 64, 0.5, 0))
    assert {probe.verdict for probe in probe_prefixes(vectors, (8, 16, 32))} == {"undecided"}
    for rows in (0, 1, 11):
        assert probe_prefixes(vectors[:rows], (8, 16)) == ()
    assert len(probe_prefixes(vectors[:12], (8, 16))) == 2


def test_copies_of_a_vector_count_once() -> None:
    vectors = stored(spread(400, 64, 0.5, 0))
    assert {probe.verdict for probe in probe_prefixes(np.repeat(vectors, 4, axis=0), (8,))} == {"undecided"}
    assert probe_prefixes(np.repeat(vectors[:1], 1000, axis=0), (8,)) == ()


def test_what_is_no_cut_has_no_probe() -> None:
    vectors = stored(spread(600, 64, 0.5, 0))
    assert [probe.dimensions for probe in probe_prefixes(vectors, (32, 64, 128, 8))] == [32, 8]


def test_the_same_seed_measures_the_same() -> None:
    vectors = stored(spread(700, 64, 0.5, 0))
    once, again = probe_prefixes(vectors, (8, 16), 5), probe_prefixes(vectors, (8, 16), 5)
    assert once == again != probe_prefixes(vectors, (8, 16), 6)
    assert msgspec.json.decode(msgspec.json.encode(once), type=tuple[PrefixProbe, ...]) == once


def test_overlap_is_that_of_a_full_scan() -> None:
    """By hand, on a sample that is taken whole."""
    vectors = stored(spread(600, 32, 0.5, 1))
    (probe,) = probe_prefixes(vectors, [8])
    exact = vectors.astype(np.float64)

    def neighbours(rows: np.ndarray) -> list[set[int]]:
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        scores = units @ units.T
        np.fill_diagonal(scores, -np.inf)
        return [set(row) for row in np.argsort(-scores, axis=1)[:, :10].tolist()]

    shares = [len(a & b) / 10 for a, b in zip(neighbours(exact), neighbours(exact[:, :8]), strict=True)]
    assert probe.overlap.mean == pytest.approx(np.mean(shares), abs=0.002)
    half = 1.96 * np.std(shares, ddof=1) / np.sqrt(600)
    assert probe.overlap.high - probe.overlap.mean == pytest.approx(half, abs=0.001)


def test_memory_is_bounded() -> None:
    vectors = stored(spread(4000, 1536, 0.5, 0))
    tracemalloc.start()
    probe_prefixes(vectors, (64,))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MOST_ROWS * 1536 * 4 + 4 * MOST_ROWS * MOST_QUERIES * 4


def made(dimensions: int, verdict: Verdict) -> PrefixProbe:
    share = Estimate(0.5, 0.5, 0.5)
    return PrefixProbe(dimensions, share, share, share, Advantage(0.0, 0.0, 0.0), verdict)


@pytest.mark.parametrize(
    ("verdicts", "trained", "expected"),
    [
        (("refused", "matryoshka", "matryoshka"), (64, 128), "matryoshka"),
        (("matryoshka", "refused", "matryoshka"), (64, 128), "refused"),
        (("matryoshka", "undecided", "matryoshka"), (64, 128), "undecided"),
        (("undecided", "undecided", "refused"), (64, 128), "refused"),
        (("refused", "refused", "matryoshka"), (256,), "matryoshka"),
        (("refused", "undecided", "refused"), (), "undecided"),
        (("refused", "refused", "refused"), (), "refused"),
    ],
)
def test_the_model_s_verdict(verdicts: tuple[Verdict, ...], trained: tuple[int, ...], expected: Verdict) -> None:
    probes = [made(d, verdict) for d, verdict in zip((32, 64, 128), verdicts, strict=True)]
    assert model_verdict(probes, trained) == expected


def test_nothing_probed_is_undecided() -> None:
    assert model_verdict((), (64,)) == "undecided"
