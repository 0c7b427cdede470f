"""Following a channel: when it moves, what it names is opened beside what is served, and takes its place at once.

A query works on one generation of one version from its first step to its last, and the model that embeds it is opened
and tried with them: so no query meets vectors of another checkpoint. The old one is closed when the last query that
uses it has left. What cannot be opened is never served: the old one goes on, and `last_error` says why.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Unpack

from numpy.typing import NDArray

from tierloom.answer import Answer
from tierloom.channel import Served
from tierloom.errors import InputError, NotFound, TierloomError
from tierloom.flipping import QueryModels
from tierloom.forking import remake_in_children, resume_in_children
from tierloom.generations import told
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.open_objects import OpenObjects
from tierloom.opening import cache_of, newest_manifest
from tierloom.query_vectors import Query, QueryVectors
from tierloom.search_options import SearchOptions
from tierloom.snapshot import Shared, Snapshot
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import channel_serves

_log: Final = logging.getLogger(__name__)

INTERVAL: Final = timedelta(seconds=2)


def follow(
    store: str | Path,
    channel: str = "prod",
    *,
    cache: str | Path | None = None,
    interval: timedelta = INTERVAL,
    poll: bool = True,
    trust_verified: bool = False,
) -> "Follower":
    """Serve what `channel` names, from now on: a version, and its generation. It is looked at every `interval` by a
    thread; without `poll`, when `Follower.check` is called.

    All that queries may need is fetched, verified and mapped before this returns. `cache` and `trust_verified`
    are as for `tierloom.open`.

    Raises what `tierloom.open` raises, and `Corrupt`, `Malformed` or `NotFound` for what the version names.
    """
    opened = open_store(str(store))
    files = ObjectFiles(opened, Path(cache) if cache else cache_of(opened), trust_verified)
    return Follower(opened, channel, files, interval if poll else None)


class _Held:
    """What is open of what a channel named (`named`), and the threads of the queries that are at work on it."""

    def __init__(self, named: Served, snapshot: Snapshot, vectors: QueryVectors) -> None:
        self.named = named
        self.snapshot = snapshot
        self.vectors = vectors
        self.users: list[int] = []


class Follower:
    """What a channel names, hot-swapped. Safe to use from several threads, and after a fork; a context
    manager."""

    def __init__(self, store: Store, channel: str, files: ObjectFiles, interval: timedelta | None) -> None:
        self.channel = channel
        self.last_error: Exception | None = None
        self._store = store
        self._interval = interval
        self._objects = OpenObjects(files)
        self._models = QueryModels(store, channel)
        self._reported = ""
        self._closed = False
        self._opening: Manifest | None = None
        self._before: Manifest | None = None
        self._all: list[_Held] = []
        self._make_locks()
        remake_in_children(self._remake)
        self._current = self._opened_newest(None)
        self._all.append(self._current)
        self._models.taken()
        self.moved_at = datetime.now(UTC)
        self._opening = None
        self._start()
        resume_in_children(self._start)

    @property
    def version(self) -> int:
        """The version that is served."""
        return self._current.snapshot.manifest.version

    @property
    def checkpoint(self) -> str:
        """The fingerprint of the checkpoint that is served."""
        return self._current.snapshot.manifest.checkpoint

    def search(self, query: Query, **options: Unpack[SearchOptions]) -> Answer:
        """As `Snapshot.search`, on the version that is served now."""
        with self.pinned() as snapshot:
            return snapshot.search(query, **options)

    def search_many(self, queries: Sequence[Query] | NDArray[Any], **options: Unpack[SearchOptions]) -> list[Answer]:
        """As `Snapshot.search_many`: all of them on one version."""
        with self.pinned() as snapshot:
            return snapshot.search_many(queries, **options)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Snapshot]:
        """The version that is served now, kept open until this is left. Raises `InputError` after `close`."""
        thread = threading.get_ident()
        with self._swapping:
            if self._closed:
                raise InputError(f"the follower of channel {self.channel!r} was closed")
            held = self._current
            held.users.append(thread)
        try:
            yield held.snapshot
        finally:
            with self._swapping:
                held.users.remove(thread)
                self._drop_unused()

    def check(self) -> bool:
        """Look at the channel now, and go where it points; True when it moved.

        What is wrong with it is not raised: `last_error` says it, and the version before is served.
        """
        with self._checking:
            try:
                moved = self._move()
            except Exception as error:  # The thread that looks at the channel must go on, whatever it was.
                self._note(error)
                return False
            self.last_error, self._reported = None, ""
            return moved

    def close(self) -> None:
        """Stop following. What is open is let go of when the last query has left."""
        self._stopping.set()
        with self._checking, self._swapping:
            self._closed = True
            self._models.close()
            self._drop_unused()

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _move(self) -> bool:
        if self._closed:
            return False
        if self._named() == self._current.named:
            # A flip that could not be followed may have been taken back.
            self._models.close()
            return False
        try:
            held = self._opened_newest(self._current)
            with self._swapping:
                self._all.append(held)
                self._before, self._current = self._current.snapshot.manifest, held
                self._models.taken()
        finally:
            with self._swapping:
                self._opening = None
                self._drop_unused()
        self.moved_at = datetime.now(UTC)
        _log.info("channel %s: version %d is served%s", self.channel, self.version, self._flipped())
        return True

    def _flipped(self) -> str:
        """Which checkpoint is served, where that is another one than before."""
        current = self._current.snapshot
        if self._before is None or self._before.checkpoint == current.manifest.checkpoint:
            return ""
        return f", by {told(current.checkpoint.space.model, current.manifest.checkpoint)}"

    def _named(self) -> Served:
        return channel_serves(self._store, self.channel)

    def _opened_newest(self, before: _Held | None) -> _Held:
        """What the channel names; what it names by then where objects were retired meanwhile."""
        while True:
            named, manifest = newest_manifest(self._store, self._named)
            with self._swapping:
                self._opening = manifest
            try:
                return self._opened(named, manifest, before)
            except NotFound:
                if self._named() == named:
                    raise

    def _opened(self, named: Served, manifest: Manifest, before: _Held | None) -> _Held:
        """All that its queries may need is there, verified, mapped, and has answered once."""
        vectors = self._models.of(manifest, before.vectors if before else None)
        snapshot = Snapshot(manifest, vectors.checkpoint, self._objects.files, shared=Shared(self._objects, vectors))
        snapshot.open(before.snapshot.searches if before else 1)
        return _Held(named, snapshot, vectors)

    def _drop_unused(self) -> None:
        """Close what is no longer served, and no longer used. The caller holds `_swapping`."""
        unused = [held for held in self._all if not held.users and (self._closed or held is not self._current)]
        if not unused:
            return
        self._all = [held for held in self._all if held not in unused]
        for held in unused:
            held.snapshot.close()
            if all(other.vectors is not held.vectors for other in (*self._all, self._current)) or self._closed:
                held.vectors.close()
        opening = (self._opening,) if self._opening else ()
        before = (self._before,) if self._before else ()
        self._objects.keep([*(held.snapshot.manifest for held in self._all), *opening], before)

    def _note(self, error: Exception) -> None:
        """Log a failure once, not at every look."""
        self.last_error = error
        if self._reported != str(error):
            self._reported = str(error)
            unforeseen = None if isinstance(error, TierloomError) else error
            said = "channel %s cannot be followed; version %d is served: %s"
            _log.warning(said, self.channel, self.version, error, exc_info=unforeseen)

    def _keep_checking(self, stopping: threading.Event, seconds: float) -> None:
        while not stopping.wait(seconds):
            self.check()

    def _start(self) -> None:
        if self._interval is None or self._closed:
            return
        arguments = (self._stopping, self._interval.total_seconds())
        threading.Thread(target=self._keep_checking, args=arguments, name="follow", daemon=True).start()

    def _make_locks(self) -> None:
        # `_checking` is held while a version is opened, `_swapping` only for moments. In this order.
        self._checking, self._swapping = threading.Lock(), threading.Lock()
        self._stopping = threading.Event()

    def _remake(self) -> None:
        """Of all queries under way, a child has those of the thread that forked."""
        self._make_locks()
        self._opening = None
        for held in self._all:
            held.users = [thread for thread in held.users if thread == threading.get_ident()]
