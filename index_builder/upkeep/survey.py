"""Looking through a whole store for documents: in every object, whether a version names it or not.

Ids are in vector shards, dead letters and the ledger of files. Index shards hold codes of vectors, aliases and deletion
bitmaps numbers of rows: the versions tell what they were made of. Of an index shard that no version names nobody can
tell, so it is searched for the codes themselves. Tombstones and records of batches hold hashes.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from index_builder.upkeep.at_once import of_each
from index_builder.upkeep.holders import read_holders
from index_builder.upkeep.looking import LOOKED_INTO, Look, Looker
from index_builder.upkeep.naming import Ids
from index_builder.upkeep.retained import Kept, read_manifests, stored_manifests
from tierloom import names
from tierloom.manifest import Manifest
from tierloom.stored_object import StoredObject
from tierloom.stores.store import Listed, Store

# Of what no version names, nobody who lives still wants what is older, unless he holds a lease.
IDLE_SECONDS: Final = 3600.0

_DERIVED: Final = (names.DELETES, names.INDEXES, names.TOMBSTONES)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a store holds of some documents. `version` is the newest one there was when it began.

    `held` are the objects that have an id, `tainted` those and all that was made of them, `versions` those that name
    any of them. `listed` is every object. `found` are the documents that anything was about, `sequences` the newest of
    those that have one, `embedded` those of which rows were found: for no others could `young` index shards, that no
    version names, be searched.
    """

    version: int
    looks: tuple[Look, ...]
    held: frozenset[str]
    tainted: frozenset[str]
    versions: frozenset[int]
    young: tuple[str, ...]
    listed: dict[str, Listed]
    found: frozenset[str]
    sequences: dict[str, int]
    embedded: frozenset[str]


class Surveyor:
    """Looks through a store, again and again: an object that is as it was is not looked into again."""

    def __init__(self, store: Store, ids: Ids) -> None:
        self._store = store
        self._looker = Looker(store, ids)
        self._known: dict[tuple[str, str], Look] = {}
        self._sequences: dict[str, int] = {}
        self._found: set[str] = set()

    def survey(self) -> Survey:
        """Raises `NotACollection`, and `Corrupt` or `Malformed` for what a version names and cannot be read."""
        versions = sorted(stored_manifests(self._store))
        kept, stored = Kept(), dict[str, StoredObject]()
        for manifest in read_manifests(self._store, versions):
            kept.add(manifest)
            stored |= {one.path: one for one in manifest.objects()}
        listed = {one.name: one for prefix in (*LOOKED_INTO, *_DERIVED) for one in self._store.list(prefix)}
        looks = self._looks([one for one in listed.values() if one.name.startswith(LOOKED_INTO)], stored)
        held = frozenset(look.name for look in looks if look.holds)
        tainted, touched = self._tainted(held, versions)
        odd, unnamed = self._unnamed_indexes(listed.values(), kept, tainted)
        return Survey(
            version=max(kept.versions),
            looks=(*looks, *unnamed),
            held=held,
            tainted=tainted | odd,
            versions=touched,
            young=tuple(look.name for look in unnamed if not look.holds),
            listed=listed,
            found=frozenset(self._found),
            sequences=dict(self._sequences),
            embedded=frozenset(self._looker.embedded),
        )

    def _looks(self, listed: list[Listed], stored: dict[str, StoredObject]) -> list[Look]:
        new = [one for one in listed if (one.name, one.mark) not in self._known]
        for one, look in zip(new, of_each(lambda one: self._looker.look(one, stored.get(one.name)), new), strict=True):
            if look is not None:
                self._known[one.name, one.mark] = look
                self._note(look)
        return [self._known[one.name, one.mark] for one in listed if (one.name, one.mark) in self._known]

    def _note(self, look: Look) -> None:
        self._found |= look.found
        for document_id, sequence in look.sequences.items():
            self._sequences[document_id] = max(sequence, self._sequences.get(document_id, sequence))

    def _tainted(self, held: frozenset[str], versions: Iterable[int]) -> tuple[frozenset[str], frozenset[int]]:
        """What was made of what is held, with it; and the versions that name any of that."""
        tainted, touched = set(held), set()
        for manifest in read_manifests(self._store, versions):
            own = set(_made_of(held, manifest)) | {one.path for one in manifest.objects() if one.path in held}
            tainted |= own
            if own:
                touched.add(manifest.version)
        return frozenset(tainted), frozenset(touched)

    def _unnamed_indexes(
        self, listed: Iterable[Listed], kept: Kept, tainted: frozenset[str]
    ) -> tuple[frozenset[str], list[Look]]:
        """Index shards that no version names: those that are to go, and the young ones, that were searched."""
        unnamed = [
            one
            for one in listed
            if one.name.startswith(names.INDEXES) and one.name not in kept.names and one.name not in tainted
        ]
        now = time.time()
        cutoff = min(now - IDLE_SECONDS, read_holders(self._store, now).working_since)
        idle = {one.name for one in unnamed if one.modified < cutoff}
        looks = [look for one in unnamed if one.name not in idle and (look := self._looker.look_for_codes(one))]
        going = idle | {look.name for look in looks if look.holds}
        return frozenset(going), looks


def _made_of(held: frozenset[str], manifest: Manifest) -> Iterable[str]:
    """Deletion bitmaps, index shards and aliases over vector shards that hold a document, in both generations."""
    for generation in manifest.generations:
        for shard in generation.vector_shards:
            if shard.path in held and shard.deletes:
                yield shard.deletes.path
        for index in generation.index_shards:
            if not held.isdisjoint(index.vector_shards):
                yield index.path
                if index.aliases:
                    yield index.aliases.path
