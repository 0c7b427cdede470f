"""How long deletions are remembered and versions are kept: said in the manifest, and changed by a commit."""

from collections.abc import Mapping

import msgspec

from index_builder.upkeep.publishing import publish_upkeep
from tierloom.manifest import Manifest, Retention
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.versions import read_head


def set_retention(store: Store, members: Mapping[str, int]) -> Retention:
    """Publish a version whose retention has these members, if that is another one; the retention from now on.

    Raises `NotACollection` or `PreconditionsIgnored`.
    """

    def changed(head: Manifest) -> Manifest:
        return msgspec.structs.replace(head, retention=msgspec.structs.replace(head.retention, **members))

    head = read_head(store)
    if changed(head) == head:
        return head.retention
    probe_preconditions(store)
    return publish_upkeep("retention", changed, store).retention
