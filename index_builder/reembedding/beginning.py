"""Beginning a second generation: a version that says what it is to be, and holds nothing of it yet."""

import uuid
from collections.abc import Callable

import msgspec

from tierloom import names
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Collection
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.errors import InputError
from tierloom.letters import read_letters, store_letters
from tierloom.manifest import DocumentCounts, Generation, Manifest, RunRecord
from tierloom.run_report import RunReport, store_report
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store
from tierloom.versions import read_checkpoint

COMMAND = "reembed"


def begin_generation(
    store: Store, checkpoint: Checkpoint, collection: Collection, check: Callable[[], None] = lambda: None
) -> Manifest:
    """Publish a version that has a second generation of this collection, which is to be built; the newest version if
    that has it already. `check` is called before, and raises what forbids it.

    Raises `InputError` when there are two generations already, and it is not the same one that is being built.
    """
    probe_preconditions(store)
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    record = RunRecord(run=uuid.uuid4().hex, command=COMMAND)

    def successor(head: Manifest) -> Manifest | None:
        refuse_unfit_generation(store, head, collection)
        if collection.checkpoint in head.checkpoints:
            return None
        check()
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            created=now(),
            writer=writer(),
            run=record,
            other=_empty(head, collection, record, store),
        )

    head = commit(store, successor)
    if head.run.run == record.run:
        store_report(RunReport(record=record, version=head.version, published=True), store)
    return head


def refuse_unfit_generation(store: Store, head: Manifest, collection: Collection) -> None:
    """Raise `InputError` when a version has no place for a generation of this collection."""
    if collection.checkpoint in head.checkpoints:
        refuse_other_plans(store, head.of(collection.checkpoint), collection)
    else:
        refuse_third(store, head)


def refuse_third(store: Store, head: Manifest) -> None:
    """Raise `InputError` when a collection has two generations already."""
    if head.other is None:
        return
    one, two = (read_checkpoint(store, checkpoint).space.model for checkpoint in head.checkpoints)
    state = "being built" if not head.other.is_complete else "kept current"
    raise InputError(
        f"{store.url} has two generations already: {one}, and {two}, which is {state} (since {began_at(head)}); "
        f"retire one of them first: tierloom retire {store.url} --checkpoint {two}"
    )


def began_at(head: Manifest) -> str:
    """When a version with two generations was published, for people."""
    return head.created


def refuse_other_plans(store: Store, generation: Manifest, wanted: Collection) -> None:
    """Raise `InputError` when the generation that is there was begun with other tiers or another chunking."""
    there = generation.collection
    for what, mine, its in (
        ("tiers", [tier.name for tier in wanted.tiers], [tier.name for tier in there.tiers]),
        ("chunking", wanted.chunking, there.chunking),
    ):
        if mine != its:
            raise InputError(
                f"the generation of checkpoint {there.checkpoint} was begun with {what} {_said(its)}, not "
                f"{_said(mine)}; go on with those, or throw it away first: tierloom retire {store.url} --checkpoint "
                f"{there.checkpoint[:12]} --force"
            )


def _said(plan: object) -> str:
    if isinstance(plan, list):
        return ",".join(plan)
    return ", ".join(f"{name} {value}" for name, value in msgspec.to_builtins(plan).items())


def _empty(head: Manifest, collection: Collection, record: RunRecord, store: Store) -> Generation:
    """A generation that holds nothing but what no model has to do with: deletions, and the letters of records that
    could not be read."""
    deleted = head.documents.deleted
    letters = [each for each in read_letters(head.dead_letters, ColumnFiles(store)) if each.chunk is None]
    return Generation(
        collection=collection,
        run=record,
        dead_letters=(store_letters(letters, record.run, store),) if letters else (),
        documents=DocumentCounts(documents_in=len(letters) + deleted, deleted=deleted, dead_lettered=len(letters)),
        reached=0,
    )
