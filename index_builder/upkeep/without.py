"""The version without some documents: nothing that it names holds anything of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa

from index_builder.build_pool import VerifiedBuilds
from index_builder.merge import MergeTask, merge_vector_shards
from index_builder.upkeep.naming import Ids
from index_builder.upkeep.receipt import Rewritten
from index_builder.upkeep.replacing import Merged, Replacement
from tierloom.column_files import ColumnFiles
from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.letters import read_letters, store_letters
from tierloom.manifest import DeadLetters, DocumentCounts, LedgerPart, Manifest, RunRecord, VectorShard
from tierloom.seen_files import SEEN_FILES
from tierloom.settle import Verdict, settle
from tierloom.shards import deletion_vector
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import find_documents, live_sequences
from tierloom.stored_object import StoredObject
from tierloom.tombstones import TOMBSTONES, Tombstones, tombstone_entries


@dataclass(frozen=True, slots=True)
class _Letters:
    """The parts that the next version names, and the letters that it lost."""

    parts: tuple[DeadLetters, ...]
    lost: tuple[DeadLetter, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """What is to go from the generation in front of `head`: rows of the merged shards, letters, and the documents that
    were alive in it."""

    head: Manifest
    merged: Sequence[Merged]
    letters: _Letters
    verdict: Verdict

    @property
    def is_news(self) -> bool:
        return bool(self.merged or self.letters.lost or self.verdict.deletions)


class Without:
    """Makes the successor of whatever head there is; what was merged and built for one is used for the next.

    `sequences` are those at which the documents are deleted, if none newer is published meanwhile: the newest that
    anything in the store has of each.
    """

    def __init__(
        self, ids: Ids, sequences: Mapping[str, int], run: str, files: ColumnFiles, builds: VerifiedBuilds
    ) -> None:
        self._ids = ids
        self._sequences = sequences
        self._run = run
        self._files = files
        self._builds = builds
        self._merged: dict[str, Merged] = {}
        self._into: dict[str, StoredObject | None] = {}

    @property
    def rewritten(self) -> tuple[Rewritten, ...]:
        """Vector shards, dead letters and ledgers that held a document, with what was made of them."""
        return tuple(
            Rewritten(path, into.path if into else None, into.sha256 if into else None)
            for path, into in sorted(self._into.items())
        )

    def on(self, head: Manifest) -> Manifest | None:
        """The head without the documents; None if it has none of them and remembers their deletion."""
        files, newest = self._file_entries(head.files), self._newest(head)
        parts = [self._part(generation, newest) for generation in head.generations]
        if files == head.files and not any(part.is_news for part in parts):
            return None
        changed = head
        for part in parts:
            # One that is being built knows less of what was deleted and came back: it is told by the one in front.
            changed = changed.with_generation(self._without(part, parts[0].verdict.undone))
        # The same deletions are news to each of them, for no event of the documents beats one.
        tombstones = self._tombstones(head, parts[0].verdict.deletions)
        return msgspec.structs.replace(changed, files=files, tombstones=tombstones)

    def _part(self, generation: Manifest, newest: Mapping[str, int]) -> _Part:
        shards = [LiveShard(shard, self._files) for shard in generation.vector_shards]
        verdict = settle(shards, (), newest, Tombstones(generation.tombstones, self._files))
        return _Part(generation, self._holding(generation), self._letters(generation.dead_letters), verdict)

    def _newest(self, head: Manifest) -> Mapping[str, int]:
        """The sequence at which each document is deleted: no event of it that lives in any generation beats that, even
        one that was published since `sequences` were looked for."""
        shards = [LiveShard(shard, self._files) for one in head.generations for shard in one.vector_shards]
        newest = live_sequences(shards, {document_id: document_key(document_id) for document_id in self._ids.every})
        for document_id, sequence in self._sequences.items():
            newest[document_id] = max(sequence, newest.get(document_id, sequence))
        return newest

    def _without(self, part: _Part, undone: int) -> Manifest:
        head, verdict = part.head, part.verdict
        return msgspec.structs.replace(
            self._replace(head, part.merged) if part.merged else head,
            run=RunRecord(self._run, "erase", _run_counts(verdict), removed=verdict.removed),
            dead_letters=part.letters.parts,
            documents=_counts(head.documents, verdict, undone, self._dead_events(head, part.letters.lost)),
        )

    def _holding(self, head: Manifest) -> list[Merged]:
        """The shards that hold a document, dead or alive, each with what takes its place."""
        found = (self._rewritten(shard) for shard in head.vector_shards)
        return [merged for merged in found if merged is not None]

    def _rewritten(self, stored: VectorShard) -> Merged | None:
        if stored.path not in self._merged:
            shard = self._files.shard(stored)
            rows = self._ids.rows_of(shard)
            if not len(rows) and not self._ids.letters_in_notes(shard):
                return None
            dead = np.union1d(deletion_vector.dead_rows(stored, self._files), rows)
            task = MergeTask((stored,), (deletion_vector.to_bytes(dead.tolist()),), anew=True)
            merged = Merged(task, merge_vector_shards(task, self._files.store))
            self._merged[stored.path], self._into[stored.path] = merged, merged.shard
        return self._merged[stored.path]

    def _replace(self, head: Manifest, holding: Sequence[Merged]) -> Manifest:
        inputs = {shard.path for merged in holding for shard in merged.task.shards}
        kept = sorted(_sharing(inputs, head) - inputs)
        return Replacement(holding, kept, self._files, self._builds).on(head)

    def _letters(self, parts: Sequence[DeadLetters]) -> _Letters:
        changed, lost = list[DeadLetters | None](), list[DeadLetter]()
        for part in parts:
            letters = read_letters([part], self._files)
            ours = [letter for letter in letters if self._ids.in_letter(letter)]
            lost += ours
            changed.append(self._without_letters(part, letters) if ours else part)
        return _Letters(tuple(part for part in changed if part is not None), tuple(lost))

    def _without_letters(self, part: DeadLetters, letters: Sequence[DeadLetter]) -> DeadLetters | None:
        kept = [letter for letter in letters if not self._ids.in_letter(letter)]
        stored = store_letters(kept, self._run, self._files.store) if kept else None
        self._into[part.path] = stored
        return stored

    def _file_entries(self, parts: Sequence[LedgerPart]) -> tuple[LedgerPart, ...]:
        return tuple(kept for part in parts if (kept := self._without_entries(part)) is not None)

    def _without_entries(self, part: LedgerPart) -> LedgerPart | None:
        entries = SEEN_FILES.read([part], self._files)
        ours = self._ids.in_entries(entries)
        if not ours.any():
            return part
        kept = entries.filter(pa.array(~ours))
        stored = SEEN_FILES.store_part(kept, self._files.store) if len(kept) else None
        self._into[part.path] = stored
        return stored

    def _tombstones(self, head: Manifest, deletions: Mapping[str, int]) -> tuple[LedgerPart, ...]:
        noted = int(datetime.now(UTC).timestamp())
        entries = tombstone_entries(deletions.items(), noted)
        forget_before = noted - head.retention.deletions_seconds
        return TOMBSTONES.add(head.tombstones, entries, self._files.store, self._files, forget_before)

    def _dead_events(self, head: Manifest, lost: Sequence[DeadLetter]) -> int:
        """How many documents and records the head counts as dead for the letters that are lost."""
        records = {letter.letter_id for letter in lost if letter.chunk is None}
        events = {(letter.document_id, letter.sequence) for letter in lost if letter.chunk is not None}
        keys = {document_id: document_key(document_id) for document_id, _ in events if document_id is not None}
        shards = [LiveShard(shard, self._files) for shard in head.vector_shards]
        found = find_documents(shards, keys) if keys else {}
        live = {(document_id, address.sequence) for document_id, at in found.items() for address in at}
        return len(records) + len(events - live)


def _sharing(paths: set[str], head: Manifest) -> set[str]:
    """These vector shards, those that share an index shard of some tier with one of them, and so on."""
    touched = set(paths)
    while True:
        sharing = [index for index in head.index_shards if not touched.isdisjoint(index.vector_shards)]
        wider = touched.union(*(index.vector_shards for index in sharing))
        if wider == touched:
            return touched
        touched = wider


def _run_counts(verdict: Verdict) -> DocumentCounts:
    deletions = len(verdict.deletions)
    return DocumentCounts(documents_in=deletions, deleted=deletions)


def _counts(before: DocumentCounts, verdict: Verdict, undone: int, dead: int) -> DocumentCounts:
    """Each deletion is an event that came in; what it removes, it beat, as it did `undone` deletions."""
    deletions = len(verdict.deletions)
    return DocumentCounts(
        documents_in=before.documents_in + deletions,
        live=before.live - verdict.removed,
        superseded=before.superseded + verdict.removed + undone + dead,
        deleted=before.deleted + deletions - undone,
        dead_lettered=before.dead_lettered - dead,
    )
