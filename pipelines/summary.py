"""The end of a run, for people and for machines."""

from typing import Any

import msgspec

from pipelines.commands.tables import size, table
from tierloom.manifest import DocumentCounts, Manifest
from tierloom.run_report import RunReport

# In the order of the flow; what the workers report besides comes after.
_STEPS = (
    "read",
    "compare",
    "chunk",
    "reuse",
    "embed",
    "quantize",
    "write vector shards",
    "merge",
    "build index shards",
    "verify",
    "publish",
)


def summary(report: RunReport, manifest: Manifest, seconds: dict[str, float], elapsed: float) -> dict[str, Any]:
    """Everything that the closing table shows, as JSON values. `seconds` are of all workers together."""
    return {
        "version": report.version,
        "published": report.published,
        **msgspec.to_builtins(report.record),
        "live_documents": manifest.documents.live,
        "live_chunks": manifest.live_chunks,
        "vector_shards": len(manifest.vector_shards),
        "vector_shard_bytes": sum(shard.bytes for shard in manifest.vector_shards),
        "tiers": {tier.name: tier_bytes(manifest, tier.name) for tier in manifest.collection.tiers},
        "seconds": {step: round(seconds[step], 3) for step in _ordered(seconds)},
        "elapsed_seconds": round(elapsed, 3),
    }


def tier_bytes(manifest: Manifest, tier: str) -> dict[str, int]:
    """What a tier takes in memory when it is mapped: index shards and alias files."""
    shards = manifest.index_shards_of(tier)
    return {
        "index_shards": len(shards),
        "bytes": sum(shard.bytes + (shard.aliases.bytes if shard.aliases else 0) for shard in shards),
    }


def summary_table(values: dict[str, Any], store: str) -> str:
    """The closing table."""
    rows = [
        ("documents in", identity(msgspec.convert(values["documents"], DocumentCounts))),
        ("chunks", chunk_line(values)),
        ("tokens", f"{values['tokens']:,} paid for"),
        ("dead letters", f"{values['dead_letters']:,}{_cure(values['dead_letters'], store)}"),
        ("vector shards", f"{values['vector_shards']:,}, {size(values['vector_shard_bytes'])}"),
        *((f"tier {name}", _tier_line(tier)) for name, tier in values["tiers"].items()),
        ("time", "; ".join(filter(None, [f"{values['elapsed_seconds']:.1f} s", _step_line(values["seconds"])]))),
        ("version", _version_line(values)),
    ]
    return table(rows)


def identity(documents: DocumentCounts) -> str:
    """`documents in = live + superseded + deleted + dead-lettered`, with the numbers."""
    return (
        f"{documents.documents_in:,} = {documents.live:,} live + {documents.superseded:,} superseded"
        f" + {documents.deleted:,} deleted + {documents.dead_lettered:,} dead-lettered"
    )


def chunk_line(values: dict[str, Any]) -> str:
    line = f"{values['embedded_chunks']:,} embedded"
    if values["found_chunks"]:
        line += f", {values['found_chunks']:,} reused from shards that an interrupted run had finished"
    if values["copied_chunks"]:
        line += f", {values['copied_chunks']:,} reused from live rows"
    return f"{line}; {values['live_chunks']:,} live"


def _cure(letters: int, store: str) -> str:
    return f"; see them with: tierloom dead-letters {store}" if letters else ""


def _tier_line(tier: dict[str, int]) -> str:
    return f"{size(tier['bytes'])} in {tier['index_shards']} index shard{'' if tier['index_shards'] == 1 else 's'}"


def _step_line(seconds: dict[str, float]) -> str:
    return ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items() if spent >= 0.05)


def _version_line(values: dict[str, Any]) -> str:
    if values["published"]:
        return f"{values['version']} published"
    return f"{values['version']}, as before: nothing new to publish"


def _ordered(seconds: dict[str, float]) -> list[str]:
    return sorted(seconds, key=lambda step: (_STEPS.index(step) if step in _STEPS else len(_STEPS), step))
