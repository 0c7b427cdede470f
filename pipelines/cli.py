"""The command line. Each command is imported when it is called: those that only read need no Beam."""

import importlib
import logging
import sys
from typing import Final

import click

from pipelines.exit_codes import STOPPED_AT_CAP
from tierloom.errors import CapReached, MissingExtra, TierloomError

# Said here, because to ask the commands themselves is to import them all.
COMMANDS: Final = {
    "init": "Create a collection: its model, tiers and chunking.",
    "plan": "Count what an ingest would take, and cost.",
    "ingest": "Embed documents and publish a new version.",
    "stream": "Follow a source and publish its changes as they come.",
    "reembed": "Build a second generation with another model, beside the one that serves.",
    "search": "Ask a collection a question.",
    "show": "Show what is live in a version.",
    "verify": "Check every object of a version.",
    "dead-letters": "List what could not be processed, or retry it.",
    "probe": "Measure whether a model is Matryoshka.",
    "advise": "Measure which tiers a collection should have.",
    "gate": "Show how much each tier finds; set the floor and the queries.",
    "serving": "Show or set how the collection is searched: profiles and routes.",
    "compare": "Put two generations side by side on the same queries.",
    "promote": "Point a channel at a version that reaches the recall floor.",
    "rollback": "Point a channel back at the version it served before.",
    "channels": "Show where channels point, and who moved them and why.",
    "pull": "Mirror what a fleet needs of a version into a folder.",
    "serve": "Answer queries over HTTP, and follow a channel.",
    "report": "Draw a page: what each tier loses, takes and cost.",
    "compact": "Merge small and half-dead shards.",
    "tiers": "Add serving tiers to a live collection, or drop them.",
    "retire": "Drop a generation that serves nobody any more.",
    "history": "Show the versions: when, by what, what changed.",
    "retention": "Show or change how long versions and deletions are kept.",
    "erase": "Remove documents from everything that is stored.",
    "batches": "List batches that were paid for and not yet stored, or forget one.",
    "gc": "Retire old versions and remove what none of them names.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"pipelines.commands.{cmd_name.replace('-', '_')}")
        except ModuleNotFoundError as error:
            raise MissingExtra("pipeline", f"tierloom {cmd_name} ({error.name})") from error
        command: click.Command = module.command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tierloom")
def cli() -> None:
    """Embed a corpus once; serve it from every Matryoshka tier.

    STORE is a folder or gs://bucket/prefix.
    """


def main() -> None:
    """Run a command; an error of ours is one line on stderr and exit status 1, or as in `pipelines.exit_codes`."""
    # Before any library is imported: several have warnings for us that no user can do anything about.
    logging.basicConfig(level=logging.ERROR)
    try:
        cli()
    except TierloomError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(STOPPED_AT_CAP if isinstance(error, CapReached) else 1)
