"""What the commands that move channels share: their options, and how they tell what came of a move."""

from typing import Any, Literal

import click
import msgspec

from tierloom.promoting import Moved

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


def tell(moved: Moved, as_json: bool) -> None:
    """Print what a channel is now; what should be looked at goes to stderr."""
    channel, move = moved.channel, moved.move
    for doubt in moved.doubts:
        click.echo(f"warning: {doubt}", err=True)
    if move and move.forced:
        click.echo(f"warning: forced, although {move.refused_because}", err=True)
    if as_json:
        said = {"channel": channel.name, "version": channel.version, "moved": move is not None, "move": move}
        click.echo(msgspec.json.encode(said))
    elif move is None:
        click.echo(f"{channel.name} serves version {channel.version} already")
    else:
        before = "nothing" if move.previous is None else f"version {move.previous}"
        click.echo(f"{channel.name} serves version {move.version}; before: {before}")
