"""What others do while an upkeep is at work."""

from collections.abc import Callable


def once(work: Callable[[], object], at: int = 1) -> Callable[[], bool]:
    """A `stop` that never says so, and does something when it is asked for the `at`th time."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == at:
            work()
        return False

    return stop
