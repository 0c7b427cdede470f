"""Whether a process of this machine still lives: who died holding something need not be waited for."""

import os
from pathlib import Path

import msgspec

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


class ProcessMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process: `space` is the boot and the process namespace in which `pid` means something, `started` when it
    began, in clock ticks since that boot."""

    space: str
    pid: int
    started: int


def this_process_mark() -> ProcessMark | None:
    """None where the system does not tell what it takes (it does on Linux)."""
    space, pid = _space(), os.getpid()
    started = _started(pid)
    return None if space is None or started is None else ProcessMark(space, pid, started)


def is_gone(mark: ProcessMark) -> bool:
    """Whether a process has surely ended; False for one of another machine or container, of which nobody here knows."""
    if mark.space != _space():
        return False
    try:
        os.kill(mark.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # Its number may be another's by now.
    return (started := _started(mark.pid)) is not None and started != mark.started


def _space() -> str | None:
    try:
        return f"{_BOOT.read_text().strip()} {_NAMESPACE.readlink()}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """When a process began; -1 if it has ended and its parent has not yet taken note, None if nobody tells."""
    try:
        # What is in parentheses is the program's name, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in ("Z", "X") else int(fields[19])
