"""Collections that a report is written about: small ones in every state that there is."""

from pathlib import Path
from typing import Final

from tests.made_versions import Step, gate, point, store_versions
from tierloom.gate import Gate
from tierloom.manifest import RunRecord
from tierloom.serving import Narrowing, Profile, Serving
from tierloom.stores.local import LocalStore

SERVING: Final = Serving(
    profiles={
        "fast": Profile("64", rerank=False, top=5),
        "analyst": Profile("128", shortlist=200),
        "deep": Profile("64", funnel=(Narrowing(128, 100),)),
    },
    routes={"autocomplete": "fast", "research": "deep"},
    default="analyst",
)


def measured(version: int = 0, relevance: bool = False, floor: float = 0.95) -> Gate:
    """Three tiers that reach a floor of .95, each with other numbers in each version."""
    shift = version % 10 / 1000
    return gate(
        {
            "64": (0.68 + shift, [0.8 + shift, 0.93, 0.955, 0.975, 0.985, 0.99]),
            "128": (0.79 + shift, [0.92, 0.965 + shift, 0.98, 0.985, 0.99, 0.995]),
            "256-binary": (0.52 + shift, [0.71, 0.86, 0.93, 0.964 + shift, 0.98, 0.99]),
        },
        floor=floor,
        seconds=1 + shift,
        relevance=relevance,
    )


def run_of(version: int) -> RunRecord:
    return RunRecord(
        run=f"run-{version}",
        command="stream",
        added=100 + version,
        changed=3 * version,
        removed=2 * version,
        embedded_chunks=500 + version,
        copied_chunks=7 * version,
        found_chunks=version,
        tokens=100_000 + version,
        dead_letters=version % 3,
    )


def steps(count: int, relevance: bool = False) -> list[Step]:
    """So many versions that grow."""
    return [
        Step([[131_072] * (1 + version % 3), [900 + version, 40]], measured(version, relevance), run_of(version))
        for version in range(1, count + 1)
    ]


def empty(root: Path) -> LocalStore:
    store = LocalStore(root)
    store_versions(store, [])
    return store


def unmeasured(root: Path) -> LocalStore:
    store = LocalStore(root)
    store_versions(store, [Step([[5000], [20]], run=run_of(1))])
    return store


def below(root: Path) -> LocalStore:
    """A version in which no shortlist of one tier is safe, and a channel that serves it."""
    store = LocalStore(root)
    recalls = {"64": (0.5, [0.6, 0.7]), "128": (0.8, [0.97, 0.99])}
    store_versions(store, [Step([[1000]], gate(recalls), run_of(1))])
    point(store, "prod", 1)
    return store


def single(root: Path) -> LocalStore:
    store = LocalStore(root)
    store_versions(store, steps(1))
    return store


def grown(root: Path) -> LocalStore:
    """Twelve versions whose relevant documents are known, dead letters, profiles, and two channels that were moved."""
    store = LocalStore(root)
    most = steps(12, relevance=True)
    store_versions(store, [*most[:-1], Step(most[-1].groups, most[-1].gate, most[-1].run, letters=3)], serving=SERVING)
    point(store, "prod", 8, message="first to be served")
    point(store, "prod", 11, message="the new corpus", forced=True, refused_because="tier 64 misses the floor")
    point(store, "prod", 9, action="rollback", message="answers were worse than before")
    point(store, "canary", 12)
    return store


def sharded(root: Path) -> LocalStore:
    """Many shards of many sizes."""
    store = LocalStore(root)
    groups = [[131_072] * 40, [8192] * 12, [1024, 800, 600] * 6, [1], *([500 + at] for at in range(9))]
    store_versions(store, [Step(groups, measured(), run_of(1))])
    return store


STATES: Final = {
    "empty": empty, "unmeasured": unmeasured, "below": below, "single": single, "grown": grown, "sharded": sharded,
}  # fmt: skip
