"""How long deletions are remembered and versions are kept: said in the manifest, and changed by a commit."""

import msgspec

from index_builder.upkeep.publishing import publish_upkeep
from tierloom.manifest import Manifest, Retention
from tierloom.stores.store import Store
from tierloom.versions import read_head


def set_retention(
    store: Store,
    deletions_seconds: int | None = None,
    versions: int | None = None,
    versions_seconds: int | None = None,
) -> Retention:
    """Publish a version with this retention, where it is given and another one; the retention from now on.

    Raises `NotACollection`.
    """
    stated = {
        "deletions_seconds": deletions_seconds,
        "versions": versions,
        "versions_seconds": versions_seconds,
    }
    given = {name: value for name, value in stated.items() if value is not None}

    def changed(head: Manifest) -> Manifest:
        return msgspec.structs.replace(head, retention=msgspec.structs.replace(head.retention, **given))

    head = read_head(store)
    if changed(head) == head:
        return head.retention
    return publish_upkeep("retention", changed, store).retention
