"""Creating a collection: version 0, which holds nothing but what it is."""

import uuid

from tierloom import names
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.commit import advance_latest, now, writer
from tierloom.errors import AlreadyExists, CollectionExists
from tierloom.manifest import Manifest, Retention, RunRecord
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store


def create_collection(
    store: Store,
    checkpoint: Checkpoint,
    collection: Collection,
    retention: Retention = Retention(),  # noqa: B008 -- immutable
) -> Manifest:
    """Store the checkpoint and version 0.

    Raises `CollectionExists` when the store holds a collection already, and `PreconditionsIgnored` when it
    lets a second writer overwrite: then nothing in it could be trusted.
    """
    probe_preconditions(store)
    manifest = Manifest(
        version=0,
        created=now(),
        parent=None,
        writer=writer(),
        collection=collection,
        run=RunRecord(run=uuid.uuid4().hex, command="init"),
        retention=retention,
    )
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    try:
        store.create(names.manifest(0), manifest.to_bytes())
    except AlreadyExists as error:
        raise CollectionExists(f"{store.url} holds a collection already; choose another store") from error
    advance_latest(store, 0)
    return manifest
