"""What compaction writes for what it merges, and its peak memory for a small and a large corpus.

Small vector shards are merged to their target size in a process of its own, as `tierloom compact` does it. Index shards
are built in further processes, bounded by the rows of an index shard; here of one small tier.
Memory is measured as in `benchmarks.memory`.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import corpus
from benchmarks.measuring import seconds, show_claim, sizes
from benchmarks.memory import Peaks, Watch
from index_builder.upkeep.compaction import CompactedRound, compact
from tierloom.collection import Sizes
from tierloom.stores.local import LocalStore

_MEGABYTE = 1e6


class Measured(msgspec.Struct):
    """One compaction of a corpus."""

    rounds: list[CompactedRound]
    seconds: float
    peaks: Peaks

    @property
    def merged(self) -> int:
        return sum(round_.bytes_merged for round_ in self.rounds)

    @property
    def written(self) -> int:
        return sum(round_.bytes_written for round_ in self.rounds)


def compact_here(folder: Path) -> Measured:
    """Compact the collection in a folder, in this process."""
    rounds: list[CompactedRound] = []
    watch = Watch()
    took = seconds(lambda: rounds.extend(compact(LocalStore(folder)).rounds))
    return Measured(rounds, took, watch.stop())


def compact_apart(rows: int, shard_rows: int, target: int) -> Measured:
    """Make a corpus of small shards, and compact it in a process of its own."""
    with TemporaryDirectory(prefix="tierloom-") as folder:
        limits = Sizes(vector_shard_rows=target, index_shard_rows=target)
        corpus.publish_rows(LocalStore(Path(folder)), rows, shard_rows, limits)
        command = [sys.executable, "-m", "benchmarks.compaction", "--here", folder]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return msgspec.json.decode(ran.stdout, type=Measured)


def show_measured(rows: int, measured: Measured) -> None:
    grown = (measured.peaks.anonymous - measured.peaks.anonymous_before) / _MEGABYTE
    merged, written = measured.merged / _MEGABYTE, measured.written / _MEGABYTE
    print(
        f"  {rows:>9,} rows   {merged:8,.1f} MB merged into {written:8,.1f} MB in {measured.seconds:6.1f} s"
        f"   ratio {written / merged:.3f} (target: at most 1.05)   memory {grown:6,.1f} MB",
        flush=True,
    )


def main() -> None:
    size = sizes(
        __doc__,
        {"targets": 3, "target": 131_072, "shard_rows": 4096},
        {"targets": 3, "target": 16_384, "shard_rows": 1024},
    )
    show_claim(
        f"compaction of shards of {size.shard_rows:,} rows x {corpus.DIMENSIONS} dimensions to {size.target:,} rows"
    )
    small, large = (
        compact_apart(rows, size.shard_rows, size.target) for rows in (size.target, size.targets * size.target)
    )
    show_measured(size.target, small)
    show_measured(size.targets * size.target, large)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        sys.stdout.buffer.write(msgspec.json.encode(compact_here(Path(sys.argv[2]))))
    else:
        main()
