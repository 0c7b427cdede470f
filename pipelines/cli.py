"""The command line. Each command is imported when it is called: those that only read need no Beam."""

import contextlib
import functools
import importlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from pipelines.exit_codes import ExitCode, exit_code, signalled
from pipelines.interrupting import Signals
from pipelines.run_metrics import write_run_metrics
from pipelines.telling import (
    log_format_option,
    say,
    say_error,
    say_unforeseen,
    say_usage,
    speaking,
    voice,
    wanted_format,
)
from tierloom.errors import MissingExtra, TierloomError, WaitInterrupted

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
    "canary": "Ask whether the model is still the one that it was.",
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
        return _loaded(cmd_name) if cmd_name in COMMANDS else None


@functools.cache
def _loaded(name: str) -> click.Command:
    """A command, with what every command has."""
    try:
        module = importlib.import_module(f"pipelines.commands.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise MissingExtra("pipeline", f"tierloom {name} ({error.name})") from error
    command: click.Command = module.command
    if not any(param.name == "log_format" for param in command.params):
        command.params.append(log_format_option())
    command.callback = _told(name, command.callback)
    return command


def _told(name: str, callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """The work of a command, with its name and its store in each line of a structured log."""
    assert callback is not None

    @functools.wraps(callback)
    def told(*arguments: Any, **given: Any) -> Any:
        voice().about |= {"command": name} | ({"store": given["store"]} if "store" in given else {})
        return callback(*arguments, **given)

    return told


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[log_format_option()],
)
@click.version_option(package_name="tierloom")
def cli() -> None:
    """Embed a corpus once; serve it from every Matryoshka tier.

    STORE is a folder or gs://bucket/prefix.
    """


def main() -> None:
    """Run a command; an error of ours is one line on stderr, and an exit status that a scheduler can act on."""
    # Before any library is imported: several have warnings for us that no user can do anything about.
    logging.basicConfig(level=logging.ERROR)
    _open_many_files()
    began = time.monotonic()
    with speaking(wanted_format(sys.argv[1:], os.environ)) as told:
        status = _status()
        # A command line that was none has not been a run.
        if told.metrics_file is not None and "command" in told.about:
            write_run_metrics(told.metrics_file, told.about, told.result, status, began)
    if told.interrupted:
        # Threads that wait for a model or a store would hold the process up.
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def _open_many_files() -> None:
    """Let this process open as many files as it may: each mapped vector shard is one, and a first ingest of a million
    chunks has a thousand of them, which is where many systems begin."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _status() -> int:
    """Run a command to its end; with which status."""
    signals = Signals()
    try:
        with signals:
            ended = cli(standalone_mode=False)
        return ended if isinstance(ended, int) else ExitCode.DONE
    except (Exception, SystemExit) as error:
        if signals.received is None:
            return _failed(error)
        voice().interrupted = True
        if (ended_by := voice().ended_by) is not None:
            return _failed(ended_by)
        if isinstance(error, WaitInterrupted):
            say_error(error)
            return signalled(signals.received)
        say(f"ended by {signals.received.name}; what was finished stays", "interrupted", "warning")
        return signalled(signals.received)


def _failed(error: Exception | SystemExit) -> int:
    """Say why a command ended, unless it has itself; with which status."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.FAILED
    if isinstance(error, TierloomError):
        say_error(error)
        return exit_code(error)
    if isinstance(error, click.Abort):
        return signalled(signal.SIGINT)
    if isinstance(error, click.ClickException):
        say_usage(error)
        return error.exit_code
    say_unforeseen(error)
    return ExitCode.FAILED
