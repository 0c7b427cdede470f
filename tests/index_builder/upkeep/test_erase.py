import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

import tierloom
from index_builder.audit import audit
from index_builder.upkeep import erase as erasing
from index_builder.upkeep.erase import erase
from index_builder.upkeep.receipt import Receipt, read_receipts
from tests.index_builder.upkeep.erased import found_in
from tests.small_shards import (
    Row,
    arrange,
    index_shards,
    make_collection,
    publish,
    store_shard,
    with_dead,
    write_shard,
)
from tierloom import names
from tierloom.channel import move_channel, read_channel
from tierloom.commit import commit
from tierloom.dead_letter import DeadLetter, FailedChunk, KeptRecord, Stage
from tierloom.document import document_hash
from tierloom.errors import CommitConflict, Corrupt, ErasureRefused, InputError
from tierloom.lease import Lease
from tierloom.letters import read_letters, store_letters
from tierloom.manifest import DocumentCounts, Manifest, VectorShard
from tierloom.object_files import ObjectFiles
from tierloom.seen_files import SEEN_FILES, SeenFile, read_seen_files, seen_file_entries
from tierloom.shards.writer import sha256_of
from tierloom.stores.local import LocalStore
from tierloom.storing import store_vector_shard
from tierloom.tombstones import TOMBSTONES, Tombstones, tombstone_entries
from tierloom.versions import read_head, read_manifest, stored_versions
from transforms.block_notes import BlockNotes

ID = "customer/4711 ü"
OTHERS = [f"other-{at}" for at in range(6)]
QUERY = [1.0] * 32
MINUTE = timedelta(minutes=1)


def chunks(document_id: str, sequence: int = 1, count: int = 2) -> list[Row]:
    return [Row(document_id, at, sequence, f"text {at} of {sequence}") for at in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Three shards in two groups; the document lives in the second, and its older event is dead in the first."""
    store = LocalStore(tmp_path / "store")
    make_collection(store, tiers=(4, 8, "16-binary", 16))
    old = store_shard(store, [*chunks(OTHERS[0]), *chunks(ID, 1)])
    publish(store, [[old]])
    change_head(store, documents=DocumentCounts(2, 2))
    new = store_shard(store, [*chunks(OTHERS[1]), *chunks(ID, 2)])
    third = store_shard(store, chunks(OTHERS[2]))
    dead = with_dead(store, old, _rows_of(store, old, ID))
    publish(store, [[dead, third], [new]])
    change_head(store, documents=DocumentCounts(5, 4, 1))
    return store


def _rows_of(store: LocalStore, shard: VectorShard, document_id: str) -> list[int]:
    ids = pq.read_table(store.root / shard.path, columns=["document_id"])["document_id"].to_pylist()
    return [at for at, found in enumerate(ids) if found == document_id]


def change_head(store: LocalStore, **members: Any) -> Manifest:
    return commit(store, lambda head: msgspec.structs.replace(head, version=head.version + 1, **members))


def live(store: LocalStore) -> set[tuple[str, int]]:
    with tierloom.open(store.root) as snapshot:
        return {(chunk.document_id, chunk.ordinal) for chunk in snapshot.chunks()}


def served(store: LocalStore) -> None:
    """Every live chunk is in every tier once, and every version that there is can be read whole."""
    with tierloom.open(store.root) as snapshot:
        expected = sorted(live(store))
        for tier in snapshot.manifest.collection.tiers:
            hits = snapshot.search(QUERY, tier=tier.name, shortlist=1000, top=1000)
            assert sorted((hit.document_id, hit.ordinal) for hit in hits) == expected
    for version in stored_versions(store):
        assert audit(store, version).problems == ()


def forgotten(store: LocalStore, receipt: Receipt) -> None:
    assert receipt.complete
    assert found_in(store, ID) == []
    assert (ID, 0) not in live(store)
    served(store)
    assert receipt in list(read_receipts(store))
    (document,) = receipt.documents
    assert document.hash == document_hash(ID).hex()
    scanned = {one.path for one in receipt.scanned}
    named = {
        stored.path for version in stored_versions(store) for stored in read_manifest(store, version).vector_shards
    }
    assert named <= scanned
    assert {names.manifest(version) for version in stored_versions(store)} <= scanned


def test_a_document_is_in_no_object_afterwards(store: LocalStore) -> None:
    before = live(store)
    assert found_in(store, ID)
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    assert live(store) == before - {(ID, 0), (ID, 1)}
    assert receipt.documents[0].found
    assert receipt.retired == (1, 2, 3, 4)
    assert stored_versions(store) == [0, 5]
    assert receipt.version == 5


def test_only_what_held_it_is_rewritten(store: LocalStore) -> None:
    before = read_head(store)
    receipt = erase(store, [ID])
    after = read_head(store)
    kept = set(before.vector_shards) & set(after.vector_shards)
    assert [shard.path for shard in kept] == [before.vector_shards[1].path]
    replaced = {one.path: one.into for one in receipt.rewritten}
    assert replaced.keys() == {before.vector_shards[0].path, before.vector_shards[2].path}
    assert set(replaced.values()) == {shard.path for shard in after.vector_shards} - {before.vector_shards[1].path}
    assert set(receipt.rebuilt) == {index.path for index in after.index_shards}
    removed = {one.path for one in receipt.removed}
    assert removed >= {index.path for index in before.index_shards} | set(replaced)
    assert before.vector_shards[0].deletes
    assert before.vector_shards[0].deletes.path in removed


def test_the_counts_and_the_history_tell_it(store: LocalStore) -> None:
    before = read_head(store)
    erase(store, [ID])
    head = read_head(store)
    assert (head.run.command, head.run.removed) == ("erase", 1)
    assert head.run.documents == DocumentCounts(documents_in=1, deleted=1)
    assert head.documents == DocumentCounts(6, 3, 2, 1)
    assert before.documents == DocumentCounts(5, 4, 1)
    assert store.size(names.run(head.run.run))


def test_its_deletion_is_remembered_at_its_newest_sequence(store: LocalStore) -> None:
    store_shard(store, chunks(ID, 9))
    erase(store, [ID])
    head = read_head(store)
    assert Tombstones(head.tombstones, ObjectFiles(store)).sequence_of(ID) == 9


def test_leftovers_that_no_version_names_go_however_young(store: LocalStore) -> None:
    shard = store_shard(store, chunks(ID, 3))
    index = index_shards(store, read_head(store).collection, [[shard]])
    innocent = store_shard(store, chunks("innocent"))
    harmless = index_shards(store, read_head(store).collection, [[innocent]])
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    assert {shard.path, *(one.path for one in index)} <= {one.path for one in receipt.removed}
    assert store.size(innocent.path)
    assert all(store.size(one.path) for one in harmless)


def unnamed_indexes(store: LocalStore) -> list[str]:
    """Index shards of every tier over a vector shard that was collected before them."""
    gone = store_shard(store, chunks("long gone"))
    indexes = index_shards(store, read_head(store).collection, [[gone]])
    (store.root / gone.path).unlink()
    return [index.path for index in indexes]


def test_leftovers_that_others_remove_while_they_are_looked_at_are_no_trouble(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = store_shard(store, chunks("innocent"))
    going = {shard.path, *unnamed_indexes(store)}
    fetch = LocalStore.fetch

    def fetch_late(self: LocalStore, name: str, folder: Path) -> Path:
        path = fetch(self, name, folder)
        if name in going:
            path.unlink()
        return path

    monkeypatch.setattr(LocalStore, "fetch", fetch_late)
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    assert going.isdisjoint(one.path for one in receipt.removed)
    assert going.isdisjoint(one.path for one in receipt.scanned)
    assert not any(store.size(path) for path in going)


def test_old_index_shards_of_unknown_origin_go(store: LocalStore) -> None:
    old, *young = unnamed_indexes(store)
    os.utime(store.root / old, (0, 0))
    receipt = erase(store, ["nobody"])
    assert [one.path for one in receipt.removed] == [old]
    assert receipt.complete
    assert all(store.size(path) for path in young)


def test_index_shards_may_hold_what_was_deleted_and_is_in_no_vector_shard(store: LocalStore) -> None:
    entries = tombstone_entries([("long gone", 5)], noted=2_000_000_000)
    change_head(store, tombstones=(TOMBSTONES.store_part(entries, store),), documents=DocumentCounts(6, 4, 1, 1))
    young = unnamed_indexes(store)
    receipt = erase(store, ["long gone", ID])
    assert (sorted(receipt.unproven), receipt.complete) == (sorted(young), False)
    for path in young:
        os.utime(store.root / path, (0, 0))
    again = erase(store, ["long gone"])
    assert ({one.path for one in again.removed}, again.complete) == (set(young), True)


def test_what_was_erased_before_is_in_no_younger_index_shard(store: LocalStore) -> None:
    assert erase(store, [ID]).complete
    unnamed_indexes(store)
    assert erase(store, [ID]).complete
    later = tombstone_entries([(ID, 50)], noted=2_000_000_000)
    change_head(store, tombstones=(TOMBSTONES.store_part(later, store),))
    assert not erase(store, [ID]).complete


def test_nothing_is_left_when_nothing_else_is_live(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make_collection(store)
    publish(store, [[store_shard(store, chunks(ID))]])
    change_head(store, documents=DocumentCounts(1, 1))
    receipt = erase(store, [ID])
    assert (read_head(store).vector_shards, read_head(store).index_shards) == ((), ())
    assert [one.into for one in receipt.rewritten] == [None]
    forgotten(store, receipt)


def letter(document_id: str | None, ordinal: int | None = None, **members: Any) -> DeadLetter:
    chunk = None if ordinal is None else FailedChunk(ordinal, "", f"of {document_id}", "{}", "input", 1)
    stage: Stage = "read" if chunk is None else "embed"
    return DeadLetter(
        stage, "zero-norm", "a detail", "/corpus", document_id=document_id, sequence=3, chunk=chunk, **members
    )


def test_its_dead_letters_go_and_the_others_stay(store: LocalStore) -> None:
    mine, other = [letter(ID, 5), letter(ID, 6), letter(ID)], [letter("other", 5), letter(None, line=3)]
    parts = tuple(store_letters(some, "run", store) for some in ([*mine, *other], mine[:1], other))
    change_head(store, dead_letters=parts, documents=DocumentCounts(9, 4, 1, 0, 4))
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    head = read_head(store)
    assert read_letters(head.dead_letters, ObjectFiles(store)) == [*other, *other]
    # Of the document's letters, one was of a record, and two of one event.
    assert head.documents == DocumentCounts(10, 3, 4, 1, 2)
    assert {one.path for one in receipt.rewritten} >= {parts[0].path, parts[1].path}


def test_records_that_are_kept_in_letters_are_looked_into(store: LocalStore) -> None:
    fields = ("id", "text", "sequence", "deleted")
    whole = letter(None, record=KeptRecord(f'{{"id": "{ID}", "text": 5}}', 1, fields))
    broken = letter(None, record=KeptRecord(f'{{"id": "{ID}", "te', 1, fields), offset=1)
    keyed = letter(None, record=KeptRecord("{}", 1, fields, key=ID), offset=2)
    other = letter(None, record=KeptRecord('{"id": "else"}', 1, fields), offset=3)
    part = store_letters([whole, broken, keyed, other], "run", store)
    change_head(store, dead_letters=(part,), documents=DocumentCounts(9, 4, 1, 0, 4))
    forgotten(store, erase(store, [ID]))
    assert read_letters(read_head(store).dead_letters, ObjectFiles(store)) == [other]


def test_letters_in_the_notes_of_a_block_make_it_anew(store: LocalStore) -> None:
    """The chunk of the document has no row: only the notes of the shard hold it."""
    path = store.scratch() / "block.parquet"
    notes = BlockNotes(1, 0, 1, (letter("lettered only", 0),)).to_metadata()
    write_shard(path, arrange(chunks("in the block")), notes=notes)
    shard = store_vector_shard(path, sha256_of(path), names.vector_shard("0" * 40), store, store.scratch())
    publish(store, [[shard]])
    assert found_in(store, "lettered only")
    receipt = erase(store, ["lettered only"])
    assert receipt.complete
    assert found_in(store, "lettered only") == []
    assert live(store) == {("in the block", 0), ("in the block", 1)}
    served(store)


def seen(name: str, document_id: str | None) -> SeenFile:
    return SeenFile(name, 1, 1, 1, 5, 1, document_id, "text")


def test_its_file_is_forgotten(store: LocalStore) -> None:
    files = [seen("/corpus/a", ID), seen("/corpus/b", "b"), seen("/corpus/c.jsonl", None), seen(ID, None)]
    parts = tuple(SEEN_FILES.store_part(seen_file_entries(some), store) for some in (files[:3], files[3:]))
    change_head(store, files=parts)
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    assert read_seen_files(read_head(store).files, ObjectFiles(store)).keys() == {"/corpus/b", "/corpus/c.jsonl"}


def test_several_documents_at_once(store: LocalStore) -> None:
    receipt = erase(store, [ID, OTHERS[1], "unknown"])
    assert sorted(one.found for one in receipt.documents) == [False, True, True]
    assert live(store) == {(id_, at) for id_ in (OTHERS[0], OTHERS[2]) for at in range(2)}
    assert read_head(store).run.removed == 2
    forgotten_ids = [ID, OTHERS[1]]
    assert [found_in(store, id_) for id_ in forgotten_ids] == [[], []]
    served(store)


def test_an_id_that_nothing_knows_publishes_nothing(store: LocalStore) -> None:
    before = read_head(store)
    receipt = erase(store, ["nobody at all"])
    assert (read_head(store), receipt.complete) == (before, True)
    assert not receipt.documents[0].found
    assert (receipt.rewritten, receipt.retired, receipt.removed) == ((), (), ())


def test_a_second_erasure_finds_nothing_to_do(store: LocalStore) -> None:
    erase(store, [ID])
    before = read_head(store)
    again = erase(store, [ID])
    assert (read_head(store), again.rewritten, again.removed, again.complete) == (before, (), (), True)


def test_no_id_is_refused(store: LocalStore) -> None:
    with pytest.raises(InputError, match="at least one"):
        erase(store, [])


@pytest.mark.parametrize("version", [2, 4])
def test_a_version_that_a_channel_keeps_refuses_it_beforehand(store: LocalStore, version: int) -> None:
    move_channel(store, "prod", version, None)
    before = files_of(store)
    with pytest.raises(ErasureRefused, match=rf"{version} \(channel prod\).*--force"):
        erase(store, [ID])
    assert files_of(store) == before


def test_a_version_on_lease_refuses_it_beforehand(store: LocalStore) -> None:
    with Lease(store, 4, MINUTE, "the fleet"):
        before = files_of(store)
        with pytest.raises(ErasureRefused, match=r"4 \(lease of the fleet\)"):
            erase(store, [ID])
        assert files_of(store) == before


def files_of(store: LocalStore) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file() and ".locks" not in path.parts}


def test_force_moves_the_channels_and_ends_the_leases(store: LocalStore) -> None:
    move_channel(store, "prod", 2, None)
    move_channel(store, "first", 0, None)
    with Lease(store, 4, MINUTE):
        forgotten(store, erase(store, [ID], force=True))
        assert list(store.list(names.LEASES)) == []
    pointed = {name: seen[0].version for name in ("prod", "first", "latest") if (seen := read_channel(store, name))}
    assert pointed == {"prod": 5, "first": 0, "latest": 5}
    moved = read_channel(store, "prod")
    assert moved is not None
    (move,) = moved[0].moves
    assert (move.previous, move.version, move.action) == (2, 5, "erase")
    assert "held documents that were erased" in move.message


def test_a_channel_at_a_version_without_it_stays(store: LocalStore) -> None:
    move_channel(store, "prod", 0, None)
    forgotten(store, erase(store, [ID]))


class Killed(BaseException):
    """In the place of the process's end."""


_CALLS = ("create", "create_from_file", "remove", "swap", "renew")


@dataclass
class Killing:
    """Ends the work before its n-th call that changes the store."""

    monkeypatch: pytest.MonkeyPatch
    calls: int = 0

    def at(self, number: int) -> None:
        self.calls = 0
        for name in _CALLS:
            self.monkeypatch.setattr(LocalStore, name, self._counted(getattr(LocalStore, name), number))

    def _counted(self, method: Callable[..., Any], number: int) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == number:
                raise Killed
            return method(*arguments)

        return counted


@pytest.mark.slow
def test_killed_at_any_call_it_leaves_whole_versions_and_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 200):
        store = small(tmp_path / str(number))
        with monkeypatch.context() as patched:
            Killing(patched).at(number)
            try:
                erase(store, [ID], apart=False)
            except Killed:
                killed = True
            else:
                killed = False
        for version in stored_versions(store):
            assert audit(store, version).problems == ()
        forgotten(store, erase(store, [ID], apart=False))
        if not killed:
            break
    assert 15 < number < 199


def small(root: Path) -> LocalStore:
    store = LocalStore(root)
    make_collection(store, tiers=(16,))
    publish(store, [[store_shard(store, [*chunks(OTHERS[0]), *chunks(ID)])]])
    change_head(store, documents=DocumentCounts(2, 2), dead_letters=(store_letters([letter(ID, 7)], "run", store),))
    change_head(store, documents=DocumentCounts(3, 2, dead_lettered=1))
    return store


def interrupting(monkeypatch: pytest.MonkeyPatch, method: str, work: Callable[[], object]) -> None:
    """Do something once, right before a step of an erasure."""
    step = getattr(erasing._Erasure, method)
    waiting = [work]

    def interrupted(*arguments: Any) -> Any:
        while waiting:
            waiting.pop()()
        return step(*arguments)

    monkeypatch.setattr(erasing._Erasure, method, interrupted)


@pytest.mark.parametrize("step", ["_publish", "_retire", "_remove", "_receipt"])
def test_a_writer_beside_it_loses_nothing_and_resurrects_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def write() -> None:
        shard = store_shard(store, chunks("beside"))
        commit(store, lambda head: adding(store, head, [shard]))

    interrupting(monkeypatch, step, write)
    receipt = erase(store, [ID])
    assert ("beside", 0) in live(store)
    forgotten(store, erase(store, [ID]) if step == "_receipt" else receipt)


def adding(store: LocalStore, head: Manifest, shards: Sequence[VectorShard]) -> Manifest:
    documents = msgspec.structs.replace(
        head.documents, documents_in=head.documents.documents_in + 1, live=head.documents.live + 1
    )
    return msgspec.structs.replace(
        head,
        version=head.version + 1,
        documents=documents,
        vector_shards=(*head.vector_shards, *shards),
        index_shards=(*head.index_shards, *index_shards(store, head.collection, [shards])),
    )


@pytest.mark.parametrize("step", ["_retire", "_remove"])
def test_what_a_writer_publishes_that_holds_it_is_rewritten_too(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its base held the document: its shard has the rows, dead by the deletion that it met."""

    def write() -> None:
        shard = store_shard(store, [*chunks(ID, 1), *chunks("beside")])
        dead = with_dead(store, shard, _rows_of(store, shard, ID))
        commit(store, lambda head: adding(store, head, [dead]))

    interrupting(monkeypatch, step, write)
    forgotten(store, erase(store, [ID]))
    assert ("beside", 1) in live(store)


def test_rows_that_die_while_it_rewrites_stay_dead(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    raced: list[Manifest] = []

    def kill(head: Manifest) -> Manifest:
        shards = list(head.vector_shards)
        shards[2] = with_dead(store, shards[2], _rows_of(store, shards[2], OTHERS[1])[:1])
        return msgspec.structs.replace(head, version=head.version + 1, vector_shards=tuple(shards))

    claim = commit.__globals__["_claim"]

    def racing(store_: LocalStore, head: Manifest, proposal: Manifest) -> None:
        if proposal.run.command == "erase" and not raced:
            raced.append(proposal)
            commit(store, kill)
        claim(store_, head, proposal)

    monkeypatch.setitem(commit.__globals__, "_claim", racing)
    before = live(store)
    forgotten(store, erase(store, [ID]))
    assert raced
    assert before - live(store) == {(ID, 0), (ID, 1), (OTHERS[1], 0)}


def test_a_writer_that_meant_to_publish_what_is_gone_is_refused(store: LocalStore) -> None:
    shard = store_shard(store, [*chunks(ID), *chunks("beside")])

    def change(head: Manifest) -> Manifest:
        proposal = adding(store, head, [shard])
        erase(store, [ID])
        return proposal

    with pytest.raises(CommitConflict, match="was removed before it was published"):
        commit(store, change)
    assert found_in(store, ID) == []


def test_a_damaged_shard_is_named_and_nothing_is_done(store: LocalStore) -> None:
    shard = read_head(store).vector_shards[1]
    path = store.root / shard.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = files_of(store)
    with pytest.raises(Corrupt, match=shard.path):
        erase(store, [ID])
    assert files_of(store) == before


def test_leftovers_that_nobody_can_read_go(store: LocalStore) -> None:
    store.create(names.vector_shard("f" * 40), b"torn")
    store.create(names.dead_letters("run", "f" * 40), b"{")
    receipt = erase(store, [ID])
    forgotten(store, receipt)
    assert {names.vector_shard("f" * 40), names.dead_letters("run", "f" * 40)} <= {one.path for one in receipt.removed}


def test_temporary_files_are_removed_or_told(store: LocalStore) -> None:
    old, new = store.scratch() / "old.tmp", store.scratch() / "new.tmp"
    for path in (old, new):
        path.write_bytes(ID.encode())
    os.utime(old, (0, 0))
    receipt = erase(store, [ID])
    assert (receipt.unproven, receipt.complete) == ((".scratch/new.tmp",), False)
    assert found_in(store, ID) == [new]


def test_characters_of_an_id_elsewhere_are_mentioned(store: LocalStore) -> None:
    text = "the corpus of other-1"
    part = store_letters([DeadLetter("read", "unreadable", text, "/corpus", line=1)], "run", store)
    change_head(store, dead_letters=(part,))
    receipt = erase(store, [OTHERS[1]])
    assert receipt.mentioning == (part.path,)
    assert receipt.complete
    assert read_head(store).dead_letters == (part,)


@pytest.mark.parametrize("document_id", ["erase", "16", "embed", "1", "shards", '"', "\\", "%", "a\nb"])
def test_an_id_that_is_a_word_of_ours_is_no_trouble(store: LocalStore, document_id: str) -> None:
    part = store_letters([letter("other", 5)], "run", store)
    change_head(store, dead_letters=(part,), documents=DocumentCounts(6, 4, 1, 0, 1))
    shard = store_shard(store, chunks(document_id))
    commit(store, lambda head: adding(store, head, [shard]))
    before = live(store)
    receipt = erase(store, [document_id])
    assert receipt.complete
    assert before - live(store) == {(document_id, 0), (document_id, 1)}
    assert read_letters(read_head(store).dead_letters, ObjectFiles(store)) == [letter("other", 5)]
    served(store)
