"""A random sample of what is live in a version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tierloom.errors import InputError
from tierloom.manifest import Manifest, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.shards.live import LiveShard

# A sample is drawn from so many shards at least, if there are as many: they may be of different sources.
_FEWEST_SHARDS: Final = 8


@dataclass(frozen=True, slots=True)
class LiveSample:
    """Live rows: of each shard some, ascending."""

    parts: tuple[tuple[LiveShard, NDArray[np.int64]], ...]

    def gather(self, column: str) -> NDArray[Any]:
        """The rows of a fixed-width column, such as `vector`: float16 (n, D)."""
        return np.concatenate([live.shard.gather(column, rows) for live, rows in self.parts])

    def texts(self) -> list[tuple[str, str]]:
        """The heading and the text of each row."""
        tables = [live.shard.read(("heading", "text"), rows).to_pylist() for live, rows in self.parts]
        return [(row["heading"], row["text"]) for table in tables for row in table]


def sample_live(manifest: Manifest, files: ObjectFiles, count: int, seed: int = 0) -> LiveSample:
    """`count` live rows, or all there are; chosen by `seed` alone.

    Not every shard of a large collection is opened: random ones are, the larger the more likely, until they hold
    twice as many rows as are asked for. Raises `InputError` when nothing is live.
    """
    draw = np.random.default_rng(seed)
    stored = [shard for shard in manifest.vector_shards if shard.live_rows]
    if not stored:
        raise InputError(f"version {manifest.version} holds no live chunk; ingest something first")
    opened = [LiveShard(shard, files) for shard in _chosen(stored, count, draw)]
    alive = [np.flatnonzero(live.alive) for live in opened]
    ends = np.cumsum([len(rows) for rows in alive])
    taken = np.sort(draw.choice(ends[-1], min(count, int(ends[-1])), replace=False))
    of_shard = np.split(taken, np.searchsorted(taken, ends[:-1]))
    begins = ends - [len(rows) for rows in alive]
    parts = zip(opened, alive, of_shard, begins, strict=True)
    return LiveSample(tuple((live, rows[at - begin]) for live, rows, at, begin in parts if len(at)))


def _chosen(stored: Sequence[VectorShard], count: int, draw: np.random.Generator) -> list[VectorShard]:
    live = np.array([shard.live_rows for shard in stored])
    order = draw.choice(len(stored), len(stored), replace=False, p=live / live.sum())
    enough = int(np.searchsorted(np.cumsum(live[order]), 2 * count)) + 1
    return [stored[at] for at in np.sort(order[: max(enough, _FEWEST_SHARDS)])]
