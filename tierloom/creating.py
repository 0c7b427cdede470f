"""Creating a collection: version 0, which holds nothing but what it is."""

import uuid

from tierloom import names
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.commit import advance_latest, now, writer
from tierloom.errors import AlreadyExists, CollectionExists, PreconditionsIgnored
from tierloom.manifest import Manifest, RunRecord
from tierloom.stores.store import Store


def create_collection(store: Store, checkpoint: Checkpoint, collection: Collection) -> Manifest:
    """Store the checkpoint and version 0.

    Raises `CollectionExists` when the store holds a collection already, and `PreconditionsIgnored` when it
    lets a second writer overwrite: then nothing in it could be trusted.
    """
    manifest = Manifest(
        version=0,
        created=now(),
        parent=None,
        writer=writer(),
        collection=collection,
        run=RunRecord(run=uuid.uuid4().hex, command="init"),
    )
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    try:
        store.create(names.manifest(0), manifest.to_bytes())
    except AlreadyExists as error:
        raise CollectionExists(f"{store.url} holds a collection already; choose another store") from error
    _refuse_overwriting(store)
    advance_latest(store, 0)
    return manifest


def _refuse_overwriting(store: Store) -> None:
    """Ask for what must be refused: a store that ignores conditions loses data in silence."""
    try:
        store.create(names.manifest(0), b"{}\n")
    except AlreadyExists:
        return
    raise PreconditionsIgnored(f"{store.url} lets an object be overwritten that was to be created only if absent")
