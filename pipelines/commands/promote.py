"""tierloom promote: point a channel at a version, or flip it to another generation."""

from typing import Literal

import click

from pipelines.commands.channel_options import VersionOrLatest, channel_option, json_option, message_option, tell
from tierloom.promoting import promote
from tierloom.stores.opening import open_store


@click.command("promote")
@click.argument("store")
@click.argument("version", type=VersionOrLatest())
@channel_option
@click.option(
    "--checkpoint",
    metavar="NAME",
    help="Serve the generation of this model, or of the checkpoint whose fingerprint begins so.  "
    "[default: as the channel serves now]",
)
@message_option
@click.option("--force", is_flag=True, help="Promote what is refused for its recall. The history says so.")
@json_option
def command(
    store: str,
    version: int | Literal["latest"],
    channel: str,
    checkpoint: str | None,
    message: str,
    force: bool,
    as_json: bool,
) -> None:
    """Point a channel of STORE at VERSION, a number or `latest`: who follows the channel serves it from then on.

    Refused unless each tier was measured to reach the collection's recall floor and every object that is served is
    there. A channel that nobody has made yet is made. With --checkpoint, a version of two generations is served by the
    one that is named, once that is complete; `--channel latest` then publishes a version that has it in front.
    """
    opened = open_store(store)
    tell(promote(opened, version, channel, message, force, checkpoint), opened, as_json)
