"""What runs on a schedule takes its turn: of two that are started, the second one waits or ends."""

import os
import signal
from datetime import timedelta
from typing import Any

import click

from pipelines.commands.options import Duration
from pipelines.telling import say, voice
from tierloom.errors import TurnHeld, TurnLost
from tierloom.stores.store import Store
from tierloom.taking_turns import Turn
from tierloom.turn import TERM
from tierloom.versions import head_version


def wait_option(command: Any) -> Any:
    """`--wait`, of what takes a turn."""
    return click.option(
        "--wait",
        type=Duration(),
        default="0s",
        show_default=True,
        help="How long to wait for another process that is at the same; then the exit status is 75.",
    )(command)


def take_turn(store: Store, deed: str, wait: timedelta) -> Turn:
    """The turn to do something in a store: a context manager.

    Raises `TurnHeld` when another holds it after `wait`, `NotACollection` where there is nothing to do it to.
    """
    head_version(store)
    return Turn(store, deed, wait=wait, waiting=_say_waiting, lost=_end_at_once, term=TERM)


def _say_waiting(held: TurnHeld) -> None:
    say(f"waiting: {held}", "waiting", "warning")


def _end_at_once(lost: TurnLost) -> None:
    """What the work under way may still pay for would be paid twice."""
    voice().ended_by = lost
    os.kill(os.getpid(), signal.SIGTERM)
