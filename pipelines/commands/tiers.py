"""tierloom tiers: serve a live collection at more or fewer dimensions."""

import time
from collections.abc import Iterator, Sequence

import click

from index_builder.upkeep.tiers import AddedTiers, add_tiers, drop_tiers, refuse_unfit_tiers
from pipelines.commands.generation_option import checkpoint_option, generation_named
from pipelines.commands.options import graph_options, tier_names
from pipelines.commands.tables import count, size, table
from pipelines.telling import say
from tierloom.collection import Tier, plan_tiers
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import read_checkpoint, read_head

_names = click.argument("names", metavar="TIERS...", nargs=-1, required=True, callback=tier_names)


@click.group("tiers")
def command() -> None:
    """Add serving tiers to a live collection, or drop them. No model is asked."""


@command.command("add")
@click.argument("store")
@_names
@checkpoint_option
@click.option("--untrained-prefixes", is_flag=True, help="Accept tiers that the model was not trained for.")
@graph_options
def add(
    store: str,
    names: tuple[str, ...],
    generation: str | None,
    untrained_prefixes: bool,
    connectivity: int,
    expansion_add: int,
    expansion_search: int,
) -> None:
    """Build TIERS over all that is live in STORE, from the prefixes that it stores.

    A tier is named by its dimensions, at most as many as the largest that the collection was made with, such as 64; a
    binary one, of one bit for each, 64-binary. Whoever writes may go on. Each generation has tiers of its own.
    """
    began = time.monotonic()
    opened = open_store(store)
    head = generation_named(generation, read_head(opened), opened)
    probe_preconditions(opened)
    checkpoint = read_checkpoint(opened, head.collection.checkpoint)
    untrained = untrained_prefixes or head.collection.untrained_prefixes
    tiers = plan_tiers(checkpoint, names, untrained, connectivity, expansion_add, expansion_search)
    refuse_unfit_tiers(head.collection, tiers)
    rows = sum(shard.rows for shard in head.vector_shards)
    say(f"building {count(len(tiers), 'tier')} over {rows:,} rows", "building", tiers=len(tiers), rows=rows)
    added = add_tiers(opened, tiers, untrained_prefixes, checkpoint=head.checkpoint)
    click.echo(table([*_held(added, tiers), ("time", f"{time.monotonic() - began:.1f} s"), _version(added.version)]))


@command.command("drop")
@click.argument("store")
@_names
@checkpoint_option
def drop(store: str, names: tuple[str, ...], generation: str | None) -> None:
    """Serve STORE without these of its TIERS.

    Versions that have them can still be read, until `tierloom gc`. Their prefixes stay stored: the tiers can be
    added again.
    """
    opened = open_store(store)
    checkpoint = generation_named(generation, read_head(opened), opened).checkpoint
    probe_preconditions(opened)
    version = drop_tiers(opened, names, checkpoint)
    click.echo(table([_version(version)]))


def _held(added: AddedTiers, tiers: Sequence[Tier]) -> Iterator[tuple[str, str]]:
    for tier in tiers:
        shards = [shard for shard in added.index_shards if shard.tier == tier.name]
        held = size(sum(shard.bytes + (shard.aliases.bytes if shard.aliases else 0) for shard in shards))
        codes = sum(shard.codes for shard in shards)
        yield f"tier {tier.name}", f"{codes:,} codes, {held} in {count(len(shards), 'index shard')}"


def _version(version: int) -> tuple[str, str]:
    return "version", f"{version} published"
