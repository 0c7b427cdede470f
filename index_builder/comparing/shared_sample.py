"""Chunks that both generations have, to ask each of them with its own vectors: nothing is embedded for it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import NOBODY, split
from index_builder.gate.sample import Sample, drawn_sample, own_addresses
from tierloom.errors import InputError
from tierloom.shards.live import LiveShard

Shards = Sequence[LiveShard]


def shared_sample(first: Shards, second: Shards, count: int, seed: int) -> Sample:
    """`count` live chunks that both hold under the same document and ordinal, with the same heading and text; fewer, if
    there are not as many. Which they are depends on the documents and the seed alone.

    Raises `InputError` when they have none in common.
    """
    fewer, other = sorted((first, second), key=_live)
    wanted = count
    while True:
        drawn = drawn_sample(fewer, wanted, seed)
        shared = _at(drawn, np.flatnonzero(_same(drawn, fewer, other)))
        if len(shared) >= count or wanted >= _live(fewer):
            break
        wanted *= 2
    if not len(shared):
        raise InputError(
            "the generations have no chunk in common, since their documents are cut differently or one of them has "
            "none yet: compare them on questions of your own (--queries FILE)"
        )
    return _at(shared, np.arange(min(count, len(shared))))


def _live(shards: Shards) -> int:
    return sum(live.stored.live_rows for live in shards)


def _at(sample: Sample, chosen: NDArray[np.int64]) -> Sample:
    return replace(sample, keys=sample.keys[chosen], ordinals=sample.ordinals[chosen])


def _same(sample: Sample, first: Shards, second: Shards) -> NDArray[np.bool_]:
    """Which of the chunks say the same in both: bool (q,)."""
    ours, theirs = (_texts(sample, shards) for shards in (first, second))
    return np.array([mine is not None and mine == other for mine, other in zip(ours, theirs, strict=True)], np.bool_)


def _texts(sample: Sample, shards: Shards) -> list[tuple[str, str, str] | None]:
    """Id, heading and text of each chunk; None of those that do not live here."""
    addresses = own_addresses(sample, dict(enumerate(shards)))
    found: list[tuple[str, str, str] | None] = [None] * len(sample)
    positions, rows = split(addresses)
    for position in np.unique(positions[addresses != NOBODY]).tolist():
        here = np.flatnonzero((positions == position) & (addresses != NOBODY))
        # Rows of a shard are read in their order.
        here = here[np.argsort(rows[here])]
        described = shards[position].shard.read(("document_id", "heading", "text"), rows[here]).to_pylist()
        for at, row in zip(here.tolist(), described, strict=True):
            found[at] = row["document_id"], row["heading"], row["text"]
    return found
