"""tierloom rollback: point a channel back at what it served before."""

import click

from pipelines.commands.channel_options import channel_option, json_option, message_option, tell
from tierloom.promoting import rollback
from tierloom.stores.opening import open_store


@click.command("rollback")
@click.argument("store")
@channel_option
@click.option("--to", type=click.IntRange(0), help="The version to go back to.  [default: the one served before]")
@click.option("--from", "serving", type=click.IntRange(0), help="Only if the channel serves this version.")
@message_option
@json_option
def command(store: str, channel: str, to: int | None, serving: int | None, message: str, as_json: bool) -> None:
    """Point a channel of STORE back at the version that it served before the current one.

    The next rollback goes further back. If somebody else moves the channel at the same time, nothing is rolled back.
    """
    tell(rollback(open_store(store), channel, message, to, serving), as_json)
