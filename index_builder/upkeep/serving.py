"""How a collection is served: said in the manifest, and changed by a commit. No model is asked, no tier is touched."""

import msgspec

from index_builder.upkeep.publishing import publish_upkeep
from tierloom.errors import InputError
from tierloom.manifest import Manifest
from tierloom.serving import Serving
from tierloom.serving_checks import serving_problems
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.versions import read_head


def set_serving(store: Store, serving: Serving, checkpoint: str | None = None) -> Manifest:
    """Publish a version whose generation of a checkpoint is served like this, if the newest is not; the newest version
    from now on, with that generation in front.

    Raises `InputError` when a profile or route cannot be served; `NotACollection`, `PreconditionsIgnored`, or
    `CheckpointMismatch` without such a generation.
    """

    def changed(head: Manifest) -> Manifest:
        collection = msgspec.structs.replace(head.collection, serving=serving)
        if problems := list(serving_problems(collection)):
            raise InputError(f"{store.url} cannot be served like this: {'; '.join(problems)}")
        return msgspec.structs.replace(head, collection=collection)

    head = read_head(store).of(checkpoint)
    if changed(head) == head:
        return head
    probe_preconditions(store)
    return publish_upkeep("serving", changed, store, checkpoint)
