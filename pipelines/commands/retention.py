"""tierloom retention: how long deletions are remembered and versions are kept."""

from datetime import timedelta

import click
import msgspec

from index_builder.upkeep.retention import set_retention
from pipelines.commands.options import duration, retention_members, retention_options
from pipelines.commands.tables import table
from tierloom.manifest import Retention
from tierloom.stores.opening import open_store


@click.command("retention")
@click.argument("store")
@retention_options
@click.option("--json", "as_json", is_flag=True, help="Print the retention as JSON.")
def command(
    store: str, deletions: timedelta | None, versions: int | None, age: timedelta | None, as_json: bool
) -> None:
    """Show the retention of STORE, or change it: a new version says so.

    `tierloom gc` retires a version that is neither among the newest nor young, unless a channel names it or somebody
    holds a lease on it. A deletion that is forgotten no longer keeps an older event of its document out.
    """
    retention = set_retention(open_store(store), retention_members(deletions, versions, age))
    click.echo(msgspec.json.encode(retention) if as_json else table(_rows(retention)))


def _rows(retention: Retention) -> list[tuple[str, str]]:
    return [
        ("deletions", f"remembered for {duration(retention.deletions_seconds)}"),
        ("versions", f"the newest {retention.versions:,} are kept"),
        ("age", f"versions younger than {duration(retention.versions_seconds)} are kept"),
    ]
