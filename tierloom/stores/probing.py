"""Whether a store keeps its word: of two that create one object only one may win, or nothing in it can be trusted."""

import contextlib
import secrets

from tierloom import names
from tierloom.errors import AlreadyExists, PreconditionsIgnored, StoreError
from tierloom.mirroring.mirror import refuse_mirror
from tierloom.stores.store import Store


def probe_preconditions(store: Store) -> None:
    """Create one new object twice, with different bytes, and remove it again.

    For the start of every command that writes. Raises `NotPulled` for a mirror, `PreconditionsIgnored` unless the
    second creation alone is refused, and `StoreError` when the store does not answer.
    """
    refuse_mirror(store)
    name = names.probe(secrets.token_hex(16))
    won = [_creates(store, name, data) for data in (b"first\n", b"second\n")]
    held = store.read(name)
    # Who may not delete leaves some bytes behind, which garbage collection finds.
    with contextlib.suppress(StoreError):
        for listed in store.list(name):
            store.remove(listed)
    if won != [True, False] or held != b"first\n":
        raise PreconditionsIgnored(
            f"{store.url} lets an object be replaced that was to be created only if absent, so that of two writers "
            "one would lose its work in silence; use a folder or a bucket that honours preconditions"
        )


def _creates(store: Store, name: str, data: bytes) -> bool:
    try:
        store.create(name, data)
    except AlreadyExists:
        return False
    return True
