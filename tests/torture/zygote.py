"""Runs commands of the command line, each in a forked process of its own: none pays for the imports again.

Reads pickled orders, a line of base64 each, and prints for each the process id of the command, and then its exit
status. Forking is safe here: this process has one thread, and never runs a command itself.
"""

import base64
import logging
import os
import pickle
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from unittest import mock

from pipelines import cli
from tests.stores.faulty import Counter, Fault, FaultyStore
from tests.stores.faulty_network import StormyNetwork, Weather
from tierloom.stores import opening
from tierloom.stores.local import LocalStore


@dataclass(frozen=True, slots=True)
class Order:
    """A command: its arguments, what happens to the stores it opens, and where its output goes."""

    arguments: tuple[str, ...]
    output: Path
    errors: Path
    counter: Counter | None = None
    fault: Fault | None = None
    weather: Weather | None = None


def main() -> None:
    # As the command line does: what Beam has to say while it is imported is not for us.
    logging.basicConfig(level=logging.ERROR)
    for name in ("pipelines.running", "tierloom.embedders.openai_compatible", *map(_module, cli.COMMANDS)):
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _carry_out(pickle.loads(base64.b64decode(line)))
        # Here, not in the child: who is told the number may kill the group at once.
        os.setpgid(child, child)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _module(command: str) -> str:
    return f"pipelines.commands.{command.replace('-', '_')}"


def _carry_out(order: Order) -> None:
    """Be the command, and end."""
    for path, descriptor in ((order.output, 1), (order.errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if order.counter and order.fault:
        _put_between(order.counter, order.fault)
    if order.weather:
        _raise_storm(order.weather)
    sys.argv = ["tierloom", *order.arguments]
    status = 0
    try:
        cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _raise_storm(weather: Weather) -> None:
    """What goes to the server of the bucket goes through bad weather, and is tried again without long waits."""
    # Here, for it takes long to load, and few commands need it.
    from tierloom.stores import gcs, gcs_client

    gcs_client.client()._http.mount(os.environ["STORAGE_EMULATOR_HOST"], StormyNetwork(weather))
    mock.patch.object(gcs, "RETRY", gcs.RETRY.with_delay(initial=0.001, maximum=0.01)).start()


def _put_between(counter: Counter, fault: Fault) -> None:
    """Every folder that is opened as a store from now on is a faulty one."""

    def open_faulty(root: Path) -> FaultyStore:
        return FaultyStore(LocalStore(root), fault, counter)

    mock.patch.object(opening, "LocalStore", open_faulty).start()


if __name__ == "__main__":
    main()
