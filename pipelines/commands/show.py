"""tierloom show: a manifest for people."""

from collections.abc import Mapping, Sequence

import click
import msgspec

from pipelines.commands.tables import count, size, table
from pipelines.summary import identity, tier_bytes
from tierloom import names
from tierloom.channel import read_channels
from tierloom.errors import NotFound
from tierloom.generations import progress, told_checkpoint
from tierloom.manifest import LedgerPart, Manifest, RunRecord
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import channel_serves, head_version, read_checkpoint, read_manifest


@click.command("show")
@click.argument("store")
@click.argument("version", required=False, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself.")
def command(store: str, version: int | None, as_json: bool) -> None:
    """Show what is live in a VERSION of STORE (default: the newest), and where it came from.

    Of a version with two generations, both: how far the one that is being built is, and which channels serve which.
    """
    opened = open_store(store)
    manifest = read_manifest(opened, head_version(opened) if version is None else version)
    if as_json:
        click.echo(msgspec.json.encode(manifest))
    else:
        click.echo(described(manifest, opened, _pointing(opened, manifest)))


def _pointing(store: Store, manifest: Manifest) -> dict[str, list[str]]:
    """The channels that point to a version, by the checkpoint of the generation that they serve."""
    found: dict[str, list[str]] = {checkpoint: [] for checkpoint in manifest.checkpoints}
    latest = channel_serves(store, names.LATEST)
    if latest.version == manifest.version:
        found[latest.checkpoint or manifest.checkpoint].append(names.LATEST)
    for channel in read_channels(store):
        if channel.name != names.LATEST and channel.version == manifest.version:
            found[channel.checkpoint or manifest.checkpoint].append(channel.name)
    return found


def described(manifest: Manifest, store: Store, channels: Mapping[str, Sequence[str]]) -> str:
    """A manifest as text; `channels` are those that point to it, by checkpoint."""
    run = manifest.run
    rows = [
        ("created", f"{manifest.created} by {manifest.writer}, {run.command} {run.run[:12]}"),
        ("remembered", f"{_entries(manifest.tombstones):,} deletions, {_entries(manifest.files):,} files of sources"),
        *(("stream", f"{cursor.source}, moved {cursor.moved} by {cursor.holder}") for cursor in manifest.cursors),
    ]
    two = manifest.other is not None
    parts = [
        (f"\ngeneration {told_checkpoint(one.checkpoint, store)}\n" if two else "")
        + _generation(one, store, channels[one.checkpoint])
        for one in manifest.generations
    ]
    return "\n".join([f"{store.url} version {manifest.version}", table(rows), *parts])


def _generation(manifest: Manifest, store: Store, channels: Sequence[str]) -> str:
    """The generation in front of a manifest; `channels` are those that serve it."""
    collection = manifest.collection
    untrained = "; untrained prefixes accepted" if collection.untrained_prefixes else ""
    rows = [
        *([("channels", ", ".join(channels))] if channels else []),
        *([("building", _building(manifest))] if not manifest.is_complete else []),
        ("checkpoint", _checkpoint(manifest, store)),
        ("chunking", f"{collection.chunking.max_tokens} tokens, overlap {collection.chunking.overlap_tokens}"),
        ("documents in", identity(manifest.documents)),
        ("live chunks", f"{manifest.live_chunks:,} of {sum(shard.rows for shard in manifest.vector_shards):,} rows"),
        *([("left", _left(manifest.run))] if manifest.run.left_documents else []),
        ("gate", _judged(manifest)),
        ("dead letters", f"{sum(part.letters for part in manifest.dead_letters):,} open"),
        ("prefixes", f"{collection.prefix_dimensions} int8 components stored{untrained}"),
    ]
    return "\n".join([table(rows), *_shard_lines(manifest), *_tier_lines(manifest)])


def _checkpoint(manifest: Manifest, store: Store) -> str:
    try:
        space = read_checkpoint(store, manifest.checkpoint).space
    except NotFound:
        return f"{manifest.checkpoint}, which is not here: a mirror holds that of what it serves"
    return f"{manifest.checkpoint}: {space.model} ({space.revision}), {space.dimensions} dimensions"


def _building(manifest: Manifest) -> str:
    other = f" of {manifest.other.documents.live:,}" if manifest.other else ""
    return f"{progress(manifest)}; {manifest.documents.live:,}{other} documents are in it"


def _left(run: RunRecord) -> str:
    return f"{count(run.left_documents, 'document')} that the {run.command} of this version left at its cap"


def _judged(manifest: Manifest) -> str:
    """What the gate found, in a few words."""
    gate = manifest.gate
    if gate is None:
        return "nothing is live, so nothing was measured" if not manifest.live_chunks else "not measured"
    low = [tier.tier for tier in gate.tiers if tier.safe_shortlist is None]
    return f"tier {', '.join(low)} below the floor of {gate.floor:g}" if low else f"passed, floor {gate.floor:g}"


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
