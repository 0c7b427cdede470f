"""Every claim, one after the other, at sizes for a first look. `python -m benchmarks.<name>` runs one in full."""

import subprocess
import sys

NAMES = (
    "start_up",
    "shard_write",
    "shard_fetch",
    "index_build",
    "rerank",
    "against_exact",
    "search_by_hand",
    "resident_bytes",
    "ingest_free",
    "ingest_slow",
    "changed_share",
    "arrival",
    "publish_flat",
    "gate",
    "new_tier",
    "compaction",
    "repaid",
    "memory",
    "server",
)


def main() -> None:
    for name in NAMES:
        print(f"\n{name}:", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", "--quick"], check=True)


if __name__ == "__main__":
    main()
