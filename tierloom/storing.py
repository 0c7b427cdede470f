"""Putting files into a store under the digest of their inputs, and describing what is there."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom import names
from tierloom.digest import bytes_digest
from tierloom.errors import AlreadyExists
from tierloom.manifest import Deletes, Footer, VectorShard
from tierloom.shards import deletion_vector
from tierloom.shards.mapped import MappedShard
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import StoredObject
from tierloom.stores.store import Store


def store_file(path: Path, name: str, store: Store, folder: Path) -> StoredObject:
    """Store a file under `name` and describe what is stored.

    Names are digests of inputs, and not every maker answers the same bytes twice: where the name is taken
    already, what is stored is the truth. It is fetched into `folder` to be described.
    """
    written = _describe(path, name)
    try:
        store.create_from_file(name, path)
    except AlreadyExists:
        if store.renew(name):
            return describe_object(name, store, folder)
        return store_file(path, name, store, folder)
    return written


def store_vector_shard(path: Path, sha256: str, name: str, store: Store, folder: Path) -> VectorShard:
    """`store_file` for a vector shard whose hash its writer knows. Raises `Malformed` when the file is none."""
    written = _vector_shard(path, sha256, name)
    try:
        store.create_from_file(name, path)
    except AlreadyExists:
        if store.renew(name):
            return describe_vector_shard(name, store, folder)
        return store_vector_shard(path, sha256, name, store, folder)
    return written


def with_dead_rows(shard: VectorShard, rows: NDArray[np.integer[Any]], store: Store) -> VectorShard:
    """The same shard with exactly these rows (n,) dead; their bitmap is stored."""
    if not len(rows):
        return msgspec.structs.replace(shard, deletes=None)
    data = deletion_vector.to_bytes(rows.tolist())
    sha256 = bytes_digest(data)
    name = names.deletes(bytes_digest(f"{shard.path} {sha256}".encode())[:40])
    store.create(name, data)
    return msgspec.structs.replace(shard, deletes=Deletes(path=name, bytes=len(data), sha256=sha256, rows=len(rows)))


def describe_object(name: str, store: Store, folder: Path) -> StoredObject:
    """Length and hash of what is stored under `name`; a remote object is fetched into `folder`."""
    return _describe(store.fetch(name, folder), name)


def describe_vector_shard(name: str, store: Store, folder: Path) -> VectorShard:
    """What a manifest says of a stored vector shard. Raises `Malformed`."""
    return vector_shard_in(store.fetch(name, folder), name)


def vector_shard_in(path: Path, name: str) -> VectorShard:
    """What a manifest says of a vector shard whose bytes are the file's. Raises `Malformed`."""
    return _vector_shard(path, sha256_of(path), name)


def _describe(path: Path, name: str) -> StoredObject:
    return StoredObject(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


def _vector_shard(path: Path, sha256: str, name: str) -> VectorShard:
    shard = MappedShard(path, name)
    return VectorShard(
        path=name,
        bytes=path.stat().st_size,
        sha256=sha256,
        rows=shard.rows,
        checkpoint=shard.schema.checkpoint,
        footer=footer_of(path),
    )


def footer_of(path: Path) -> Footer:
    """The footer of a Parquet file: the file ends with its length (uint32, little-endian) and "PAR1"."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(-length, os.SEEK_END)
        return Footer(bytes=length, sha256=bytes_digest(file.read()))
