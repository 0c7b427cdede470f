"""What every object of a store is called: the one place that decides.

All names are relative, made of `[A-Za-z0-9._-]` segments joined by `/`.
"""

import re

LATEST = "latest"
# What makes a folder a mirror, and says of what.
MIRROR = "mirror.json"

# What the names of each kind begin with.
MANIFESTS = "manifests/"
CHANNELS = "channels/"
CHECKPOINTS = "checkpoints/"
VECTOR_SHARDS = "shards/"
DELETES = "deletes/"
INDEXES = "indexes/"
DEAD_LETTERS = "dead-letters/"
RUNS = "runs/"
TOMBSTONES = "tombstones/"
SEEN_FILES = "files/"
LEASES = "leases/"
TURNS = "turns/"
ERASURES = "erasures/"
PROBES = "probes/"
CUTS = "cuts/"
GATES = "gates/"
DRAFTS = "drafts/"
BATCHES = "batches/"

_SEGMENT = r"(?!\.)[A-Za-z0-9._-]{1,200}"
_SAFE = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")
_MANIFEST = re.compile(r"manifests/([0-9]{12})\.json")


def manifest(version: int) -> str:
    return f"{MANIFESTS}{version:012d}.json"


def manifest_version(name: str) -> int | None:
    """The version in a manifest's name; None for any other name."""
    match = _MANIFEST.fullmatch(name)
    return int(match[1]) if match else None


def channel(name: str) -> str:
    return f"{CHANNELS}{name}.json"


def checkpoint(fingerprint: str) -> str:
    return f"{CHECKPOINTS}{fingerprint}.json"


def canaries(fingerprint: str) -> str:
    return f"{CHECKPOINTS}{fingerprint}.canaries.json"


def vector_shard(digest: str) -> str:
    return f"{VECTOR_SHARDS}{digest}.parquet"


def deletes(digest: str) -> str:
    return f"{DELETES}{digest}.roaring"


def index_shard(tier: str, digest: str) -> str:
    return f"{INDEXES}{tier}/{digest}.usearch"


def aliases(tier: str, digest: str) -> str:
    return f"{INDEXES}{tier}/{digest}.aliases"


def dead_letters(run: str, part: str) -> str:
    return f"{DEAD_LETTERS}{run}/{part}.jsonl"


def run(run_id: str) -> str:
    return f"{RUNS}{run_id}.json"


def tombstones(digest: str) -> str:
    return f"{TOMBSTONES}{digest}.parquet"


def seen_files(digest: str) -> str:
    return f"{SEEN_FILES}{digest}.parquet"


def lease(lease_id: str) -> str:
    return f"{LEASES}{lease_id}.json"


def turn(deed: str) -> str:
    return f"{TURNS}{deed}.json"


def erasure(run_id: str) -> str:
    return f"{ERASURES}{run_id}.json"


def probe(token: str) -> str:
    return f"{PROBES}{token}"


def cut(digest: str) -> str:
    return f"{CUTS}{digest}.json"


def gate(digest: str) -> str:
    return f"{GATES}{digest}.npz"


def draft(digest: str) -> str:
    return f"{DRAFTS}{digest}.json"


def batch(digest: str) -> str:
    return f"{BATCHES}{digest}.json"


def is_safe(name: str) -> bool:
    """Whether `name` stays inside its store: no absolute, climbing, hidden, empty or odd segment."""
    return _SAFE.fullmatch(name) is not None
