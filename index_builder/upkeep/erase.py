"""Erasing documents: from the newest version by rewriting what held them, from old ones by forgetting those.

A version is published that deletes the documents and names nothing that holds them; then every other version that does
is retired, and every object that does is removed, whether a version named it or not, however young. This is done until
nothing is found any more. Killed at any point it leaves whole versions, and a second run ends what the first began.

A writer that began before may hold the documents still. What it publishes afterwards meets their deletion: they do
not come back to life, but its objects may hold them. The receipt says of which version it is true.
"""

import contextlib
import time
import uuid
from collections.abc import Iterable
from typing import Final

import msgspec

from index_builder.build_pool import BuildPool, VerifiedBuilds
from index_builder.gate.recall_gates import RecallGates
from index_builder.upkeep.at_once import of_each
from index_builder.upkeep.holders import Holders, read_holders
from index_builder.upkeep.naming import Ids
from index_builder.upkeep.receipt import (
    ErasedDocument,
    Receipt,
    Removed,
    Rewritten,
    Scanned,
    read_receipts,
    store_receipt,
)
from index_builder.upkeep.retained import Kept, read_manifests, stored_manifests
from index_builder.upkeep.scratch import remove_entry, scratch_entries
from index_builder.upkeep.survey import IDLE_SECONDS, Survey, Surveyor
from index_builder.upkeep.without import Without
from tierloom.channel import Channel, Move, move_channel, read_channel
from tierloom.column_files import ColumnFiles
from tierloom.commit import advance_latest, commit, now, writer
from tierloom.document import document_hash
from tierloom.errors import ErasureRefused, InputError, RevisionMismatch
from tierloom.manifest import Manifest
from tierloom.moving import mover
from tierloom.run_report import RunReport, store_report
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.tombstones import Tombstones
from tierloom.versions import head_version, read_head, read_manifest

# Each further one is needed only where a writer published in the meantime.
_ROUNDS: Final = 5


def erase(store: Store, document_ids: Iterable[str], force: bool = False, apart: bool = True) -> Receipt:
    """Remove all that the store holds of these documents, and store the receipt.

    `force` retires versions that channels and leases keep: the channels are moved to the newest version, the leases
    are ended. `apart` builds large index shards in processes of their own.

    Raises `ErasureRefused`, before anything is done, when a version that is to be retired is kept by a channel or
    a lease; `InputError` without an id; `NotACollection`, `PreconditionsIgnored`, and `Corrupt` or `Malformed` where
    what a version names cannot be read.
    """
    ids = Ids(frozenset(document_ids))
    if not ids.every:
        raise InputError("name at least one document by its id")
    read_head(store)
    probe_preconditions(store)
    with BuildPool(apart) as pool:
        return _Erasure(store, ids, force, pool).run()


class _Erasure:
    def __init__(self, store: Store, ids: Ids, force: bool, pool: BuildPool) -> None:
        self._store = store
        self._ids = ids
        self._force = force
        self._pool = pool
        self._surveyor = Surveyor(store, ids)
        self._runs: list[str] = []
        self._rewritten: dict[str, Rewritten] = {}
        self._rebuilt: set[str] = set()
        self._retired: set[int] = set()
        self._removed: dict[str, int] = {}

    def run(self) -> Receipt:
        before = self._deleted_before()
        survey = self._surveyor.survey()
        for _ in range(_ROUNDS):
            if not self._due(survey):
                break
            self._refuse_kept(survey, read_holders(self._store, time.time()))
            self._publish(survey)
            self._retire(survey)
            self._remove(survey)
            survey = self._surveyor.survey()
        # What was deleted and is in no vector shard any more may still be in index shards that were made of those.
        doubted = survey.young if before - survey.embedded else ()
        receipt = self._receipt(survey, (*doubted, *self._left_in_scratch()))
        store_receipt(receipt, self._store)
        return receipt

    def _deleted_before(self) -> set[str]:
        """The documents that are known to have been deleted, and were not erased since."""
        deleted = self._deletions()
        erased = {
            (document.hash, document.sequence)
            for receipt in read_receipts(self._store)
            for document in receipt.documents
            if not receipt.remaining
        }
        return {
            document_id
            for document_id, sequence in deleted.items()
            if sequence is not None and (document_hash(document_id).hex(), sequence) not in erased
        }

    def _deletions(self) -> dict[str, int | None]:
        """The sequence at which the newest version remembers each document deleted."""
        tombstones = Tombstones(read_head(self._store).tombstones, ColumnFiles(self._store))
        return {document_id: tombstones.sequence_of(document_id) for document_id in self._ids.every}

    def _due(self, survey: Survey) -> bool:
        deleted = self._deletions()
        return bool(survey.tainted) or any(
            (gone := deleted[document_id]) is None or gone < sequence
            for document_id, sequence in survey.sequences.items()
        )

    def _refuse_kept(self, survey: Survey, holders: Holders) -> None:
        kept = [
            f"{version} ({', '.join(who)})" for version, who in sorted(holders.of.items()) if version in survey.versions
        ]
        if kept and not self._force:
            raise ErasureRefused(
                f"versions that hold the documents are kept: {'; '.join(kept)}. Move the channels and end the leases, "
                "or do both with --force"
            )

    def _publish(self, survey: Survey) -> None:
        run, files = uuid.uuid4().hex, ColumnFiles(self._store)
        without = Without(self._ids, survey.sequences, run, files, VerifiedBuilds(self._store, self._pool))
        gates = RecallGates(files)

        def successor(head: Manifest) -> Manifest | None:
            changed = None if head.run.run == run else without.on(head)
            if changed is None:
                return None
            # What must go goes, whatever the tiers find without it.
            changed = gates.measured(changed, head, refuse=False)
            self._rebuilt |= _index_paths(changed) - _index_paths(head)
            return msgspec.structs.replace(changed, version=head.version + 1, created=now(), writer=writer())

        head = commit(self._store, successor)
        if head.run.run == run:
            self._runs.append(run)
            self._rewritten |= {one.path: one for one in without.rewritten}
            other = head.other.run if head.other else None
            store_report(RunReport(record=head.run, other=other, version=head.version, published=True), self._store)

    def _retire(self, survey: Survey) -> None:
        # In this order: see `tierloom.lease`.
        stored = stored_manifests(self._store)
        holders = read_holders(self._store, time.time())
        self._refuse_kept(survey, holders)
        newest = head_version(self._store)
        # A writer that died may have left it at a version that goes now.
        advance_latest(self._store, newest)
        self._release(survey, holders, newest)
        going = {version: listed for version, listed in stored.items() if version in survey.versions - {newest}}
        gone = of_each(self._store.remove, going.values())
        self._retired |= {version for version, went in zip(going, gone, strict=True) if went}

    def _release(self, survey: Survey, holders: Holders, newest: int) -> None:
        """Move the channels away from the versions that go, and end the leases on them."""
        for channel in holders.channels:
            seen = read_channel(self._store, channel.name)
            if seen and seen[0].version in survey.versions:
                # Whoever moved it just now may have left it at such a version: then the next round sees it.
                with contextlib.suppress(RevisionMismatch):
                    move_channel(self._store, channel.name, newest, seen, self._away(seen[0], newest))
        for listed, lease in holders.leases:
            if lease.version in survey.versions:
                self._store.remove(listed)

    def _away(self, channel: Channel, newest: int) -> Move:
        """To the newest version, where a channel serves the same generation, if there is one of that checkpoint."""
        manifest = read_manifest(self._store, newest)
        same = (
            one.checkpoint for one in manifest.generations if one.checkpoint == channel.checkpoint and one.is_complete
        )
        return Move(
            version=newest,
            checkpoint=next(same, manifest.checkpoint),
            previous=channel.version,
            previous_checkpoint=channel.checkpoint,
            action="erase",
            at=now(),
            by=mover(),
            message="the version that it served held documents that were erased",
        )

    def _remove(self, survey: Survey) -> None:
        """What was made of the documents' shards first: while those are there, a second run finds it all again."""
        stay = Kept()
        stored = stored_manifests(self._store)
        for manifest in read_manifests(self._store, (v for v in stored if v in survey.versions or v > survey.version)):
            stay.add(manifest)
        going = [survey.listed[name] for name in sorted(survey.tainted - stay.names) if name in survey.listed]
        for part in (
            [listed for listed in going if listed.name not in survey.held],
            [listed for listed in going if listed.name in survey.held],
        ):
            gone = of_each(self._store.remove, part)
            self._removed |= {listed.name: listed.bytes for listed, went in zip(part, gone, strict=True) if went}

    def _left_in_scratch(self) -> tuple[str, ...]:
        """Remove what nobody writes to any more; the names of the other temporary files."""
        now_ = time.time()
        cutoff = min(now_ - IDLE_SECONDS, read_holders(self._store, now_).working_since)
        entries = list(scratch_entries(self._store))
        for entry in entries:
            if entry.used < cutoff:
                remove_entry(entry)
                self._removed[f"{entry.path.parent.name}/{entry.path.name}"] = entry.bytes
        return tuple(f"{entry.path.parent.name}/{entry.path.name}" for entry in entries if entry.used >= cutoff)

    def _receipt(self, survey: Survey, unproven: tuple[str, ...]) -> Receipt:
        return Receipt(
            run=self._runs[0] if self._runs else uuid.uuid4().hex,
            created=now(),
            writer=writer(),
            version=survey.version,
            documents=tuple(
                ErasedDocument(document_hash(document_id).hex(), document_id in survey.found, sequence)
                for document_id, sequence in sorted(self._deletions().items())
            ),
            rewritten=tuple(one for _, one in sorted(self._rewritten.items())),
            rebuilt=tuple(sorted(self._rebuilt)),
            retired=tuple(sorted(self._retired)),
            removed=tuple(Removed(path, length) for path, length in sorted(self._removed.items())),
            scanned=tuple(Scanned(x.name, x.bytes, x.sha256) for x in survey.looks if x.name not in survey.tainted),
            mentioning=tuple(look.name for look in survey.looks if look.said),
            unproven=unproven,
            remaining=tuple(sorted(survey.tainted)),
        )


def _index_paths(manifest: Manifest) -> set[str]:
    return {index.path for generation in manifest.generations for index in generation.index_shards}
