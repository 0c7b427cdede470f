"""tierloom gc: retire old versions, remove what no version names."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import click

from index_builder.upkeep.collect import DEFAULT_GRACE, Collected, collect
from pipelines.commands.options import Duration, duration
from pipelines.commands.tables import count, size, table
from pipelines.run_metrics import metrics_file_option
from pipelines.telling import give_result
from pipelines.turns import take_turn, wait_option
from tierloom.stores.opening import open_store
from tierloom.stores.store import Listed
from tierloom.versions import spans


@click.command("gc")
@click.argument("store")
@click.option(
    "--grace",
    type=Duration(),
    default=duration(DEFAULT_GRACE.total_seconds()),
    show_default=True,
    help="Leave objects that are younger: a running job may still mean to publish them.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing; list what would go.")
@wait_option
@metrics_file_option
@click.option("--json", "as_json", is_flag=True, help="Print what went as JSON.")
def command(store: str, grace: timedelta, dry_run: bool, wait: timedelta, as_json: bool) -> None:
    """Retire the versions of STORE that its retention does not keep, and remove what no version names.

    Kept are the newest versions and the young ones (see `tierloom retention`), those that a channel names, and
    those that a reader or a job holds a lease on. It may run beside everything else.
    """
    opened = open_store(store)
    if dry_run:
        collected = collect(opened, grace, dry_run=True)
    else:
        with take_turn(opened, "gc", wait) as turn:
            collected = collect(opened, grace, check=turn.check)
    going = [f"would remove  {listed.name}  {size(listed.bytes)}\n" for listed in collected.removed if dry_run]
    give_result(_values(collected, dry_run), "".join(going) + table(_rows(collected, grace, dry_run)), as_json)


def _rows(collected: Collected, grace: timedelta, dry_run: bool) -> list[tuple[str, str]]:
    garbage, verb = collected.garbage, "to be removed" if dry_run else "removed"
    kinds = _by_kind(collected.removed)
    rows = [
        ("versions", f"{len(garbage.retained):,} kept ({spans(garbage.retained)}), {len(garbage.retired):,} retired"),
        *((kind, f"{number:,} {verb}, {size(held)}") for kind, (number, held) in kinds.items() if kind != "manifests"),
    ]
    if garbage.scratch:
        held = sum(entry.bytes for entry in garbage.scratch)
        rows.append(("temporary files", f"{len(garbage.scratch):,} {verb}, {size(held)}"))
    if garbage.young:
        held = sum(listed.bytes for listed in garbage.young)
        age = duration(grace.total_seconds())
        rows.append(("left", f"{count(len(garbage.young), 'object')}, {size(held)}: unnamed, but used within {age}"))
    if collected.spared:
        rows.append(("spared", f"{count(len(collected.spared), 'object')}: in use again"))
    return [*rows, ("would be free" if dry_run else "freed", size(collected.bytes))]


def _by_kind(listed: Iterable[Listed]) -> dict[str, tuple[int, int]]:
    """How many objects of each kind, and their bytes."""
    numbers, held = Counter[str](), Counter[str]()
    for one in listed:
        kind = one.name.partition("/")[0]
        numbers[kind] += 1
        held[kind] += one.bytes
    return {kind: (numbers[kind], held[kind]) for kind in sorted(numbers)}


def _values(collected: Collected, dry_run: bool) -> dict[str, object]:
    garbage = collected.garbage
    return {
        "dry_run": dry_run,
        "retained": garbage.retained,
        "retired": len(garbage.retired),
        "removed": {kind: {"objects": n, "bytes": held} for kind, (n, held) in _by_kind(collected.removed).items()},
        "names": [listed.name for listed in collected.removed],
        "temporary_files": len(garbage.scratch),
        "left": len(garbage.young),
        "spared": len(collected.spared),
        "bytes": collected.bytes,
    }
