"""What is said of a tier is what one measures by hand: with usearch itself, numpy, and files on disk."""

from pathlib import Path

import numpy as np
import pytest
from usearch.index import Index

from index_builder.advising.candidates import candidate_tiers
from index_builder.advising.measuring import expected_bytes, try_tier
from index_builder.advising.trial import held_out, make_trial
from tests.index_builder.probing.vectors import spread, stored
from tierloom.collection import Tier
from tierloom.quantizer import quantize

ROWS, QUERIES = 3000, 40
VECTORS = stored(spread(ROWS + QUERIES, 96, 0.5, 11))


def test_recall_of_an_int_8_tier_is_that_by_hand() -> None:
    rows, queries = held_out(VECTORS, QUERIES, 5)
    (option,) = try_tier(Tier("32", 32), make_trial(rows, queries, 64), [50])
    codes = np.ascontiguousarray(quantize(rows, 64)[:, :32])
    index = Index(ndim=32, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=128)
    index.add(np.arange(ROWS), codes, threads=1)
    shares = []
    for query in queries:
        exact = rows.astype(np.float64) @ query
        code = np.rint(query[:32] / np.abs(query[:32]).max() * 127).astype(np.int8)
        shortlist = index.search(code, 50, threads=1, exact=True).keys
        best = sorted(shortlist.tolist(), key=lambda row: -exact[row])[:10]
        shares.append(len({*best} & {*np.argsort(-exact)[:10].tolist()}) / 10)
    # Both are looked for by a scan, at 1 row in 60; neighbours with equal codes may change places.
    assert option.recall.mean == pytest.approx(np.mean(shares), abs=0.01)
    half = 1.96 * np.std(shares, ddof=1) / QUERIES**0.5
    assert option.recall.mean - option.recall.low == pytest.approx(half, abs=0.01)


def test_recall_of_a_binary_tier_is_that_by_hand() -> None:
    rows, queries = held_out(VECTORS, QUERIES, 6)
    (option,) = try_tier(Tier("64-binary", 64, "binary"), make_trial(rows, queries, 64), [200])
    signs = quantize(rows, 64) > 0
    shares = []
    for query in queries:
        exact = rows.astype(np.float64) @ query
        differ = (signs != (query[:64] > 0)).sum(axis=1)
        shortlist = np.argsort(differ, kind="stable")[:200]
        best = sorted(shortlist.tolist(), key=lambda row: -exact[row])[:10]
        shares.append(len({*best} & {*np.argsort(-exact)[:10].tolist()}) / 10)
    # Many rows tie at the end of the shortlist: any of them may be in it.
    assert option.recall.mean == pytest.approx(np.mean(shares), abs=0.04)


def test_a_shortlist_of_nearly_everything_finds_everything() -> None:
    rows, queries = held_out(VECTORS[:400], 50, 0)
    options = try_tier(Tier("16", 16), make_trial(rows, queries, 16), [20, 100, 349, 350, 1000])
    assert [option.shortlist for option in options] == [20, 100, 349]
    assert options[0].recall.mean < options[1].recall.mean < options[2].recall.mean
    assert options[2].recall.mean > 0.999
    (whole,) = try_tier(Tier("16", 16), make_trial(rows, queries, 16), [500])
    assert (whole.shortlist, whole.recall.mean) == (350, 1.0)


def test_copies_are_as_good_as_what_they_are_copies_of() -> None:
    """Each row thirty times: the ten best are copies of one or of a few, and any of these counts."""
    rows, queries = held_out(VECTORS[:140], 40, 0)
    trial = make_trial(np.repeat(rows, 30, axis=0), queries, 32)
    (option,) = try_tier(Tier("32", 32), trial, [600])
    assert option.recall.mean > 0.9


@pytest.mark.parametrize("tier", candidate_tiers([32, 96]), ids=lambda tier: f"{tier.name}-M{tier.connectivity}")
def test_bytes_are_those_of_the_file(tier: Tier, tmp_path: Path) -> None:
    rows, queries = held_out(VECTORS, 2, 0)
    (option,) = try_tier(tier, make_trial(rows, queries, 96), [20])
    assert option.bytes_per_vector == pytest.approx(expected_bytes(tier), rel=0.03)
    index = Index(
        ndim=tier.dimensions,
        metric=tier.metric,
        dtype="b1" if tier.kind == "binary" else "i8",
        connectivity=tier.connectivity,
    )
    codes = quantize(rows, 96)[:, : tier.dimensions]
    codes = np.unique(np.packbits(codes > 0, axis=1) if tier.kind == "binary" else codes, axis=0)
    index.add(np.arange(len(codes)), np.ascontiguousarray(codes), threads=1)
    index.save(str(tmp_path / "graph"))
    assert option.bytes_per_vector == pytest.approx((tmp_path / "graph").stat().st_size / len(codes), rel=0.001)


def test_time_is_of_one_query_with_its_rerank() -> None:
    rows, queries = held_out(VECTORS, 20, 0)
    options = try_tier(Tier("32", 32), make_trial(rows, queries, 32), [20, 500])
    assert 0 < options[0].milliseconds < 1000
    assert options[1].milliseconds < 1000


def test_queries_are_taken_out_of_the_rows() -> None:
    rows, queries = held_out(VECTORS, QUERIES, 5)
    assert len(rows) == ROWS
    assert queries.dtype == np.float32
    assert np.allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    assert np.all((rows.astype(np.float32) @ queries.T).max(axis=0) < 0.9999)
    assert np.array_equal(held_out(VECTORS, QUERIES, 5)[1], queries)


def test_candidates_are_each_kind_at_each_connectivity() -> None:
    tiers = candidate_tiers([64, 20])
    assert [(tier.name, tier.connectivity) for tier in tiers] == [
        (name, m) for m in (16, 8) for name in ("20", "64", "64-binary")
    ]
