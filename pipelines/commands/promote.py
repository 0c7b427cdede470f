"""tierloom promote: point a channel at a version."""

from typing import Literal

import click

from pipelines.commands.channel_options import VersionOrLatest, channel_option, json_option, message_option, tell
from tierloom.promoting import promote
from tierloom.stores.opening import open_store


@click.command("promote")
@click.argument("store")
@click.argument("version", type=VersionOrLatest())
@channel_option
@message_option
@click.option("--force", is_flag=True, help="Promote what is refused for its recall. The history says so.")
@json_option
def command(
    store: str, version: int | Literal["latest"], channel: str, message: str, force: bool, as_json: bool
) -> None:
    """Point a channel of STORE at VERSION, a number or `latest`: who follows the channel serves it from then on.

    Refused unless each tier was measured to reach the collection's recall floor and every object of the version is
    there. A channel that nobody has made yet is made.
    """
    tell(promote(open_store(store), version, channel, message, force), as_json)
