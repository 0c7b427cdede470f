"""tierloom retire: stop keeping a generation current."""

import click
import msgspec

from index_builder.upkeep.retire import Retired, retire
from pipelines.commands.generation_option import generation_named
from pipelines.commands.tables import size, table
from tierloom.stores.opening import open_store
from tierloom.stores.probing import probe_preconditions
from tierloom.versions import read_head


@click.command("retire")
@click.argument("store")
@click.option(
    "--checkpoint",
    "generation",
    required=True,
    metavar="NAME",
    help="The generation of this model, or whose fingerprint begins so.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Also where it is still being built, and what was paid for it is lost; or where the other one may not serve.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was retired as JSON.")
def command(store: str, generation: str, force: bool, as_json: bool) -> None:
    """Publish a version of STORE without one of its two generations.

    The other one is all that is served and kept current from then on. Channels that serve the retired one are moved
    first. Versions that have it can be opened until `tierloom gc` retires them, and takes its objects.
    """
    opened = open_store(store)
    checkpoint = generation_named(generation, read_head(opened), opened).checkpoint
    probe_preconditions(opened)
    retired = retire(opened, checkpoint, force)
    click.echo(msgspec.json.encode(retired) if as_json else table(_rows(retired)))


def _rows(retired: Retired) -> list[tuple[str, str]]:
    return [
        ("retired", f"{retired.model} ({retired.checkpoint[:12]}), {retired.chunks:,} live chunks"),
        ("garbage", f"{size(retired.bytes)}, once no version that is kept names it"),
        ("serves", retired.serves),
        ("version", f"{retired.version} published"),
    ]
