"""An erasure of a collection with two generations: the document goes from both, in one version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from index_builder.upkeep import erase as erasing
from index_builder.upkeep.erase import erase
from index_builder.upkeep.retire import retire
from tests.index_builder.upkeep.erased import found_in
from tests.index_builder.upkeep.living import SECOND, Living
from tests.small_shards import CHECKPOINT, Row, index_shards, store_shard
from tierloom.commit import commit
from tierloom.dead_letter import DeadLetter, FailedChunk
from tierloom.letters import read_letters, store_letters
from tierloom.manifest import Manifest
from tierloom.object_files import ObjectFiles
from tierloom.shards.schema import ShardSchema
from tierloom.stores.local import LocalStore
from tierloom.tombstones import Tombstones

ID = "customer/4711 ü"
FIRST, OTHER = CHECKPOINT.fingerprint, SECOND.fingerprint


@pytest.fixture
def living(tmp_path: Path) -> Living:
    """The document is in two shards of the first generation, and in two of the second: dead, and alive."""
    living = Living(LocalStore(tmp_path / "store"))
    living.put({ID: 2, "a": 3, "b": 1})
    living.begin()
    living.put({ID: 3, "c": 2})
    living.put({"d": 1})
    return living


def forgotten(living: Living) -> None:
    assert isinstance(living.store, LocalStore)
    assert found_in(living.store, ID) == []
    living.erased([ID])
    living.check()


def test_it_goes_from_both_in_one_version(living: Living) -> None:
    before = living.head
    receipt = erase(living.store, [ID])
    assert receipt.complete
    forgotten(living)
    head = living.head
    assert (head.version, head.checkpoints) == (before.version + 1, before.checkpoints)
    replaced = {one.path for one in receipt.rewritten}
    for was, now in zip(before.generations, head.generations, strict=True):
        assert len({shard.path for shard in was.vector_shards} & replaced) == 2
        assert set(receipt.rebuilt) & {index.path for index in now.index_shards}
        assert (now.run.run, now.run.command, now.run.removed) == (head.run.run, "erase", 1)
        assert now.documents.documents_in == was.documents.documents_in + 1
        assert now.documents.live == was.documents.live - 1
        assert now.gate
    assert set(receipt.retired) == set(range(1, head.version))
    assert Tombstones(head.tombstones, ObjectFiles(living.store)).sequence_of(ID) == 2
    again = erase(living.store, [ID])
    assert (living.head, again.removed, again.complete) == (head, (), True)


def test_one_that_is_being_built_may_not_have_it(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path / "building"))
    living.put({ID: 2, "a": 3})
    living.begin(reached=0)
    living.put({"b": 1})
    before = living.head.of(OTHER)
    assert erase(living.store, [ID]).complete
    forgotten(living)
    after = living.head.of(OTHER)
    assert (after.vector_shards, after.reached, after.gate) == (before.vector_shards, 0, None)
    assert (after.run.removed, after.documents.deleted) == (0, before.documents.deleted + 1)
    assert after.documents.adds_up
    living.reach()
    living.check()


def test_what_was_deleted_and_came_back_is_counted_alike_by_one_that_lacks_it(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path / "building"))
    living.put({ID: 2, "a": 3})
    assert erase(living.store, [ID]).complete
    living.erased([ID])
    living.put({ID: 1})
    living.begin(reached=0)
    assert erase(living.store, [ID]).complete
    forgotten(living)
    front, other = (generation.documents for generation in living.head.generations)
    assert front.deleted == other.deleted == 2
    assert other.adds_up


def test_only_one_that_is_being_built_has_it(living: Living) -> None:
    """A row that was copied from what is dead by now."""
    schema = ShardSchema(OTHER, 24, 12)
    late = store_shard(living.store, [Row("only there", sequence=1)], schema)

    def change(head: Manifest) -> Manifest:
        other = head.of(OTHER)
        built = index_shards(living.store, other.collection, [[late]])
        grown = msgspec.structs.replace(
            other, vector_shards=(*other.vector_shards, late), index_shards=(*other.index_shards, *built)
        )
        return msgspec.structs.replace(head.with_generation(grown), version=head.version + 1)

    commit(living.store, change)
    front = living.head.own
    assert erase(living.store, ["only there"]).complete
    assert isinstance(living.store, LocalStore)
    assert found_in(living.store, "only there") == []
    assert living.head.vector_shards == front.vector_shards
    assert living.head.run.command == "erase"
    assert living.head.documents.deleted == front.documents.deleted + 1
    assert (living.head.run.removed, living.head.of(OTHER).run.removed) == (0, 1)


def letter(document_id: str, ordinal: int) -> DeadLetter:
    failed = FailedChunk(ordinal, "", f"of {document_id}", "{}", "input", 1)
    return DeadLetter("embed", "zero-norm", "a detail", "/corpus", document_id=document_id, sequence=9, chunk=failed)


def test_its_letters_go_from_both(living: Living) -> None:
    mine, others = [letter(ID, 1), letter(ID, 2)], [letter("e", 1)]
    shared = store_letters([*mine, *others], "run", living.store)
    own = store_letters(mine[:1], "run", living.store)

    def change(head: Manifest) -> Manifest:
        changed = head
        for generation, parts, dead in ((head.own, (shared,), 2), (head.of(OTHER).own, (own, shared), 2)):
            counts = generation.documents
            counts = msgspec.structs.replace(counts, documents_in=counts.documents_in + dead, dead_lettered=dead)
            changed = changed.with_generation(msgspec.structs.replace(generation, dead_letters=parts, documents=counts))
        return msgspec.structs.replace(changed, version=head.version + 1)

    commit(living.store, change)
    assert erase(living.store, [ID]).complete
    forgotten(living)
    for generation in living.head.generations:
        assert read_letters(generation.dead_letters, ObjectFiles(living.store)) == others
        assert (generation.documents.dead_lettered, generation.documents.adds_up) == (1, True)


def test_young_leftovers_are_searched_by_the_codes_of_their_own_generation(living: Living) -> None:
    """The code of a row of shorter prefixes may well be the beginning of another one in a larger tier."""
    pattern = (1.0, -1.0, 0.0, 1.0, 1.0, -1.0, 0.0, 0.0, -1.0, 1.0, -1.0, -1.0)
    mine = store_shard(living.store, [Row(ID, 9, 50, vector=(*pattern, *[0.0] * 12))], ShardSchema(OTHER, 24, 12))
    guilty = index_shards(living.store, living.head.of(OTHER).collection, [[mine]])
    gone = store_shard(living.store, [Row("gone", vector=(*pattern, *[0.0] * 20))])
    innocent = index_shards(living.store, living.head.collection, [[gone]])[-1]
    living.store.fetch(gone.path, Path()).unlink()
    assert innocent.tier == "16"
    removed = {one.path for one in erase(living.store, [ID]).removed}
    assert {mine.path, *(index.path for index in guilty)} <= removed
    assert living.store.size(innocent.path)
    forgotten(living)


def interrupting(monkeypatch: pytest.MonkeyPatch, method: str, work: Callable[[], object]) -> None:
    """Do something once, right before a step of an erasure."""
    step, waiting = getattr(erasing._Erasure, method), [work]

    def interrupted(*arguments: Any) -> Any:
        while waiting:
            waiting.pop()()
        return step(*arguments)

    monkeypatch.setattr(erasing._Erasure, method, interrupted)


@pytest.mark.parametrize("step", ["_publish", "_retire", "_remove"])
def test_a_newer_event_that_is_published_meanwhile_goes_as_well(
    living: Living, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def write() -> None:
        living.erased([ID] if step != "_publish" else [])
        living.put({ID: 1, "beside": 2})

    interrupting(monkeypatch, step, write)
    assert erase(living.store, [ID]).complete
    forgotten(living)
    assert Tombstones(living.head.tombstones, ObjectFiles(living.store)).sequence_of(ID) == 4


@pytest.mark.parametrize("step", ["_publish", "_retire", "_remove"])
@pytest.mark.parametrize("gone", [FIRST, OTHER])
def test_a_generation_that_is_retired_meanwhile(
    living: Living, monkeypatch: pytest.MonkeyPatch, step: str, gone: str
) -> None:
    interrupting(monkeypatch, step, lambda: retire(living.store, gone))
    assert erase(living.store, [ID]).complete
    forgotten(living)
    assert len(living.head.checkpoints) == 1


class Killed(BaseException):
    """In the place of the process's end."""


@pytest.mark.slow
def test_killed_at_any_change_of_the_store_it_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 300):
        living = Living(LocalStore(tmp_path / str(number)), tiers=(16,))
        living.put({ID: 1, "a": 1})
        living.begin(tiers=(12,))
        with monkeypatch.context() as patched:
            killing(patched, number)
            try:
                erase(living.store, [ID], apart=False)
            except Killed:
                killed = True
            else:
                killed = False
        erase(living.store, [ID], apart=False)
        forgotten(living)
        if not killed:
            break
    assert 20 < number < 299


def killing(patched: pytest.MonkeyPatch, number: int) -> None:
    """Ends the work before its n-th call that changes the store."""
    calls = iter(range(1, 1000))

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(calls) == number:
                raise Killed
            return method(*arguments)

        return call

    for name in ("create", "create_from_file", "remove", "swap", "renew"):
        patched.setattr(LocalStore, name, counted(getattr(LocalStore, name)))
