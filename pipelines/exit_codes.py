"""With which status a command ends: what a scheduler can act on. docs/schedules.md has the table."""

from enum import IntEnum
from typing import Final

from tierloom.errors import (
    CapReached,
    ChannelMoved,
    CommitConflict,
    EmbedderUnavailable,
    ModelChanged,
    PullUnderWay,
    SourceHeld,
    StoreUnavailable,
    TierloomError,
    TurnHeld,
    TurnLost,
)


class ExitCode(IntEnum):
    """A number means the same for every command."""

    DONE = 0
    # Somebody must look: starting it again would end the same way.
    FAILED = 1
    # click's, for a command line that is none.
    USAGE = 2
    # `tierloom probe`: too few chunks to tell.
    UNDECIDED = 3
    # What was allowed is spent; what is complete is published.
    CAPPED = 4
    # The model answers a little differently than it did, or as another model.
    DRIFTED = 5
    CHANGED = 6
    # EX_TEMPFAIL of sysexits.h: the same command may well succeed later.
    LATER = 75


# By the most special of its classes that is named here.
_OF: Final[dict[type[TierloomError], ExitCode]] = {
    TierloomError: ExitCode.FAILED,
    CapReached: ExitCode.CAPPED,
    ModelChanged: ExitCode.CHANGED,
    TurnHeld: ExitCode.LATER,
    TurnLost: ExitCode.LATER,
    PullUnderWay: ExitCode.LATER,
    StoreUnavailable: ExitCode.LATER,
    EmbedderUnavailable: ExitCode.LATER,
    CommitConflict: ExitCode.LATER,
    # Two streams of one source, or two movers of one channel: a person knows which.
    SourceHeld: ExitCode.FAILED,
    ChannelMoved: ExitCode.FAILED,
}


def exit_code(error: TierloomError) -> ExitCode:
    """What a command that `error` ended tells its scheduler."""
    return next(_OF[kind] for kind in type(error).__mro__ if kind in _OF)


def signalled(number: int) -> int:
    """The status of a command that a signal ended, as shells count."""
    return 128 + number
