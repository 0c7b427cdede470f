"""What runs on a schedule takes its turn: of two that are started, the second one waits or ends."""

import os
import signal
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import click

from pipelines.commands.options import Duration
from pipelines.telling import say, voice
from tierloom.errors import StoreError, TurnHeld, TurnLost
from tierloom.mirroring.mirror import read_mirror
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


def take_turn_to_look(store: Store, deed: str, wait: timedelta) -> AbstractContextManager[object]:
    """The turn to look at a store, which only saves doing it twice: who may not write to the store looks all the same,
    and whoever looks at a mirror."""
    if read_mirror(store) is not None:
        return nullcontext()
    try:
        return take_turn(store, deed, wait)
    except StoreError as error:
        say(f"others may {deed} it at the same time: {error}")
        return nullcontext()


def _say_waiting(held: TurnHeld) -> None:
    say(f"waiting: {held}", "waiting", "warning")


def _end_at_once(lost: TurnLost) -> None:
    """What the work under way may still pay for would be paid twice."""
    voice().ended_by = lost
    os.kill(os.getpid(), signal.SIGTERM)
