"""How much of a folder may be removed at once before that is taken for an accident."""

import time
from collections import deque
from typing import Final

from tierloom.errors import SyncRefused

# So few are no accident, even in a small folder.
_FEW: Final = 10
_AT_ONCE_SECONDS: Final = 60.0


class RemovalLimit:
    """Counts the files that are removed within a minute. `most` is the share of all that may be; 1 allows any."""

    def __init__(self, folder: str, most: float) -> None:
        self._folder = folder
        self._most = most
        self._removed: deque[tuple[float, int]] = deque()

    def note(self, removed: int, left: int) -> None:
        """Raises `SyncRefused` when, with these `removed`, too many are. `left` counts the files that remain."""
        now = time.monotonic()
        if removed:
            self._removed.append((now, removed))
        while self._removed and now - self._removed[0][0] > _AT_ONCE_SECONDS:
            self._removed.popleft()
        lately = sum(count for _, count in self._removed)
        if lately > max(_FEW, self._most * (lately + left)):
            raise self._refused(lately, lately + left)

    def note_absent(self, removed: int, left: int) -> None:
        """The same of files that were removed while nobody watched: then it is odd, too, when none is left."""
        if removed and not left and self._most < 1:
            raise self._refused(removed, removed)
        self.note(removed, left)

    def _refused(self, removed: int, known: int) -> SyncRefused:
        return SyncRefused(
            f"{removed:,} of {known:,} files of {self._folder} were removed, more than {self._most:.0%}: their "
            "documents are not deleted. Is the folder there whole? If so, start again with a higher --delete-at-most "
            "(100 allows any)"
        )
