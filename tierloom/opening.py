"""Opening a collection for reading."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from tierloom import names
from tierloom.channel import Served
from tierloom.digest import digest_of
from tierloom.errors import InputError
from tierloom.generations import find_generation
from tierloom.lease import Lease, lease_newest
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import generation_not_pulled, read_mirror
from tierloom.object_files import ObjectFiles
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.stores.store import Store
from tierloom.versions import channel_serves, read_checkpoint, read_manifest


def open_snapshot(
    store: str | Path,
    version: int | None = None,
    *,
    channel: str = names.LATEST,
    checkpoint: str | None = None,
    cache: str | Path | None = None,
    lease: timedelta | None = None,
    trust_verified: bool = False,
) -> Snapshot:
    """Open one version of the collection at `store`: a folder, or `gs://bucket/prefix`.

    Without `version`, the one that `channel` names; the latest of a mirror is what it serves. `checkpoint` is a model,
    or the begin of a fingerprint: the version's generation of that is opened, whichever serves. Objects of a bucket are
    copied into `cache` when they are needed and kept there for the next time (default: `tierloom` in the user's cache
    folder).

    With a `lease`, the version is kept until the snapshot is closed, even when `tierloom gc` would retire it. It is
    renewed in the background; `lease` is how long it outlives a holder that died. It takes the right to write to
    `leases/`.

    With `trust_verified`, files that were verified before and have not changed since are not hashed again; what that
    rests on is told in `tierloom.verified_files`.

    Raises:
        NotACollection: the store holds none.
        InputError: there is no such version, channel or generation.
        Corrupt, Malformed, FormatTooNew: the manifest or the checkpoint is not what it should be.
    """
    opened = open_store(str(store))
    wanted = partial(_wanted, opened, version, channel)
    files = ObjectFiles(opened, Path(cache) if cache else cache_of(opened), trust_verified)
    with ExitStack() as undone:
        held, serves = _leased(opened, wanted, lease) if lease else (None, None)
        if held is not None:
            undone.enter_context(held)
        _, manifest = newest_manifest(opened, (lambda: serves) if serves else wanted)
        if checkpoint is not None:
            manifest = _chosen(manifest, checkpoint, opened)
        snapshot = Snapshot(manifest, read_checkpoint(opened, manifest.checkpoint), files, held)
        undone.pop_all()
    return snapshot


def _wanted(store: Store, version: int | None, channel: str) -> Served:
    if version is None:
        return channel_serves(store, channel)
    mirror = read_mirror(store)
    return Served(version, mirror.checkpoint_of(version) if mirror else None)


def _chosen(manifest: Manifest, checkpoint: str, store: Store) -> Manifest:
    chosen = find_generation(manifest, checkpoint, store)
    if (mirror := read_mirror(store)) and mirror.of(chosen.version, chosen.checkpoint) is None:
        raise generation_not_pulled(mirror, store.url, chosen.version, chosen.checkpoint)
    return chosen


def _leased(store: Store, wanted: Callable[[], Served], duration: timedelta) -> tuple[Lease, Served]:
    """A lease on the wanted version, and what is wanted of it."""
    seen: list[Served] = []

    def newest() -> int:
        seen.append(wanted())
        return seen[-1].version

    lease = lease_newest(store, newest, duration)
    return lease, next(served for served in reversed(seen) if served.version == lease.version)


def newest_manifest(store: Store, wanted: Callable[[], Served]) -> tuple[Served, Manifest]:
    """What is wanted, and the manifest of that version with that generation in front; of a newer one where it was
    retired in the same moment."""
    while True:
        served = wanted()
        try:
            return served, read_manifest(store, served.version).of(served.checkpoint)
        except InputError:
            if wanted() == served:
                raise


def cache_of(store: Store) -> Path:
    """A folder of this store's own under the user's cache folder (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tierloom" / digest_of("cache", store.url)[:16]
