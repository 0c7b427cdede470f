"""Finding again what was paid for and not published, though documents among it have changed since.

A shard is found by everything that goes into it. Work that is cut at fixed places, as the parts of a re-embedding are,
keeps a draft besides: the names of the last shards that were made there. The chunks among them that did not change take
their vectors from those.
"""

from contextlib import suppress
from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.digest import digest_of
from tierloom.errors import RevisionMismatch
from tierloom.sealed import seal, unseal
from tierloom.stores.store import Store

FORMAT: Final = 1
# Of one place: it is made anew whenever something of it changes while nobody publishes it.
_KEPT: Final = 16


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The digests of the shards that were begun at one place, the newest last."""

    digests: tuple[str, ...]
    format: Literal[1] = FORMAT


def draft_name(checkpoint: str, prefix_dimensions: int, keys: range) -> str:
    """The name of the draft of the work on these keys."""
    return names.draft(digest_of("draft", checkpoint, prefix_dimensions, keys.start, keys.stop))


def noted_before(name: str, digest: str, store: Store) -> tuple[str, ...]:
    """Note that the shard of this digest is begun; those that were begun before it, the newest first.

    Who loses a race for the note goes on without: at worst it is paid for twice what another one is paying for.
    """
    seen = store.read_revision(name)
    before = unseal(seen[0], Draft, name, FORMAT).digests if seen else ()
    others = tuple(one for one in before if one != digest)
    with suppress(RevisionMismatch):
        store.swap(name, seal(Draft((*others, digest)[-_KEPT:])), seen[1] if seen else None)
    return others[::-1]
