"""From a local mirror to the first answer: verifying it once, against plain sha256; and opening it again.

Each opening is a process of its own, timed from when its libraries are imported.
"""

import hashlib
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import corpus
from benchmarks.measuring import in_turn, seconds, show, show_claim, sizes
from tierloom.mirroring.pulling import pull
from tierloom.stores.local import LocalStore

TARGET = 0.5


@dataclass(frozen=True, slots=True)
class Opened:
    """Seconds to the first answer, and to the second one."""

    first: float
    second: float


def opened(folder: str) -> Opened:
    """Open the mirror and ask twice."""
    query = np.ones(corpus.DIMENSIONS)
    # What is imported when it is first needed is no part of this.
    import tierloom.snapshot

    began = time.perf_counter()
    with tierloom.open(folder, trust_verified=True) as snapshot:
        snapshot.search(query, tier=corpus.TIERS[0], shortlist=200)
        first = time.perf_counter() - began
        return Opened(first, seconds(lambda: snapshot.search(query, tier=corpus.TIERS[0], shortlist=200)))


def hashed(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        if path.is_file() and ".verified" not in path.parts:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")


def main() -> None:
    size = sizes(__doc__, {"rows": 1_000_000, "runs": 5}, {"rows": 50_000, "runs": 3})
    apart = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with TemporaryDirectory(prefix="tierloom-") as folder, apart:
        store, mirror = LocalStore(Path(folder) / "store"), Path(folder) / "mirror"
        corpus.publish_rows(store, size.rows, 131_072)
        pull(store, mirror, "latest")
        held = sum(path.stat().st_size for path in mirror.rglob("*.*") if path.is_file())
        where = f"a mirror of {size.rows:,} x {corpus.DIMENSIONS}, {held / 1e9:.1f} GB"
        verifying = in_turn(
            partial(seconds, lambda: pull(store, mirror, "latest")), partial(seconds, lambda: hashed(mirror)), size.runs
        )
        show(f"verifying {where}", ("tierloom", "sha256"), verifying, held / 1e6, "MB", 0.9)
        once = apart.submit(opened, str(mirror)).result()
        again = [apart.submit(opened, str(mirror)).result() for _ in range(size.runs)]
        show_claim(f"opening {where}; medians of {size.runs}")
        print(f"  the first time {once.first:8.3f} s, verifying what it maps")
        print(f"  from then on   {median(one.first for one in again):8.3f} s    (target: below {TARGET:g})")
        print(f"  second answer  {median(one.second for one in again):8.4f} s", flush=True)


if __name__ == "__main__":
    main()
