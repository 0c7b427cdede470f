"""How a plan looks: for people, and for machines."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from pipelines.commands.tables import count, size, table
from pipelines.planning import Planned, cost_of
from tierloom.spending.estimating import BATCH_HOURS, Estimate
from transforms.job import Job


def as_json(planned: Planned, jobs: Sequence[Job]) -> dict[str, Any]:
    """Everything that the table shows: of the first generation, and of the `others` beside it."""
    events = planned.events
    first, *others = ({"model": job.checkpoint.space.model, **_of_generation(planned, job)} for job in jobs)
    return {
        "version": jobs[0].base,
        "documents": {
            "read": events["read"],
            "new": events["new_documents"],
            "changed": events["changed_documents"],
            "unchanged": events["unchanged"],
            "superseded": events["superseded"],
            "deleted": events["deletions"] + events["known_deleted"],
            "unreadable": events["dead_letters"] + events["known_dead"],
        },
        **first,
        "others": others,
    }


def _of_generation(planned: Planned, job: Job) -> dict[str, Any]:
    counted, checkpoint = planned.counted(job), job.checkpoint
    cost = cost_of(counted, job)
    return {
        "chunks": {name: getattr(counted, name) for name in ("chunks", "embedded", "copied", "found")},
        "tokens": counted.tokens,
        "canary_tokens": cost.canary_tokens,
        "tokenizer": checkpoint.tokenizer,
        "exact": is_exact(job),
        "price": msgspec.to_builtins(checkpoint.price),
        "requests_per_minute": job.spending.requests_per_minute,
        "tokens_per_minute": job.spending.tokens_per_minute,
        "requests": asdict(cost.requests),
        "batches": asdict(cost.batches) if cost.batches else None,
        "vector_shard_bytes": cost.vector_shard_bytes,
        "tier_bytes": cost.tier_bytes,
        "store_bytes": cost.vector_shard_bytes + sum(cost.tier_bytes.values()),
    }


def is_exact(job: Job) -> bool:
    """Whether the tokens are those that the model counts."""
    return job.checkpoint.tokenizer != "utf8-bytes"


def as_table(values: dict[str, Any]) -> str:
    """For people, from what `as_json` made."""
    lines = [table([("documents", _documents(values["documents"]))])]
    for generation in (values, *values["others"]):
        lines += [generation["model"], table(_rows(generation))]
    return "\n".join([*lines, "nothing was written, and no model was called"])


def _rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("chunks", _chunks(values["chunks"])),
        ("tokens", _tokens(values)),
        *([("canaries", f"up to {count(values['canary_tokens'], 'token')} more")] if values["canary_tokens"] else []),
        ("price", _price(values["price"], values["requests"]["usd"])),
        ("requests", _requests(values)),
        *([("Batch API", _batches(Estimate(**values["batches"])))] if values["batches"] else []),
        ("vector shards", f"about {size(values['vector_shard_bytes'])} more"),
        *((f"tier {name}", f"about {size(held)} more") for name, held in values["tier_bytes"].items()),
        ("store", f"about {size(values['store_bytes'])} more"),
    ]


def usd(amount: float | None) -> str:
    """Dollars: cents, or as many digits as a small sum has to say."""
    if amount is None:
        return "price not known"
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.2g}" if amount >= 1e-4 else f"${amount:.1e}"


def spelled(seconds: float) -> str:
    """Seconds, as people say them."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def _documents(read: dict[str, int]) -> str:
    parts = [f"{read['new']:,} new", f"{read['changed']:,} changed", f"{read['unchanged']:,} unchanged"]
    parts += [f"{read[name]:,} {name}" for name in ("superseded", "deleted", "unreadable") if read[name]]
    return f"{read['read']:,} read: {', '.join(parts)}"


def _chunks(chunks: dict[str, int]) -> str:
    line = f"{chunks['chunks']:,}: {chunks['embedded']:,} to embed, {chunks['copied']:,} reused from live rows"
    return line + (f", {chunks['found']:,} from an interrupted run" if chunks["found"] else "")


def _tokens(values: dict[str, Any]) -> str:
    if values["exact"]:
        return f"{values['tokens']:,}, counted by {values['tokenizer']}"
    return f"at most {values['tokens']:,}: utf8-bytes only bounds them; declare the model's tokenizer for the number"


def _price(price: dict[str, Any] | None, cost: float | None) -> str:
    if price is None:
        return "free" if cost == 0 else "not known: the checkpoint does not declare it"
    batch = price["batch_usd_per_million_tokens"]
    by_batch = f", ${batch:g} by the Batch API" if batch is not None else ""
    return f"${price['usd_per_million_tokens']:g} a million tokens{by_batch}, as of {price['as_of']}: {price['page']}"


def _requests(values: dict[str, Any]) -> str:
    estimate = Estimate(**values["requests"])
    line = f"{estimate.count:,}, {usd(estimate.usd)}"
    if estimate.seconds is None:
        return line
    limits = {kind: values[f"{kind}_per_minute"] for kind in ("requests", "tokens")}
    known = " and ".join(count(limit, kind[:-1]) for kind, limit in limits.items() if limit)
    return f"{line}, at least {spelled(estimate.seconds)} at {known} a minute"


def _batches(estimate: Estimate) -> str:
    batches = f"{estimate.count:,} batch{'' if estimate.count == 1 else 'es'}"
    return f"{batches}, {usd(estimate.usd)}, within {BATCH_HOURS} hours"
