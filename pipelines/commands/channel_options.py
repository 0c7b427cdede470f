"""What the commands that move channels share: their options, and how they tell what came of a move."""

from typing import Any, Literal

import click
import msgspec

from pipelines.telling import say
from tierloom.channel import Move, Served
from tierloom.generations import told_checkpoint
from tierloom.moving import Moved
from tierloom.stores.store import Store

channel_option = click.option("--channel", required=True, help="The channel to move, such as prod.")
message_option = click.option("--message", "-m", default="", help="Why, for the channel's history.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print where the channel points and its last move.")


class VersionOrLatest(click.ParamType[int | Literal["latest"]]):
    """The number of a version, or `latest` for the newest."""

    name = "version"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["latest"]:
        text = str(value)
        if text == "latest":
            return "latest"
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            self.fail(f"{text!r} is no version; write its number, or latest", param, ctx)
        return int(text)


def tell(moved: Moved, store: Store, as_json: bool) -> None:
    """Print what a channel is now; what should be looked at goes to stderr."""
    channel, move = moved.channel, moved.move
    for doubt in moved.doubts:
        say(f"warning: {doubt}", "doubt", "warning")
    if move and move.forced:
        say(f"warning: forced, although {move.refused_because}", "forced", "warning")
    if as_json:
        said = {"channel": channel.name, "version": channel.version, "checkpoint": channel.checkpoint}
        click.echo(msgspec.json.encode(said | {"moved": move is not None, "move": move}))
    elif move is None:
        click.echo(f"{channel.name} serves version {channel.version} already")
    else:
        click.echo(_told(channel.name, move, store))


def _told(channel: str, move: Move, store: Store) -> str:
    """A move for people; that to another checkpoint names both."""
    before = move.before
    if before is None or before.checkpoint in (None, move.checkpoint):
        return (
            f"{channel} serves version {move.version}; before: {f'version {before.version}' if before else 'nothing'}"
        )
    now, then = _of_checkpoint(move.serves, store), _of_checkpoint(before, store)
    return f"{channel} serves {now}; before: {then}"


def _of_checkpoint(served: Served, store: Store) -> str:
    by = f" of {told_checkpoint(served.checkpoint, store)}" if served.checkpoint else ""
    return f"version {served.version}{by}"
