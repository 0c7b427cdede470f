"""tierloom channels: where channels point, and who moved them."""

from collections.abc import Iterator

import click
import msgspec

from tierloom import names
from tierloom.channel import Channel, Move, read_channels
from tierloom.errors import InputError
from tierloom.generations import told_checkpoint
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import head_version, read_manifest

_SHOWN = 5


@click.command("channels")
@click.argument("store")
@click.option("--channel", help="Only this one, with its whole history.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a channel, its moves oldest first.")
def command(store: str, channel: str | None, as_json: bool) -> None:
    """Show where the channels of STORE point, and their last moves, newest first: when, by whom, and why."""
    opened = open_store(store)
    head = head_version(opened)
    found = [_true(one, head) for one in read_channels(opened) if channel in (None, one.name)]
    if channel is not None and not found:
        raise InputError(f"{opened.url} has no channel {channel!r}; see them all with: tierloom channels {opened.url}")
    for one in found:
        if as_json:
            click.echo(msgspec.json.encode(one))
        else:
            click.echo("\n".join(_lines(one, opened, _SHOWN if channel is None else None)))


def _true(channel: Channel, head: int) -> Channel:
    """`latest` may lie behind, where a writer died: it means the newest version all the same."""
    return msgspec.structs.replace(channel, version=head) if channel.name == names.LATEST else channel


def _lines(channel: Channel, store: Store, shown: int | None) -> Iterator[str]:
    follows = ", as of every publish" if channel.name == names.LATEST else ""
    yield f"{channel.name}: version {channel.version}{_by(channel, store)}{follows}"
    moves = channel.moves[::-1]
    yield from (_line(move, store) for move in moves[:shown])
    if shown is not None and len(moves) > shown:
        yield f"  and {len(moves) - shown:,} earlier ones: --channel {channel.name}"
    elif moves and moves[-1].previous is not None:
        yield "  earlier ones are forgotten"


def _by(channel: Channel, store: Store) -> str:
    """The checkpoint that a channel serves; nothing where its version was retired."""
    fingerprint = channel.checkpoint
    if fingerprint is None:
        try:
            fingerprint = read_manifest(store, channel.version).checkpoint
        except InputError:
            return ""
    return f" of {told_checkpoint(fingerprint, store)}"


def _line(move: Move, store: Store) -> str:
    before = "-" if move.previous is None else str(move.previous)
    line = f"  {move.at[:19]}Z  {move.action:8}  {before:>7} -> {move.version:<7}  {move.by}  {move.message}".rstrip()
    if move.checkpoint and move.previous_checkpoint not in (None, move.checkpoint):
        before = told_checkpoint(move.previous_checkpoint or "", store)
        line += f"\n    to {told_checkpoint(move.checkpoint, store)}, from {before}"
    return f"{line}\n    forced, although {move.refused_because}" if move.forced else line
