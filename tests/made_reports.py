"""Collections that a report is written about: small ones in every state that there is."""

from pathlib import Path
from typing import Final

import msgspec

from index_builder.comparing.comparison import ComparedGeneration, ComparedTier, Comparison
from tests.made_versions import CHECKPOINT, Step, estimate, gate, point, store_other, store_versions
from tierloom.collection import Tier
from tierloom.gate import Advantage, Gate, Quality
from tierloom.manifest import KEY_UNITS, RunRecord
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


NEW: Final = msgspec.structs.replace(
    CHECKPOINT,
    space=msgspec.structs.replace(CHECKPOINT.space, model="embedding-2", dimensions=1024, trained_prefixes=(64, 256)),
)


def building(root: Path) -> LocalStore:
    """A second generation that is half-built."""
    store = LocalStore(root)
    head = store_versions(store, steps(3))
    store_other(store, head, Step([[70_000]], run=run_of(4)), NEW, reached=KEY_UNITS // 2)
    return store


def flipped(root: Path) -> LocalStore:
    """Two complete generations, with other tiers: `latest` serves the first one, `prod` was flipped to the second."""
    store = LocalStore(root)
    head = store_versions(store, steps(3))
    tiers = (Tier("64", 64), Tier("256", 256))
    recalls = {"64": (0.6, [0.8, 0.97, 0.98]), "256": (0.9, [0.97, 0.98, 0.99])}
    store_other(store, head, Step([[131_072] * 2], gate(recalls), run_of(4)), NEW, tiers)
    point(store, "prod", 4, checkpoint=CHECKPOINT.fingerprint)
    point(store, "prod", 4, checkpoint=NEW.fingerprint, previous_checkpoint=CHECKPOINT.fingerprint, message="the flip")
    return store


def compared(ndcg: bool = True) -> Comparison:
    """What a comparison of `flipped` may find."""
    quality = Quality(estimate(0.97), estimate(0.6) if ndcg else None, estimate(0.8) if ndcg else None)
    sides = [
        ComparedGeneration(
            checkpoint=checkpoint.fingerprint,
            model=checkpoint.space.model,
            revision=checkpoint.space.revision,
            dimensions=checkpoint.space.dimensions,
            reached=KEY_UNITS,
            live_documents=1000,
            live_chunks=2000,
            vector_bytes=3_000_000,
            stored_bytes=5_000_000,
            exact=quality if ndcg else None,
            exact_seconds=0.0123,
            embed_seconds=0.0045 if ndcg else None,
            tiers=tuple(ComparedTier(name, 50, quality, 700_000, 0.00067) for name in tiers),
        )
        for checkpoint, tiers in ((CHECKPOINT, ("64", "128")), (NEW, ("64", "256")))
    ]
    return Comparison(
        version=4,
        source="given" if ndcg else "held-out",
        queries=321,
        seed=0,
        first=sides[0],
        second=sides[1],
        documents=estimate(0.71),
        chunks=None if ndcg else estimate(0.62),
        ndcg=Advantage(0.021, 0.011, 0.031) if ndcg else None,
        hit_rate=Advantage(-0.004, -0.012, 0.004) if ndcg else None,
    )


STATES: Final = {
    "empty": empty, "unmeasured": unmeasured, "below": below, "single": single, "grown": grown, "sharded": sharded,
    "building": building, "flipped": flipped,
}  # fmt: skip
