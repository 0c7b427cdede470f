"""Opening a collection for reading."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from tierloom import names
from tierloom.digest import digest_of
from tierloom.errors import InputError
from tierloom.lease import lease_newest
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import channel_version, read_checkpoint, read_manifest


def open_snapshot(
    store: str | Path,
    version: int | None = None,
    *,
    channel: str = names.LATEST,
    cache: str | Path | None = None,
    lease: timedelta | None = None,
    trust_verified: bool = False,
) -> Snapshot:
    """Open one version of the collection at `store`: a folder, or `gs://bucket/prefix`.

    Without `version`, the one that `channel` names; the latest of a mirror is what it serves. Objects of a bucket are
    copied into `cache` when they are needed and kept there for the next time (default: `tierloom` in the user's cache
    folder).

    With a `lease`, the version is kept until the snapshot is closed, even when `tierloom gc` would retire it. It is
    renewed in the background; `lease` is how long it outlives a holder that died. It takes the right to write to
    `leases/`.

    With `trust_verified`, files that were verified before and have not changed since are not hashed again; what that
    rests on is told in `tierloom.verified_files`.

    Raises:
        NotACollection: the store holds none.
        InputError: there is no such version or channel.
        Corrupt, Malformed, FormatTooNew: the manifest or the checkpoint is not what it should be.
    """
    opened = open_store(str(store))
    wanted = partial(_wanted, opened, version, channel)
    files = ObjectFiles(opened, Path(cache) if cache else cache_of(opened), trust_verified)
    with ExitStack() as undone:
        held = undone.enter_context(lease_newest(opened, wanted, lease)) if lease else None
        manifest = read_manifest(opened, held.version) if held else newest_manifest(opened, wanted)
        snapshot = Snapshot(manifest, read_checkpoint(opened, manifest.collection.checkpoint), files, held)
        undone.pop_all()
    return snapshot


def _wanted(store: Store, version: int | None, channel: str) -> int:
    return channel_version(store, channel) if version is None else version


def newest_manifest(store: Store, wanted: Callable[[], int]) -> Manifest:
    """The manifest of the wanted version; of a newer one where that was retired in the same moment."""
    while True:
        version = wanted()
        try:
            return read_manifest(store, version)
        except InputError:
            if wanted() == version:
                raise


def cache_of(store: Store) -> Path:
    """A folder of this store's own under the user's cache folder (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tierloom" / digest_of("cache", store.url)[:16]
