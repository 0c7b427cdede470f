"""The queries of a gate: chunks of the corpus, held out of their own answers, or queries that the owner gave."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from index_builder.gate.ranked import NOBODY, joined
from tierloom.errors import Malformed
from tierloom.shards.live import LiveShard

QUERIES: Final = 200

Source = Literal["held-out", "given"]


@dataclass(frozen=True, slots=True)
class Sample:
    """`keys` uint64 (q,) and `ordinals` int32 (q,) say which chunks the queries are; both are empty for given ones.
    `vectors` float32 (q, D) are given queries, of unit length; empty for chunks, whose vectors their shards hold.

    `relevant` int64-offset lists: the keys of the documents that answer query i are
    `relevant[offsets[i]:offsets[i + 1]]`; none where they are not known. `drawn_from` chunks were live at the draw.
    """

    source: Source
    keys: NDArray[np.uint64]
    ordinals: NDArray[np.int32]
    vectors: NDArray[np.float32]
    relevant: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    drawn_from: int

    def __len__(self) -> int:
        return len(self.keys) if self.source == "held-out" else len(self.vectors)

    @property
    def judged(self) -> bool:
        """Whether relevant documents are known."""
        return bool(len(self.relevant))

    def relevant_to(self, query: int) -> NDArray[np.uint64]:
        return self.relevant[self.offsets[query] : self.offsets[query + 1]]

    def to_bytes(self) -> bytes:
        return pack(
            {
                "keys": self.keys,
                "ordinals": self.ordinals,
                "vectors": self.vectors,
                "relevant": self.relevant,
                "offsets": self.offsets,
                "drawn_from": np.array([self.drawn_from], np.int64),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> "Sample":
        """Raises `Malformed`."""
        arrays = unpack(data, name)
        try:
            drawn = int(arrays.pop("drawn_from")[0])
            source: Source = "held-out" if len(arrays["keys"]) else "given"
            return cls(source=source, drawn_from=drawn, **arrays)
        except (KeyError, TypeError, IndexError) as error:
            raise Malformed(f"{name}: not the sample of a gate: {error}") from error


def given_sample(vectors: NDArray[np.float32], relevant: Sequence[Sequence[int]]) -> Sample:
    """Queries of the owner: unit vectors (q, D), and for each the keys of the documents that answer it."""
    return Sample(
        source="given",
        keys=np.empty(0, np.uint64),
        ordinals=np.empty(0, np.int32),
        vectors=vectors,
        relevant=np.array([key for keys in relevant for key in keys], dtype=np.uint64),
        offsets=np.cumsum([0, *map(len, relevant)], dtype=np.int64),
        drawn_from=0,
    )


def drawn_sample(shards: Sequence[LiveShard], count: int, seed: int) -> Sample:
    """`count` live chunks (all, if there are fewer): those whose hash under the seed is smallest.

    Which they are depends on the documents alone, not on how they lie in shards.
    """
    keys, ordinals = [np.empty(0, np.uint64)], [np.empty(0, np.int32)]
    for live in shards:
        rows = np.flatnonzero(live.alive)
        own_keys, own_ordinals = live.keys[rows], live.shard.column("ordinal")[rows]
        smallest = _smallest(own_keys, own_ordinals, count, seed)
        keys.append(own_keys[smallest])
        ordinals.append(own_ordinals[smallest])
    every_key, every_ordinal = np.concatenate(keys), np.concatenate(ordinals)
    chosen = _smallest(every_key, every_ordinal, count, seed)
    return replace(
        given_sample(np.empty((0, 0), np.float32), []),
        source="held-out",
        keys=every_key[chosen],
        ordinals=every_ordinal[chosen],
        drawn_from=sum(live.stored.live_rows for live in shards),
    )


def own_addresses(sample: Sample, shards: Mapping[int, LiveShard]) -> NDArray[np.int64]:
    """Where each sampled chunk lives (q,), looked for in these shards, by position; `NOBODY` where it does not."""
    found = np.full(len(sample), NOBODY, np.int64)
    for position, live in shards.items():
        rows = live.rows_of(np.unique(sample.keys))
        wanted = {identity: at for at, identity in enumerate(_identities(sample.keys, sample.ordinals))}
        here = _identities(live.keys[rows], live.shard.gather("ordinal", rows))
        for row, identity in zip(rows.tolist(), here, strict=True):
            if (at := wanted.get(identity)) is not None:
                found[at] = joined(np.int64(position), np.int64(row))  # type: ignore[arg-type]
    return found


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays by name, as the bytes of an .npz file; the same for the same arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """What `pack` packed. Raises `Malformed`."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise Malformed(f"{name}: not the arrays of a gate: {error}") from error


def _smallest(keys: NDArray[np.uint64], ordinals: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int64]:
    hashes = _mixed(keys ^ _mixed(ordinals.astype(np.uint64) + np.uint64(seed)))
    order: NDArray[np.int64] = np.argsort(hashes, kind="stable")[:count]
    return order


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _identities(keys: NDArray[np.uint64], ordinals: NDArray[np.int32]) -> list[tuple[int, int]]:
    return list(zip(keys.tolist(), ordinals.tolist(), strict=True))
