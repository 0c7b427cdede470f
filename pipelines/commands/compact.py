"""tierloom compact: small and half-dead shards become few and whole ones."""

import time
from datetime import timedelta

import click
import msgspec

from index_builder.upkeep.compaction import Compacted, compact
from index_builder.upkeep.compaction_plan import Round, Rules
from pipelines.commands.tables import count, size, table
from pipelines.run_metrics import metrics_file_option
from pipelines.telling import give_result, say
from pipelines.turns import take_turn, wait_option
from tierloom.manifest import Manifest
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import read_head


@click.command("compact")
@click.argument("store")
@click.option(
    "--fan-out",
    default=Rules().fan_out,
    show_default=True,
    type=click.IntRange(2, 64),
    help="Merge when so many groups of shards are of about one size; 2 leaves the fewest.",
)
@click.option(
    "--dead-share",
    default=Rules().dead_share,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Rewrite a shard when more than this share of its rows is dead.",
)
@click.option("--rounds", type=click.IntRange(1), help="Stop after so many rounds; each publishes a version.")
@wait_option
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(store: str, fan_out: int, dead_share: float, rounds: int | None, wait: timedelta, as_json: bool) -> None:
    """Merge the small and half-dead shards of STORE, and rebuild the index shards over them, in every generation.

    No model is asked. It may run beside whoever writes, and be ended at any time: each round is published by
    itself. What it replaced stays for the versions that name it, until `tierloom gc`.
    """
    began = time.monotonic()
    opened = open_store(store)
    before = read_head(opened)
    probe_preconditions(opened)
    with take_turn(opened, "compact", wait) as turn:
        done = compact(opened, Rules(fan_out, dead_share), rounds=rounds, begins=_say, check=turn.check_now)
    values = _values(done, before, read_head(opened), time.monotonic() - began)
    give_result(values, _told(done, values), as_json)


def _say(begun: Round) -> None:
    """A round of large shards takes minutes."""
    shards = count(len(begun.vector_shards), "vector shard")
    said = f"compacting {shards} with {begun.live_rows:,} live rows"
    say(said, "round", vector_shards=len(begun.vector_shards), live_rows=begun.live_rows)


def _values(done: Compacted, before: Manifest, after: Manifest, elapsed: float) -> dict[str, object]:
    return {
        "version": done.rounds[-1].version if done.rounds else before.version,
        "rounds": msgspec.to_builtins(done.rounds),
        "overtaken": done.overtaken,
        "vector_shards": [_vector_shards(before), _vector_shards(after)],
        "index_shards": [_index_shards(before), _index_shards(after)],
        "elapsed_seconds": round(elapsed, 3),
    }


def _vector_shards(manifest: Manifest) -> int:
    return sum(len(generation.vector_shards) for generation in manifest.generations)


def _index_shards(manifest: Manifest) -> int:
    return sum(len(generation.index_shards) for generation in manifest.generations)


def _told(done: Compacted, values: dict[str, object]) -> str:
    lines = [table(_rows(done, values))] if done.rounds else []
    if done.overtaken:
        lines.append(f"a round was given up, and nothing is lost: {done.overtaken}; run it again for what is left")
    return "\n".join(lines) or f"nothing to compact in version {values['version']}"


def _rows(done: Compacted, values: dict[str, object]) -> list[tuple[str, str]]:
    merged, written = (sum(getattr(one, f"shards_{what}") for one in done.rounds) for what in ("merged", "written"))
    read, stored = (sum(getattr(one, f"bytes_{what}") for one in done.rounds) for what in ("merged", "written"))
    built = sum(one.index_shards for one in done.rounds)
    return [
        (
            "vector shards",
            f"{_change(values['vector_shards'])}; {merged:,} of {size(read)} merged into {written:,} of {size(stored)}",
        ),
        (
            "index shards",
            f"{_change(values['index_shards'])}; {built:,} built, {size(sum(one.index_bytes for one in done.rounds))}",
        ),
        ("time", f"{values['elapsed_seconds']:.1f} s in {count(len(done.rounds), 'round')}"),
        ("version", f"{values['version']} published"),
    ]


def _change(pair: object) -> str:
    before, after = msgspec.convert(pair, tuple[int, int])
    return f"{before:,} before, {after:,} now"
