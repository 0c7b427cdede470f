"""Publishing what upkeep makes: a version like the one before in every document and every row."""

import uuid
from collections.abc import Callable

import msgspec

from index_builder.gate.recall_gates import RecallGates
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.manifest import Manifest, RunRecord
from tierloom.run_report import RunReport, store_report
from tierloom.stores.store import Store

Change = Callable[[Manifest], Manifest]

Check = Callable[[], None]


def _unchecked() -> None:
    """Nothing is against publishing."""


def publish_upkeep(
    command: str, change: Change, store: Store, checkpoint: str | None = None, check: Check = _unchecked
) -> Manifest:
    """Commit what `change` makes of one generation of the head, as a run of `command`; the published manifest.

    `change` is given the head with the generation of `checkpoint` (a fingerprint) in front, and so is the manifest that
    is returned; None is the one that is in front anyway. It need not state version, time and run, and is asked again
    after each lost race; `check` is called right before a version is created (`tierloom.commit`).

    Raises `BelowFloor` when a tier of the generation that serves does not find what it should; `CheckpointMismatch`
    when the head has nothing of the checkpoint (any more).
    """
    changed = publish_change(command, lambda head: change(head.of(checkpoint)).of(head.checkpoint), store, check)
    return changed.of(checkpoint)


def publish_change(command: str, change: Change, store: Store, check: Check = _unchecked) -> Manifest:
    """`publish_upkeep` for what changes the generations themselves: `change` is given the head as it is."""
    record = RunRecord(run=uuid.uuid4().hex, command=command)
    gates = RecallGates(ColumnFiles(store))

    def successor(head: Manifest) -> Manifest | None:
        if head.run.run == record.run:
            return None
        changed = gates.measured(_of_run(change(head), record), head)
        return msgspec.structs.replace(changed, version=head.version + 1, created=now(), writer=writer())

    published = commit(store, successor, check)
    other = record if published.other else None
    store_report(RunReport(record=record, other=other, version=published.version, published=True), store)
    return published


def _of_run(changed: Manifest, record: RunRecord) -> Manifest:
    other = msgspec.structs.replace(changed.other, run=record) if changed.other else None
    return msgspec.structs.replace(changed, run=record, other=other)
