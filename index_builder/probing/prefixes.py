"""Do prefixes keep more of the neighbourhood than as many dimensions that no training has chosen?

A prefix of a model without Matryoshka training is as good as any other projection or choice of dimensions. So the
prefix is compared with several random ones of each kind, on the same queries, and must beat both kinds. Three things
make noise: which queries were sampled, which projections or subsets were drawn, and that the prefix of such a model is
itself no more than one draw of the projections. (It is not counted as a draw of the subsets: where dimensions differ
much in size, so do subsets in worth, and a prefix that holds the large ones is better than its like for a reason.)
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.estimates import estimate
from index_builder.probing.controls import rotated, shuffled
from index_builder.probing.neighbours import found_share, nearest, unit_rows
from tierloom.gate import TOP, Advantage, Estimate, PrefixProbe, Verdict

MOST_ROWS: Final = 2000
MOST_QUERIES: Final = 750
# With fewer rows no verdict is passed.
FEWEST_ROWS: Final = 500

# Of what the better control misses, a prefix must find at least this share to be worth a tier. (Measured with wordllama
# at the prefixes it was trained for: .12 and .18; on random rotations of the same vectors: 0, give or take .02.)
MARGIN: Final = 0.05
# With less of a lead than this share, it has none. (Between the two no verdict is passed: with wordllama at 64
# dimensions on 17,000 chunks of release notes the lead was .07 ±.014, on random rotations 0 ±.02.)
_NOTHING: Final = MARGIN / 2
# What a verdict must be able to see: a sample in which an advantage of this share would drown is too small.
_VISIBLE: Final = 0.1
# So many standard errors is a prefix ahead of its controls by chance in fewer than one of ten thousand probes.
_SURE: Final = 3.5
_CONFIDENT: Final = 1.96
# Of each kind. A turn or shuffle of all dimensions serves two draws: its first dimensions and its last ones.
_TURNS: Final = 4

_WORST_FIRST: Final[tuple[Verdict, ...]] = ("refused", "undecided", "matryoshka")
_BEST_FIRST: Final[tuple[Verdict, ...]] = ("matryoshka", "undecided", "refused")

Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Distinct unit rows (n, D), the first of which are queries, and the neighbours (q, TOP) of these."""

    units: NDArray[np.float32]
    wanted: NDArray[np.int64]


def model_verdict(probes: Sequence[PrefixProbe], trained: Collection[int]) -> Verdict:
    """Whether the model is Matryoshka.

    Where some of the probed prefixes are `trained` ones, it must hold for each of these; else one is enough.
    """
    claimed = {probe.verdict for probe in probes if probe.dimensions in trained}
    if claimed:
        return next((verdict for verdict in _WORST_FIRST if verdict in claimed), "undecided")
    found = {probe.verdict for probe in probes}
    return next((verdict for verdict in _BEST_FIRST if verdict in found), "undecided")


def probe_prefixes(vectors: NDArray[np.float16], dimensions: Sequence[int], seed: int = 0) -> tuple[PrefixProbe, ...]:
    """A probe of each of these prefixes of unit vectors (n, D), in the order of `dimensions`.

    At most `MOST_ROWS` of the vectors are taken, as `seed` says, and each distinct one once. There is no probe of D
    dimensions or more, which is no prefix, and none at all where there are hardly more vectors than `TOP`.
    """
    draw = np.random.default_rng(seed)
    cuts = [d for d in dimensions if d < vectors.shape[1]]
    rows = _distinct(vectors, draw)
    if len(rows) <= TOP + 1 or not cuts:
        return ()
    units = unit_rows(rows.astype(np.float32))
    sample = _Sample(units, nearest(units, min(MOST_QUERIES, len(units)), TOP))
    projected = _control(sample, cuts, rotated, draw)
    subset = _control(sample, cuts, shuffled, draw)
    return tuple(_probe(sample, d, p, s) for d, p, s in zip(cuts, projected, subset, strict=True))


def _distinct(vectors: NDArray[np.float16], draw: np.random.Generator) -> NDArray[np.float16]:
    """At most `MOST_ROWS` of the vectors in random order, each once: equal ones would be each other's neighbours."""
    at = draw.permutation(len(vectors))
    taken: NDArray[np.float16] = vectors[at[:MOST_ROWS]]
    as_bytes = np.ascontiguousarray(taken).view(np.dtype((np.void, taken.dtype.itemsize * taken.shape[1])))
    _, first = np.unique(as_bytes, return_index=True)
    return taken[np.sort(first)]


def _control(
    sample: _Sample,
    cuts: Sequence[int],
    turn: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]],
    draw: np.random.Generator,
) -> list[Draws]:
    """For each size the shares (draws, queries) that as many dimensions of turned vectors find."""
    shares: list[list[NDArray[np.float64]]] = [[] for _ in cuts]
    for _ in range(_TURNS):
        turned = turn(sample.units, draw)
        for found, d in zip(shares, cuts, strict=True):
            found += [_found(turned[:, :d], sample), _found(turned[:, -d:], sample)]
    return [np.stack(found) for found in shares]


def _found(part: NDArray[np.float32], sample: _Sample) -> NDArray[np.float64]:
    return found_share(unit_rows(part), sample.wanted)


@dataclass(frozen=True, slots=True)
class _Lead:
    """By how much a prefix is ahead of a control: the mean, its standard error, and the share of the neighbours that
    the control misses."""

    mean: float
    error: float
    missed: float

    @property
    def is_certain(self) -> bool:
        return self.mean > _SURE * self.error and self.mean >= MARGIN * self.missed

    @property
    def is_none(self) -> bool:
        """Whether there is next to no lead, and none that is more than noise."""
        return self.mean < _NOTHING * self.missed and self.mean < _CONFIDENT * self.error

    @property
    def is_hidden(self) -> bool:
        """Whether the noise could hide a lead that is worth having."""
        worth = _VISIBLE * self.missed
        return _SURE * self.error > worth and self.mean + _CONFIDENT * self.error >= worth


def _probe(sample: _Sample, dimensions: int, projected: Draws, subset: Draws) -> PrefixProbe:
    prefix = _found(sample.units[:, :dimensions], sample)
    leads = [_lead(prefix, projected, one_of_them=True), _lead(prefix, subset, one_of_them=False)]
    least = min(leads, key=lambda lead: lead.mean)
    half = _CONFIDENT * least.error
    return PrefixProbe(
        dimensions=dimensions,
        overlap=estimate(prefix),
        projected=_control_estimate(projected),
        subset=_control_estimate(subset),
        advantage=Advantage(least.mean, least.mean - half, least.mean + half),
        verdict=_verdict(leads, len(sample.units)),
    )


def _lead(prefix: NDArray[np.float64], control: Draws, one_of_them: bool) -> _Lead:
    """`one_of_them`: a prefix that is no better would be one more draw of the control."""
    ahead = prefix - control.mean(axis=0)
    noise = _draw_variance(control) * (1 / len(control) + one_of_them)
    return _Lead(float(ahead.mean()), float(np.sqrt(_variance_of_mean(ahead) + noise)), float(1 - control.mean()))


def _verdict(leads: Sequence[_Lead], rows: int) -> Verdict:
    if rows < FEWEST_ROWS:
        return "undecided"
    if all(lead.is_certain for lead in leads):
        return "matryoshka"
    return "refused" if any(lead.is_none and not lead.is_hidden for lead in leads) else "undecided"


def _draw_variance(draws: Draws) -> float:
    """How much the mean of a control varies from draw to draw."""
    return float(draws.mean(axis=1).var(ddof=1))


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1) / len(values))


def _control_estimate(draws: Draws) -> Estimate:
    """The mean of a control (draws, queries), as sure as its queries and its draws let it be."""
    values = draws.mean(axis=0)
    mean = float(values.mean())
    half = _CONFIDENT * float(np.sqrt(_variance_of_mean(values) + _draw_variance(draws) / len(draws)))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))
