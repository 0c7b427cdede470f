"""Noticing what changes in a folder, while it is there."""

import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError
from watchfiles.main import FileChange

from tierloom.errors import SourceError
from transforms.reading.listing import Found, find_files, shown_path
from transforms.reading.splits import kind_of

_POLL_MS: Final = 20
_GROUP_MS: Final = 50
_TRIES: Final = 5


class FolderWatch:
    """A folder whose changes are noticed from now on. Links to folders are not followed, hidden files passed over."""

    def __init__(self, root: Path) -> None:
        """Raises `SourceError` when the folder cannot be watched."""
        self.root = root
        self.uri = shown_path(root.as_posix())
        self._identity = self._identify()
        self._changes = _watch(root)
        self.changed()

    def changed(self) -> set[Path]:
        """The files and folders that something happened to since the last call; waits a moment for the first."""
        try:
            return {Path(path) for _, path in next(self._changes)}
        except WatchfilesRustInternalError:
            # A name that is not UTF-8 cannot be told, nor what else happened.
            self._changes = _watch(self.root)
            return {self.root}
        except OSError as error:
            self.refuse_absence()
            raise SourceError(
                f"{self.uri} cannot be watched: {error}. If the limit of watches is reached, raise "
                "fs.inotify.max_user_watches; on a file system that tells of no changes, set "
                "WATCHFILES_FORCE_POLLING=true"
            ) from error

    def list(self) -> dict[str, Found]:
        """The files that are read, by URI. Raises `SourceError` when the folder cannot be listed whole."""
        for attempt in range(_TRIES):
            self.refuse_absence()
            try:
                return {file.uri: file for file in find_files(str(self.root)) if kind_of(file.name)}
            except SourceError:
                # A folder in it was removed while it was listed, perhaps.
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_POLL_MS / 1000)
        raise AssertionError("a last attempt returns or raises")

    def find(self, path: Path) -> Iterator[Found]:
        """The files that are read at or under a path."""
        if path.is_relative_to(self.root) and not self._passes_over(path):
            for uri, file in self._at(path):
                name = Path(uri).relative_to(self.uri).as_posix()
                if kind_of(name):
                    yield Found(uri, file.identity, f"{self.root.name}/{name}".lstrip("/"), file.size, file.modified_ns)

    def refuse_absence(self) -> None:
        """Raise `SourceError` unless the folder is the one that it was."""
        if self._identify() != self._identity:
            raise self._absent("another one is there now")

    def close(self) -> None:
        self._changes.close()

    def _at(self, path: Path) -> Iterator[tuple[str, Found]]:
        if not os.path.lexists(path):
            return
        try:
            yield from ((file.uri, file) for file in find_files(str(path)))
        except SourceError:
            # It is gone again, no regular file, or cannot be listed: the next listing of all will tell.
            return

    def _passes_over(self, path: Path) -> bool:
        below = path.relative_to(self.root)
        folders = [self.root / parent for parent in below.parents if parent != Path()]
        return any(part.startswith(".") for part in below.parts) or any(folder.is_symlink() for folder in folders)

    def _identify(self) -> tuple[int, int]:
        try:
            state = self.root.stat()
        except OSError as error:
            raise self._absent(str(error.strerror)) from error
        if not self.root.is_dir():
            raise self._absent("it is no folder")
        return state.st_dev, state.st_ino

    def _absent(self, found: str) -> SourceError:
        return SourceError(
            f"the watched folder {self.uri} has disappeared ({found}): nothing is deleted for that. Start again when "
            "it is back, mounted as it was"
        )


def _watch(root: Path) -> Generator[set[FileChange], None, None]:
    return watch(
        root,
        watch_filter=None,
        debounce=_GROUP_MS,
        step=_POLL_MS // 2,
        rust_timeout=_POLL_MS,
        yield_on_timeout=True,
    )
