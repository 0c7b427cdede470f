"""The version that a run started from, open in a worker."""

from collections.abc import Iterable
from functools import cached_property, lru_cache

from tierloom.column_files import ColumnFiles
from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.letters import read_letters
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import Address, find_documents
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest
from transforms.job import Job


class Base:
    """The live rows and the open dead letters of one version. Read-only; shared by a worker's threads."""

    def __init__(self, manifest: Manifest, files: ObjectFiles) -> None:
        self.shards = [LiveShard(shard, files) for shard in manifest.vector_shards]
        self._manifest = manifest
        self._files = files

    @cached_property
    def letters(self) -> tuple[DeadLetter, ...]:
        return tuple(read_letters(self._manifest.dead_letters, self._files))

    @cached_property
    def dead_events(self) -> frozenset[tuple[str | None, int | None]]:
        """The (document_id, sequence) of every open letter of a chunk or document."""
        return frozenset((letter.document_id, letter.sequence) for letter in self.letters if letter.document_id)

    def find(self, document_ids: Iterable[str]) -> dict[str, list[Address]]:
        """Where the live rows of these documents are."""
        return find_documents(self.shards, {id_: document_key(id_) for id_ in document_ids})


@lru_cache(maxsize=4)
def open_base(store: str, version: int) -> Base:
    """The base of a run; one per worker process."""
    opened = open_store(store)
    return Base(read_manifest(opened, version), ColumnFiles(opened))


def retried_letters(job: Job) -> tuple[DeadLetter, ...]:
    """The letters that a run sends through again: all that its base has open, if it is a retry."""
    return open_base(job.store, job.base).letters if job.retry else ()
