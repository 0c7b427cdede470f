"""The demo: Python's own documentation, searched at every tier beside the exact answer.

python -m pipelines.demo [FOLDER]
"""

import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tierloom
from pipelines.commands.tables import size
from pipelines.python_documentation import write_documentation
from pipelines.summary import tier_bytes
from tierloom.search import Candidates

TIERS = "64,128,256"
TOP = 10
SHORTLIST = 200
QUESTIONS = (
    "How do I compress a file?",
    "run a command and capture what it prints",
    "parse command line arguments",
    "find the difference between two dates",
    "send an e-mail message",
    "count how often each element occurs",
    "wait until a thread has finished",
    "read a value from a configuration file",
)
_REPEATS = 15


def main() -> None:
    """Make the corpus, ingest it, and ask."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-store")
    folder.mkdir(parents=True, exist_ok=True)
    corpus, store = folder / "python-documentation.jsonl", folder / "collection"
    print(f"{write_documentation(corpus):,} documents of Python {sys.version.split()[0]} written to {corpus}\n")
    if not store.exists():
        _tierloom("init", str(store), "--model", "wordllama", "--tiers", TIERS)
    _tierloom("ingest", str(store), str(corpus))
    _tierloom("search", str(store), QUESTIONS[0], "--tier", "64", "--top", "3")
    with tierloom.open(store) as snapshot:
        _ask(snapshot)


def _tierloom(*arguments: str) -> None:
    print(f"$ tierloom {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "pipelines", *arguments], check=True)
    print(flush=True)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Of one way to search: the best rows for each question, and the median milliseconds of one."""

    best: list[Candidates]
    milliseconds: float


def _ask(snapshot: tierloom.Snapshot) -> None:
    queries = [snapshot.query_vector(question) for question in QUESTIONS]
    exact = _answers(queries, lambda query: snapshot.exact(query, TOP))
    _print_answers(snapshot, exact)
    manifest = snapshot.manifest
    full = sum(2 * snapshot.checkpoint.space.dimensions * shard.live_rows for shard in manifest.vector_shards)
    print(f"\n{'':22}{'memory':>10}{'per query':>12}   share of the exact top {TOP} found")
    print(f"{'exact, full vectors':22}{size(full):>10}{exact.milliseconds:>9.2f} ms   1.00")
    for tier in manifest.collection.tiers:
        memory = size(tier_bytes(manifest, tier.name)["bytes"])
        for rerank in (False, True):
            found = _tier_answers(snapshot, queries, tier.name, rerank)
            name = f"tier {tier.name}{f', rerank {SHORTLIST}' if rerank else ' alone'}"
            print(f"{name:22}{memory:>10}{found.milliseconds:>9.2f} ms   {_overlap(found, exact):.2f}")


def _tier_answers(snapshot: tierloom.Snapshot, queries: list[NDArray[np.float32]], tier: str, rerank: bool) -> _Answers:
    count = SHORTLIST if rerank else TOP
    return _answers(
        queries, lambda query: snapshot.candidates(query, tier=tier, shortlist=count, rerank=rerank).best(TOP)
    )


def _answers(queries: list[NDArray[np.float32]], ask: Callable[[NDArray[np.float32]], Candidates]) -> _Answers:
    best = [ask(query) for query in queries]
    times = []
    for _ in range(_REPEATS):
        for query in queries:
            began = time.perf_counter()
            ask(query)
            times.append(time.perf_counter() - began)
    return _Answers(best, 1000 * statistics.median(times))


def _overlap(found: _Answers, exact: _Answers) -> float:
    """The mean share of the exact rows that were found."""
    return statistics.mean(
        len(_addresses(mine) & _addresses(true)) / len(true) for mine, true in zip(found.best, exact.best, strict=True)
    )


def _addresses(candidates: Candidates) -> set[tuple[int, int]]:
    return set(zip(candidates.shards.tolist(), candidates.rows.tolist(), strict=True))


def _print_answers(snapshot: tierloom.Snapshot, exact: _Answers) -> None:
    """For each question the best document, exactly and at each tier alone."""
    tiers = snapshot.manifest.collection.tiers
    print(f"{'question':42}{'exact answer':30}" + "".join(f"tier {tier.name:25}" for tier in tiers))
    for question, true in zip(QUESTIONS, exact.best, strict=True):
        hits = [snapshot.search(question, tier=tier.name, rerank=False, top=1)[0] for tier in tiers]
        answers = [snapshot.hits(true.best(1))[0], *hits]
        print(f"{question:42}" + "".join(f"{_short(answer.document_id):30}" for answer in answers))


def _short(name: str) -> str:
    """The end of a dotted name: that is where it differs."""
    return name if len(name) <= 28 else f"..{name[-26:]}"


if __name__ == "__main__":
    main()
