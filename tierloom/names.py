"""What every object of a store is called: the one place that decides.

All names are relative, made of `[A-Za-z0-9._-]` segments joined by `/`.
"""

import re

LATEST = "latest"

_SEGMENT = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}")
_MANIFEST = re.compile(r"manifests/([0-9]{12})\.json")


def manifest(version: int) -> str:
    return f"manifests/{version:012d}.json"


def manifest_version(name: str) -> int | None:
    """The version in a manifest's name; None for any other name."""
    match = _MANIFEST.fullmatch(name)
    return int(match[1]) if match else None


def channel(name: str) -> str:
    return f"channels/{name}.json"


def checkpoint(fingerprint: str) -> str:
    return f"checkpoints/{fingerprint}.json"


def vector_shard(digest: str) -> str:
    return f"shards/{digest}.parquet"


def deletes(digest: str) -> str:
    return f"deletes/{digest}.roaring"


def index_shard(tier: str, digest: str) -> str:
    return f"indexes/{tier}/{digest}.usearch"


def aliases(tier: str, digest: str) -> str:
    return f"indexes/{tier}/{digest}.aliases"


def dead_letters(run: str, part: str) -> str:
    return f"dead-letters/{run}/{part}.jsonl"


def run(run_id: str) -> str:
    return f"runs/{run_id}.json"


def tombstones(digest: str) -> str:
    return f"tombstones/{digest}.parquet"


def seen_files(digest: str) -> str:
    return f"files/{digest}.parquet"


def lease(lease_id: str) -> str:
    return f"leases/{lease_id}.json"


def erasure(run_id: str) -> str:
    return f"erasures/{run_id}.json"


def is_safe(name: str) -> bool:
    """Whether `name` stays inside its store: no absolute, climbing, hidden, empty or odd segment."""
    return all(_SEGMENT.fullmatch(segment) for segment in name.split("/"))
