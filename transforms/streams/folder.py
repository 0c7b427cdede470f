"""A watched folder as a stream: files that are new, changed, renamed or removed."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tierloom.document import Deletion, Document
from tierloom.seen_files import GONE, SeenFile
from transforms.reading.listing import Found, shown_path
from transforms.reading.records import Fields
from transforms.reading.seeing import gone, is_as_seen, reading_of, was_just_changed
from transforms.reading.splits import Kind, kind_of
from transforms.streams.folder_watch import FolderWatch
from transforms.streams.removals import RemovalLimit
from transforms.streams.stream import Batch, Change
from transforms.streams.whole_files import Read, has_gone, read_whole_file

_QUIET_SECONDS: Final = 0.1
# Files may be removed one after the other by the thousand: before any is forgotten, it should show how many.
_REMOVAL_SECONDS: Final = 0.5
# A file that never comes to rest is read all the same, and again when it does.
_LONGEST_WAIT_SECONDS: Final = 10.0
# While files wait to be read, the watcher is asked only now and then.
_LOOK_SECONDS: Final = 0.2
# A watcher may miss what happens: all is listed again, in at most a hundredth of the time.
_LISTING_SECONDS: Final = 60.0
_LISTING_SHARE: Final = 100
_BATCH_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class _Restless:
    """When something happened to a path first, and last: monotonic seconds; `arrived` since 1970."""

    first: float
    last: float
    arrived: float

    def again(self) -> "_Restless":
        return replace(self, last=time.monotonic())

    def is_quiet(self, seconds: float) -> bool:
        now = time.monotonic()
        return now - self.last >= seconds or now - self.first >= _LONGEST_WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class _Task:
    """A file to be read, or one that was seen and is to be forgotten."""

    file: Found | SeenFile
    arrived: float


@dataclass(frozen=True, slots=True)
class _Step:
    """A change, and with the last one of a file what is seen of it: either both are published, or neither."""

    change: Change | None
    file: SeenFile | None


class FolderStream:
    """A file is one document, read when it comes to rest. What lies there is the truth, whatever its time.

    A file that was removed is the deletion of its document. Of files of records nobody knows what they held: to
    remove one, or a record in it, deletes nothing.
    """

    def __init__(self, root: Path, fields: Fields, delete_at_most: float = 0.2) -> None:
        """`delete_at_most` is the share of the files that may disappear within a minute."""
        self._root = root
        self._fields = fields
        self._limit = RemovalLimit(self.source, delete_at_most)
        self._opened = ExitStack()
        self._known: dict[str, SeenFile] = {}
        # The URIs of what is known and not gone, in order.
        self._names: list[str] = []
        self._restless: dict[Path, _Restless] = {}
        # URIs of files that were removed, and when each of them arrived.
        self._lost: dict[str, float] = {}
        self._losing = _Restless(0.0, 0.0, 0.0)
        self._tasks: deque[_Task] = deque()
        self._current: Iterator[_Step] = iter(())
        self._looked = self._listed = self._listing_seconds = 0.0
        # In seconds since 1970. What is noticed now came after that.
        self._looked_at = time.time()

    @property
    def source(self) -> str:
        return shown_path(self._root.as_posix())

    def open(self, positions: Mapping[str, int] | None, seen: Mapping[str, SeenFile]) -> None:
        """Raises `SyncRefused` when too many of the files that were `seen` are gone."""
        below = self.source.rstrip("/") + "/"
        self._known = {uri: file for uri, file in seen.items() if uri.startswith(below)}
        self._names = sorted(uri for uri, file in self._known.items() if file.size != GONE)
        self._looked_at = time.time()
        # Watched before it is listed: nothing falls between.
        self._watch = FolderWatch(self._root)
        self._opened.callback(self._watch.close)
        self._list_all()

    def take(self, limit: int, seconds: float) -> Batch | None:
        until = time.monotonic() + seconds
        while True:
            self._look()
            batch = self._batch(limit)
            if batch.changes or batch.files or time.monotonic() >= until:
                return batch

    def published(self, batch: Batch) -> None:
        """The folder forgets nothing."""

    def behind(self) -> int | None:
        """The files that wait; one of records counts as one change."""
        return len(self._tasks) + len(self._restless) + len(self._lost)

    def close(self) -> None:
        self._opened.close()

    def _look(self) -> None:
        """Ask the watcher; then find out what is to be done about the paths that came to rest."""
        now = time.monotonic()
        if self._tasks and now - self._looked < _LOOK_SECONDS:
            return
        before, self._looked, self._looked_at = self._looked_at, now, time.time()
        for path in self._watch.changed():
            self._disturb(path, before)
        quiet = [path for path, restless in self._restless.items() if restless.is_quiet(_QUIET_SECONDS)]
        for path in quiet:
            self._examine(path, self._restless.pop(path).arrived)
        if self._lost and self._losing.is_quiet(_REMOVAL_SECONDS):
            self._add_lost()
        due = self._listed + max(_LISTING_SECONDS, _LISTING_SHARE * self._listing_seconds)
        if now > due and not (self._tasks or self._lost):
            self._list_all()

    def _disturb(self, path: Path, arrived: float) -> None:
        now = time.monotonic()
        known = self._restless.get(path)
        self._restless[path] = known.again() if known else _Restless(now, now, arrived)

    def _examine(self, path: Path, arrived: float) -> None:
        """What to do about a file or folder to which something happened."""
        found = {file.uri: file for file in self._watch.find(path)}
        self._add(found.values(), arrived)
        lost = [uri for uri in self._names_at(shown_path(path.as_posix())) if uri not in found and has_gone(uri)]
        if lost:
            now = time.monotonic()
            self._losing = self._losing.again() if self._lost else _Restless(now, now, arrived)
            self._lost.update(dict.fromkeys(lost, arrived))

    def _add_lost(self) -> None:
        """Queue the files that are gone. Raises when that cannot be meant."""
        lost = {uri: arrived for uri, arrived in self._lost.items() if has_gone(uri)}
        self._lost = {}
        self._watch.refuse_absence()
        self._limit.note(len(lost), len(self._names) - len(lost))
        self._tasks.extend(_Task(self._known[uri], arrived) for uri, arrived in lost.items())

    def _list_all(self) -> None:
        """Find what happened before the folder was watched, or what the watcher missed."""
        began = time.monotonic()
        found = self._watch.list()
        lost = [self._known[uri] for uri in self._names if uri not in found and has_gone(uri)]
        self._watch.refuse_absence()
        self._limit.note_absent(len(lost), len(self._names) - len(lost))
        arrived = self._looked_at
        for file in filter(was_just_changed, found.values()):
            self._disturb(Path(file.uri), arrived)
        self._add((file for file in found.values() if Path(file.uri) not in self._restless), arrived)
        self._tasks.extend(_Task(file, arrived) for file in lost)
        self._listed = time.monotonic()
        self._listing_seconds = self._listed - began

    def _names_at(self, uri: str) -> list[str]:
        """What is known at or under a path."""
        own = [uri] if uri in self._known and self._known[uri].size != GONE else []
        first, last = (bisect_left(self._names, uri + end) for end in ("/", chr(ord("/") + 1)))
        return own + self._names[first:last]

    def _add(self, found: Iterable[Found], arrived: float) -> None:
        """Queue the files that are not as they are known."""
        for file in found:
            if not self._is_as_known(file):
                changed = min(file.modified_ns / 1e9, time.time())
                self._tasks.append(_Task(file, max(arrived, changed)))

    def _is_as_known(self, file: Found) -> bool:
        return is_as_seen(file, reading_of(_kind(file), self._fields), self._known.get(file.uri))

    def _batch(self, limit: int) -> Batch:
        changes: list[Change] = []
        files: list[SeenFile] = []
        held = 0
        while len(changes) < limit and held < _BATCH_BYTES and (step := self._next()):
            if step.change:
                changes.append(step.change)
                held += len(step.change.event.text) if isinstance(step.change.event, Document) else 0
            if step.file:
                self._note(step.file)
                files.append(step.file)
        return Batch(tuple(changes), None, tuple(files))

    def _next(self) -> _Step | None:
        while (step := next(self._current, None)) is None and self._tasks:
            task = self._tasks.popleft()
            self._current = _steps(self._read(task.file), task.arrived)
        return step

    def _read(self, file: Found | SeenFile) -> Iterator[Read]:
        if isinstance(file, SeenFile):
            yield from self._forget(file)
        elif not self._is_as_known(file):
            yield from read_whole_file(file, _kind(file), self._fields, self._known.get(file.uri))

    def _forget(self, file: SeenFile) -> Iterator[Read]:
        if self._known[file.name].size != GONE and has_gone(file.name):
            forgotten = gone(self._known[file.name], time.time_ns())
            if file.document_id is not None:
                yield Deletion(file.document_id, forgotten.sequence)
            yield forgotten

    def _note(self, file: SeenFile) -> None:
        at = bisect_left(self._names, file.name)
        listed = self._names[at : at + 1] == [file.name]
        if file.size == GONE and listed:
            del self._names[at]
        elif file.size != GONE and not listed:
            self._names.insert(at, file.name)
        self._known[file.name] = file


def _steps(reads: Iterator[Read], arrived: float) -> Iterator[_Step]:
    """What is read of one file."""
    change: Change | None = None
    for read in reads:
        if isinstance(read, SeenFile):
            yield _Step(change, read)
            return
        if change:
            yield _Step(change, None)
        change = Change(read, arrived)
    if change:
        yield _Step(change, None)


def _kind(file: Found) -> Kind:
    kind = kind_of(file.name)
    if kind is None:
        raise AssertionError(f"{file.name} was found although it is not read")
    return kind
