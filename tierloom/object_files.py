"""Local files of a store's objects, checked against the manifest before their first use."""

import shutil
import tempfile
import threading
import weakref
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from tierloom.errors import CheckpointMismatch, Corrupt, Malformed, NotFound
from tierloom.forking import remake_in_children
from tierloom.manifest import VectorShard
from tierloom.mirroring.hollow import HollowShard
from tierloom.mirroring.mirror import Held, Mirror, object_not_pulled, read_mirror, vectors_not_pulled
from tierloom.shards.columns import ShardColumns
from tierloom.shards.mapped import MappedShard
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import StoredObject
from tierloom.stores.file_failures import gone_is_not_found
from tierloom.stores.store import Store
from tierloom.verified_files import VerifiedFiles


class ObjectFiles:
    """Objects of one store as verified local files; safe to use from several threads.

    Each object is fetched and hashed once, when it is first asked for. Remote ones are copied into `folder`,
    and a sound copy that is there already is used; without `folder`, into one that goes when this does.
    """

    def __init__(self, store: Store, folder: Path | None = None, trust_verified: bool = False) -> None:
        """With `trust_verified`, a file that was verified before and has not changed since is not hashed again
        (`tierloom.verified_files`)."""
        self.store = store
        self.folder = folder or self._own_folder()
        self._records = VerifiedFiles(Path(store.url) if store.local else self.folder) if trust_verified else None
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._verified: dict[tuple[str, str], Path] = {}
        self._shards: dict[tuple[str, str], ShardColumns] = {}
        self._mirror = read_mirror(store)
        remake_in_children(self._remake)

    def path(self, stored: StoredObject) -> Path:
        """The object's bytes as a file. Raises `Corrupt` or `NotFound`."""
        identity = (stored.path, stored.sha256)
        with self._locks[stored.path], gone_is_not_found(stored.path):
            if identity not in self._verified:
                self._verified[identity] = self._kept(stored) or self._fetched(stored)
            return self._verified[identity]

    def shard(self, stored: VectorShard) -> ShardColumns:
        """A vector shard. Raises `NotFound`, `Corrupt`, `Malformed` or `CheckpointMismatch`."""
        identity = (stored.path, stored.sha256)
        if (shard := self._shards.get(identity)) is None:
            with gone_is_not_found(stored.path):
                shard = self._open(stored)
            _refuse_other(shard, stored)
            # Of two threads that opened it at once, both take the first one's.
            shard = self._shards.setdefault(identity, shard)
        return shard

    def held(self, version: int, checkpoint: str) -> Held | None:
        """What a mirror holds of a generation of a version; None where everything is to be had."""
        if self._mirror is not None and self._mirror.of(version, checkpoint) is None:
            # Pulled since.
            self._mirror = read_mirror(self.store)
        return self._mirror.of(version, checkpoint) if self._mirror else None

    def keep(self, *objects: Iterable[StoredObject]) -> None:
        """Let go of all but these, and of the copies made of them."""
        kept = {(stored.path, stored.sha256) for stored in chain(*objects)}
        for identity in self._shards.keys() - kept:
            self._shards.pop(identity, None)
        for identity in self._verified.keys() - kept:
            path = self._verified.pop(identity, None)
            if path and not self.store.local:
                path.unlink(missing_ok=True)
        if self._records is not None:
            self._records.prune()

    def unmap_all_but(self, *shards: Iterable[StoredObject]) -> None:
        """Let go of every mapped shard but these; files stay, and stay verified."""
        kept = {(stored.path, stored.sha256) for stored in chain(*shards)}
        for identity in self._shards.keys() - kept:
            self._shards.pop(identity, None)

    def forget(self) -> None:
        """Let go of every mapped shard."""
        self._shards.clear()

    def _open(self, stored: VectorShard) -> ShardColumns:
        """The file, mapped; in a mirror it may be one without full vectors."""
        try:
            return self._open_as(stored, self._mirror)
        except Corrupt:
            # Another pull may have brought the full vectors meanwhile, or have left others out.
            known, self._mirror = self._mirror, read_mirror(self.store)
            if self._mirror == known:
                raise
            return self._open_as(stored, self._mirror)

    def _open_as(self, stored: VectorShard, mirror: Mirror | None) -> ShardColumns:
        if mirror is None or (hollow := mirror.hollow_sha256(stored.path)) is None:
            return MappedShard(self.path(stored), stored.path)
        path = self.store.fetch(stored.path, self.folder)
        if verify_file(path, stored, self._records, hollow) == stored.sha256:
            return MappedShard(path, stored.path)
        return HollowShard(path, stored.path, vectors_not_pulled(mirror, self.store.url))

    def _kept(self, stored: StoredObject) -> Path | None:
        """A copy from before, if it is the object."""
        path = self.folder / stored.path
        try:
            verify_file(path, stored, self._records)
        except (FileNotFoundError, Corrupt):
            return None
        return path

    def _fetched(self, stored: StoredObject) -> Path:
        try:
            path = self.store.fetch(stored.path, self.folder)
        except NotFound as error:
            if (mirror := read_mirror(self.store)) is None:
                raise
            raise object_not_pulled(mirror, self.store.url, stored.path) from error
        verify_file(path, stored, self._records)
        return path

    def _remake(self) -> None:
        self._locks = defaultdict(threading.Lock)

    def _own_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="tierloom-objects-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def verify_file(
    path: Path, stored: StoredObject, records: VerifiedFiles | None = None, or_sha256: str | None = None
) -> str:
    """Raise `Corrupt` unless the file has the length and the sha256 that the manifest states, or the other one that is
    as good; return the one it has, which may be that of the `records`."""
    if (length := path.stat().st_size) != stored.bytes:
        raise Corrupt(f"{stored.path}: {length} bytes, but the manifest states {stored.bytes}")
    known = records is not None and path.is_relative_to(records.root)
    found = records.sha256_of(path) if records and known else sha256_of(path)
    if found not in (stored.sha256, or_sha256):
        raise Corrupt(f"{stored.path}: sha256 {found}, but the manifest states {stored.sha256}")
    return found


def _refuse_other(shard: ShardColumns, stored: VectorShard) -> None:
    if shard.schema.checkpoint != stored.checkpoint:
        raise CheckpointMismatch(
            f"{stored.path}: made by checkpoint {shard.schema.checkpoint}, but the manifest states {stored.checkpoint}"
        )
    if shard.rows != stored.rows:
        raise Malformed(f"{stored.path}: {shard.rows} rows, but the manifest states {stored.rows}")
