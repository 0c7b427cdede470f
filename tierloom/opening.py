"""Opening a collection for reading."""

import os
from pathlib import Path

from tierloom import names
from tierloom.digest import digest_of
from tierloom.object_files import ObjectFiles
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import channel_version, read_checkpoint, read_manifest


def open_snapshot(
    store: str | Path, version: int | None = None, *, channel: str = names.LATEST, cache: str | Path | None = None
) -> Snapshot:
    """Open one version of the collection at `store`: a folder, or `gs://bucket/prefix`.

    Without `version`, the one that `channel` names. Objects of a bucket are copied into `cache` when they are
    needed and kept there for the next time (default: `tierloom` in the user's cache folder).

    Raises:
        NotACollection: the store holds none.
        InputError: there is no such version or channel.
        Corrupt, Malformed, FormatTooNew: the manifest or the checkpoint is not what it should be.
    """
    opened = open_store(str(store))
    manifest = read_manifest(opened, channel_version(opened, channel) if version is None else version)
    checkpoint = read_checkpoint(opened, manifest.collection.checkpoint)
    return Snapshot(manifest, checkpoint, ObjectFiles(opened, Path(cache) if cache else _cache_of(opened)))


def _cache_of(store: Store) -> Path:
    """A folder of this store's own under the user's cache folder (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tierloom" / digest_of("cache", store.url)[:16]
