"""The version that events are compared with, open in a worker."""

import threading
from collections.abc import Iterable
from functools import cached_property, lru_cache

from tierloom.column_files import ColumnFiles
from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.letters import read_letters
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.seen_files import SeenFile, read_seen_files
from tierloom.shards.live import LiveShard
from tierloom.shards.live_shards import LiveShards
from tierloom.shards.primary_key import Address, find_documents, live_sequences
from tierloom.stores.opening import open_store
from tierloom.tombstones import Tombstones
from tierloom.versions import head_version, read_manifest
from transforms.job import Job
from transforms.read import can_be_read_again


class Base:
    """The live rows, the open dead letters and the tombstones of one version. Read-only; shared by a worker's
    threads."""

    def __init__(self, manifest: Manifest, shards: list[LiveShard], files: ObjectFiles) -> None:
        self.shards = shards
        self.tombstones = Tombstones(manifest.tombstones, files)
        self._manifest = manifest
        self._files = files

    @cached_property
    def letters(self) -> tuple[DeadLetter, ...]:
        return tuple(read_letters(self._manifest.dead_letters, self._files))

    @cached_property
    def dead_events(self) -> frozenset[tuple[str | None, int | None]]:
        """The (document_id, sequence) of every open letter of a chunk or document."""
        return frozenset((letter.document_id, letter.sequence) for letter in self.letters if letter.document_id)

    @cached_property
    def seen(self) -> dict[str, SeenFile]:
        """Every file that was read, by its URI."""
        return read_seen_files(self._manifest.files, self._files)

    @property
    def live_documents(self) -> int:
        return self._manifest.documents.live

    def find(self, document_ids: Iterable[str]) -> dict[str, list[Address]]:
        """Where the live rows of these documents are."""
        return find_documents(self.shards, {id_: document_key(id_) for id_ in document_ids})

    def sequences(self, document_ids: Iterable[str]) -> dict[str, int]:
        """The sequence of each of these documents that lives."""
        return live_sequences(self.shards, {id_: document_key(id_) for id_ in document_ids})


class _Versions:
    """The version that was last asked for of one store."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)
        self._last: Manifest | None = None

    def at(self, version: int | None) -> Manifest:
        wanted = head_version(self._store) if version is None else version
        # Threads that ask at the same time at worst read it twice.
        if (last := self._last) is None or last.version != wanted:
            last = self._last = read_manifest(self._store, wanted)
        return last


class _Bases:
    """The last version that was asked for of one generation. What it shares with the next one stays open."""

    def __init__(self, url: str, checkpoint: str) -> None:
        self._checkpoint = checkpoint
        self.shards = LiveShards(ColumnFiles(open_store(url)))
        self._open: tuple[int, Base] | None = None
        self._lock = threading.Lock()

    def at(self, version: Manifest) -> Base:
        # A worker's threads may ask at the same time.
        with self._lock:
            if self._open is None or self._open[0] != version.version:
                generation = version.of(self._checkpoint)
                self._open = version.version, Base(generation, self.shards.of(generation), self.shards.files)
            return self._open[1]


@lru_cache(maxsize=4)
def _versions(store: str) -> _Versions:
    return _Versions(store)


@lru_cache(maxsize=8)
def _bases(store: str, checkpoint: str) -> _Bases:
    return _Bases(store, checkpoint)


def open_shards(store: str, checkpoint: str) -> LiveShards:
    """What bases have open of a generation, for who publishes on top of them in the same thread."""
    return _bases(store, checkpoint).shards


def version_of(job: Job) -> Manifest:
    """The version whose generations events are compared with. Of a job without a fixed base: the newest there is."""
    return _versions(job.store).at(job.base)


def base_of(job: Job) -> Base:
    """What the events of a job are compared with; one per generation and worker process.

    Raises `CheckpointMismatch` when the version has nothing of the job's checkpoint.
    """
    return _bases(job.store, job.fingerprint).at(version_of(job))


def base_if_any(job: Job) -> Base | None:
    """As `base_of`; None where the version has nothing of the job's checkpoint."""
    return base_of(job) if job.fingerprint in version_of(job).checkpoints else None


def retried_letters(job: Job) -> tuple[DeadLetter, ...]:
    """The letters that a run sends through again, if it is a retry: all that its base has open and hold, or name,
    what can be read."""
    return tuple(filter(can_be_read_again, base_of(job).letters)) if job.retry else ()
