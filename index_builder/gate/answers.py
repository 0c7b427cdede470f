"""What is kept from version to version, so that only what is new is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import NOBODY, Ranked, joined, split
from index_builder.gate.sample import pack, unpack
from tierloom.errors import Malformed
from tierloom.shards.live import LiveShard

# Of one stored answer: its position, row, score and levels.
_BYTES: Final = 4 + 4 + 4 + 1


@dataclass(frozen=True, slots=True)
class TierAnswers:
    """The shortlists of one tier, in one list for each query: `levels` are the lengths of search, and a bit of each
    answer says which of them find it. `index_of` names, for each vector shard, the index shard that answered for it."""

    index_of: tuple[str, ...]
    levels: tuple[int, ...]
    nearest: Ranked


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of every query in one version, whose vector shards are `shards` with so many `live` rows each.

    `own` int64 (q,) is where each query's own chunk lives, which is no answer; `NOBODY` for given queries, and for
    those whose chunk is gone. `prints` uint64 (q,) are digests of the query vectors. Rows with a score below `horizon`
    float32 (q,) may be missing from `exact`.
    """

    shards: tuple[str, ...]
    live: tuple[int, ...]
    own: NDArray[np.int64]
    prints: NDArray[np.uint64]
    exact: Ranked
    horizon: NDArray[np.float32]
    tiers: Mapping[str, TierAnswers]

    @property
    def size(self) -> int:
        """About how many bytes `to_bytes` makes."""
        ranked = [self.exact, *(tier.nearest for tier in self.tiers.values())]
        return sum(_BYTES * one.addresses.size for one in ranked)

    def to_bytes(self) -> bytes:
        arrays: dict[str, NDArray[Any]] = {
            "shards": np.array(self.shards, np.str_),
            "live": np.array(self.live, np.int64),
            "own": self.own,
            "prints": self.prints,
            "horizon": self.horizon,
            **_arrays_of("exact", self.exact),
        }
        for name, tier in self.tiers.items():
            arrays[f"tier {name}"] = np.array(tier.index_of, np.str_)
            arrays[f"tier {name}.lengths"] = np.array(tier.levels, np.int64)
            arrays |= _arrays_of(f"tier {name}", tier.nearest)
        return pack(arrays)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> "Answers":
        """Raises `Malformed`."""
        arrays = unpack(data, name)
        try:
            return cls(
                shards=tuple(arrays["shards"].tolist()),
                live=tuple(arrays["live"].tolist()),
                own=arrays["own"],
                prints=arrays["prints"],
                exact=_ranked(arrays, "exact"),
                horizon=arrays["horizon"],
                tiers=_tiers(arrays),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise Malformed(f"{name}: not the answers of a gate: {error}") from error


def positions_now(before: Answers, shards: Sequence[LiveShard]) -> NDArray[np.int64]:
    """For each vector shard of `before` its position among `shards`; -1 for those that are gone, or have more live
    rows than were asked."""
    now = {live.stored.path: at for at, live in enumerate(shards)}
    return np.array(
        [
            at if (at := now.get(path, NOBODY)) != NOBODY and shards[at].stored.live_rows <= live else NOBODY
            for path, live in zip(before.shards, before.live, strict=True)
        ],
        dtype=np.int64,
    )


def living(ranked: Ranked, shards: Sequence[LiveShard], own: NDArray[np.int64]) -> Ranked:
    """Without the rows that died, and without each query's own chunk."""
    kept = (ranked.addresses != own[:, np.newaxis]) | (ranked.addresses == NOBODY)
    if any(live.stored.deletes for live in shards):
        begins = np.cumsum([0, *(live.stored.rows for live in shards)])
        alive = np.concatenate([live.alive for live in shards])
        positions, rows = split(np.maximum(ranked.addresses, 0))
        kept &= alive[begins[positions] + rows] | (ranked.addresses == NOBODY)
    return ranked.only(kept)


def _arrays_of(name: str, ranked: Ranked) -> dict[str, NDArray[Any]]:
    positions, rows = split(ranked.addresses)
    return {
        f"{name}.positions": positions.astype(np.int32),
        f"{name}.rows": rows.astype(np.uint32),
        f"{name}.scores": ranked.scores,
        f"{name}.levels": ranked.levels,
    }


def _ranked(arrays: Mapping[str, NDArray[Any]], name: str) -> Ranked:
    positions, rows = arrays[f"{name}.positions"].astype(np.int64), arrays[f"{name}.rows"].astype(np.int64)
    addresses = np.where(positions < 0, NOBODY, joined(positions, rows))
    return Ranked(addresses, arrays[f"{name}.scores"], arrays[f"{name}.levels"])


def _tiers(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TierAnswers]:
    named = [key.removeprefix("tier ") for key in arrays if key.startswith("tier ") and "." not in key]
    return {
        name: TierAnswers(
            tuple(arrays[f"tier {name}"].tolist()),
            tuple(arrays[f"tier {name}.lengths"].tolist()),
            _ranked(arrays, f"tier {name}"),
        )
        for name in named
    }
