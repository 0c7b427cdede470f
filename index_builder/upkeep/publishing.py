"""Publishing what upkeep makes: a version like the one before in every document and every row."""

import uuid
from collections.abc import Callable

import msgspec

from index_builder.gate.recall_gate import RecallGate
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.manifest import Manifest, RunRecord
from tierloom.run_report import RunReport, store_report
from tierloom.stores.store import Store


def publish_upkeep(command: str, change: Callable[[Manifest], Manifest], store: Store) -> Manifest:
    """Commit what `change` makes of the head, as a run of `command`; the published manifest.

    `change` need not state version, time and run. It is asked again after each lost race (`tierloom.commit`). Raises
    `BelowFloor` when a tier does not find what it should.
    """
    record = RunRecord(run=uuid.uuid4().hex, command=command)
    gate = RecallGate(ColumnFiles(store))

    def successor(head: Manifest) -> Manifest | None:
        if head.run.run == record.run:
            return None
        changed = gate.measured(change(head), head)
        return msgspec.structs.replace(changed, version=head.version + 1, created=now(), writer=writer(), run=record)

    published = commit(store, successor)
    store_report(RunReport(record=record, version=published.version, published=True), store)
    return published
