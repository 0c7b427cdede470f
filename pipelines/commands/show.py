"""tierloom show: a manifest for people."""

from collections.abc import Sequence

import click
import msgspec

from pipelines.commands.tables import size, table
from pipelines.summary import identity, tier_bytes
from tierloom import names
from tierloom.channel import read_channels
from tierloom.checkpoint import Checkpoint
from tierloom.manifest import LedgerPart, Manifest
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_checkpoint, read_manifest


@click.command("show")
@click.argument("store")
@click.argument("version", required=False, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself.")
def command(store: str, version: int | None, as_json: bool) -> None:
    """Show what is live in a VERSION of STORE (default: the newest), and where it came from."""
    opened = open_store(store)
    manifest = read_manifest(opened, head_version(opened) if version is None else version)
    if as_json:
        click.echo(msgspec.json.encode(manifest))
    else:
        checkpoint = read_checkpoint(opened, manifest.collection.checkpoint)
        click.echo(described(manifest, checkpoint, opened.url, _pointing(opened, manifest.version)))


def _pointing(store: Store, version: int) -> list[str]:
    """The channels that point to a version."""
    latest = [names.LATEST] if head_version(store) == version else []
    moved = (channel for channel in read_channels(store) if channel.name != names.LATEST)
    return [*latest, *(channel.name for channel in moved if channel.version == version)]


def described(manifest: Manifest, checkpoint: Checkpoint, url: str, channels: Sequence[str]) -> str:
    """A manifest as text; `channels` are those that point to it."""
    collection, space, run = manifest.collection, checkpoint.space, manifest.run
    untrained = "; untrained prefixes accepted" if collection.untrained_prefixes else ""
    rows = [
        ("created", f"{manifest.created} by {manifest.writer}, {run.command} {run.run[:12]}"),
        *([("channels", ", ".join(channels))] if channels else []),
        ("checkpoint", f"{collection.checkpoint}: {space.model} ({space.revision}), {space.dimensions} dimensions"),
        ("chunking", f"{collection.chunking.max_tokens} tokens, overlap {collection.chunking.overlap_tokens}"),
        ("documents in", identity(manifest.documents)),
        ("live chunks", f"{manifest.live_chunks:,} of {sum(shard.rows for shard in manifest.vector_shards):,} rows"),
        ("dead letters", f"{sum(part.letters for part in manifest.dead_letters):,} open"),
        ("prefixes", f"{collection.prefix_dimensions} int8 components stored{untrained}"),
        ("remembered", f"{_entries(manifest.tombstones):,} deletions, {_entries(manifest.files):,} files of sources"),
        *(("stream", f"{cursor.source}, moved {cursor.moved} by {cursor.holder}") for cursor in manifest.cursors),
    ]
    return "\n".join(
        [f"{url} version {manifest.version}", table(rows), *_shard_lines(manifest), *_tier_lines(manifest)]
    )


def _entries(parts: Sequence[LedgerPart]) -> int:
    """About how many: an entry that was noted again counts again until the parts are merged."""
    return sum(part.entries for part in parts)


def _shard_lines(manifest: Manifest) -> list[str]:
    lines = [f"vector shards: {len(manifest.vector_shards):,}"]
    for shard in manifest.vector_shards:
        dead = f", {shard.deletes.rows:,} dead" if shard.deletes else ""
        lines.append(f"  {shard.path}  {shard.rows:,} rows{dead}, {size(shard.bytes)}")
    return lines


def _tier_lines(manifest: Manifest) -> list[str]:
    lines = []
    for tier in manifest.collection.tiers:
        held = tier_bytes(manifest, tier.name)
        lines.append(f"tier {tier.name}: {size(held['bytes'])}, {tier.kind} codes, M={tier.connectivity}")
        lines += [
            f"  {shard.path}  {shard.codes:,} codes of {len(shard.vector_shards)} vector shards, {size(shard.bytes)}"
            for shard in manifest.index_shards_of(tier.name)
        ]
    return lines
