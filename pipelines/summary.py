"""The end of a run, for people and for machines."""

from collections.abc import Sequence
from typing import Any

import msgspec

from pipelines.commands.tables import size, table
from tierloom.gate import Gate
from tierloom.manifest import DocumentCounts, Manifest, RunRecord
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

_NOTHING = RunRecord(run="", command="")


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
        "tiers": {
            tier.name: tier_bytes(manifest, tier.name) | gate_members(manifest.gate, tier.name)
            for tier in manifest.collection.tiers
        },
        "gate_seconds": report.gate_seconds,
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


def total_record(records: Sequence[RunRecord], command: str) -> RunRecord:
    """What several runs did together."""
    numbers = [field for field in RunRecord.__struct_fields__ if isinstance(getattr(_NOTHING, field), int)]
    sums = {field: sum(getattr(record, field) for record in records) for field in numbers}
    documents = {
        field: sum(getattr(record.documents, field) for record in records) for field in DocumentCounts.__struct_fields__
    }
    run = records[-1].run if records else ""
    return RunRecord(run=run, command=command, documents=DocumentCounts(**documents), **sums)


def summary_table(values: dict[str, Any], store: str) -> str:
    """The closing table."""
    rows = [
        ("documents in", identity(msgspec.convert(values["documents"], DocumentCounts))),
        ("chunks", chunk_line(values)),
        ("tokens", token_line(values["tokens"], values["canary_tokens"])),
        *([("left", f"{values['left_documents']:,} documents, at the cap")] if values["left_documents"] else []),
        ("dead letters", f"{values['dead_letters']:,}{_cure(values['dead_letters'], store)}"),
        ("vector shards", f"{values['vector_shards']:,}, {size(values['vector_shard_bytes'])}"),
        *((f"tier {name}", _tier_line(tier)) for name, tier in values["tiers"].items()),
        *gate_rows(values),
        ("time", "; ".join(filter(None, [f"{values['elapsed_seconds']:.1f} s", _step_line(values["seconds"])]))),
        ("version", _version_line(values)),
    ]
    return table(rows)


def token_line(tokens: int, canary_tokens: int) -> str:
    """What was billed: for what was embedded, and for the canaries that were asked first."""
    return f"{tokens:,} paid for" + (f", and {canary_tokens:,} for canaries" if canary_tokens else "")


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


def gate_members(gate: Gate | None, tier: str) -> dict[str, Any]:
    """What a gate found of a tier, as JSON values; nothing if it was not measured."""
    quality = gate.of_tier(tier) if gate else None
    if quality is None:
        return {}
    safe = quality.at(quality.safe_shortlist)
    return {
        "safe_shortlist": quality.safe_shortlist,
        "recall": msgspec.to_builtins(safe.recall) if safe else None,
        "recall_alone": msgspec.to_builtins(quality.alone.recall),
    }


def gate_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """What the measurement took, if there was one."""
    if not values["gate_seconds"]:
        return []
    share = values["gate_seconds"] / values["elapsed_seconds"]
    return [("gate", f"{values['gate_seconds']:.1f} s, {share:.0%} of the time")]


def recall_line(tier: dict[str, Any]) -> str:
    """How good a tier was found to be, from `gate_members`; empty if it was not measured."""
    if "recall_alone" not in tier:
        return ""
    alone = f"recall {tier['recall_alone']['mean']:.3f} alone"
    if (recall := tier["recall"]) is None:
        return f"{alone}, below the floor however much is reranked"
    between = f"{recall['low']:.3f} to {recall['high']:.3f}"
    return f"{alone}, {recall['mean']:.3f} ({between}) reranking {tier['safe_shortlist']:,}"


def _tier_line(tier: dict[str, Any]) -> str:
    held = f"{size(tier['bytes'])} in {tier['index_shards']} index shard{'' if tier['index_shards'] == 1 else 's'}"
    return "; ".join(filter(None, [held, recall_line(tier)]))


def _step_line(seconds: dict[str, float]) -> str:
    return ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items() if spent >= 0.05)


def _version_line(values: dict[str, Any]) -> str:
    if values["published"]:
        return f"{values['version']} published"
    if values["left_documents"]:
        return f"{values['version']}, as before: nothing of it could be paid for"
    return f"{values['version']}, as before: nothing new to publish"


def _ordered(seconds: dict[str, float]) -> list[str]:
    return sorted(seconds, key=lambda step: (_STEPS.index(step) if step in _STEPS else len(_STEPS), step))
