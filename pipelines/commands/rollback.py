"""tierloom rollback: point a channel back at what it served before."""

import click

from pipelines.commands.channel_options import channel_option, json_option, message_option, tell
from tierloom.rolling_back import rollback
from tierloom.stores.opening import open_store


@click.command("rollback")
@click.argument("store")
@channel_option
@click.option("--to", type=click.IntRange(0), help="The version to go back to.  [default: the one served before]")
@click.option("--from", "serving", type=click.IntRange(0), help="Only if the channel serves this version.")
@message_option
@json_option
def command(store: str, channel: str, to: int | None, serving: int | None, message: str, as_json: bool) -> None:
    """Point a channel of STORE back at what it served before the current version.

    Where that was another generation, and it was kept current since, it is served as it is now: no document is lost.
    The next rollback goes further back. If somebody else moves the channel at the same time, nothing is rolled back.
    """
    opened = open_store(store)
    tell(rollback(opened, channel, message, to, serving), opened, as_json)
