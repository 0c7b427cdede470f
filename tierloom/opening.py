"""Opening a collection for reading."""

from pathlib import Path

from tierloom import names
from tierloom.object_files import ObjectFiles
from tierloom.snapshot import Snapshot
from tierloom.stores.opening import open_store
from tierloom.versions import channel_version, read_checkpoint, read_manifest


def open_snapshot(
    store: str | Path, version: int | None = None, *, channel: str = names.LATEST, cache: str | Path | None = None
) -> Snapshot:
    """Open one version of the collection at `store`: a folder, or `gs://bucket/prefix`.

    Without `version`, the one that `channel` names. Objects of a bucket are copied into `cache` when they are
    needed (default: a folder of this user's under the system's temporary folder) and kept there.

    Raises:
        NotACollection: the store holds none.
        InputError: there is no such version or channel.
        Corrupt, Malformed, FormatTooNew: the manifest or the checkpoint is not what it should be.
    """
    opened = open_store(str(store))
    manifest = read_manifest(opened, channel_version(opened, channel) if version is None else version)
    checkpoint = read_checkpoint(opened, manifest.collection.checkpoint)
    return Snapshot(manifest, checkpoint, ObjectFiles(opened, Path(cache) if cache else opened.scratch()))
