"""Ending the building of a generation whose documents came from their sources: is all there?"""

import uuid
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
import numpy as np
import pyarrow.compute as pc

from index_builder.gate.recall_gate import RecallGate
from index_builder.reembedding.beginning import COMMAND
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit, now, writer
from tierloom.document import document_key
from tierloom.errors import InputError
from tierloom.letters import read_letters
from tierloom.manifest import KEY_UNITS, Manifest, RunRecord
from tierloom.run_report import RunReport, store_report
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import live_sequences
from tierloom.shards.schema import ROW_GROUP_ROWS
from tierloom.stores.store import Store

_SHOWN = 3


def complete_generation(store: Store, checkpoint: str, check: Callable[[], None] = lambda: None) -> Manifest:
    """Publish that a generation is complete, once it has every document of the other one, and its tiers reach their
    floor. `check` is called before, and raises what forbids it.

    Raises `InputError` that names documents which it lacks; `BelowFloor` or `NotMatryoshka`.
    """
    files = ColumnFiles(store)
    gate = RecallGate(files)
    record = RunRecord(run=uuid.uuid4().hex, command=COMMAND)

    def successor(head: Manifest) -> Manifest | None:
        generation = head.of(checkpoint)
        if generation.is_complete or head.run.run == record.run:
            return None
        _refuse_missing(generation, files)
        whole = msgspec.structs.replace(generation, reached=KEY_UNITS, run=record)
        measured = gate.measured(whole, generation)
        check()
        version = {"version": head.version + 1, "created": now(), "writer": writer()}
        return msgspec.structs.replace(head, run=record, **version).with_generation(measured.own)

    head = commit(store, successor)
    if head.run.run == record.run:
        store_report(RunReport(record=record, other=record, version=head.version, published=True), store)
    return head


def _refuse_missing(generation: Manifest, files: ColumnFiles) -> None:
    source = generation.turned(generation.other) if generation.other else generation
    missing = list(islice(missing_documents(source, generation, files), _SHOWN + 1))
    if missing:
        named = ", ".join(map(repr, missing[:_SHOWN])) + (" and more" if len(missing) > _SHOWN else "")
        raise InputError(
            f"the new generation lacks {named}, which no source that was given holds in its newest form; the chunking "
            "changes, so texts are taken from the sources: name all that the collection was made of"
        )


def missing_documents(source: Manifest, target: Manifest, files: ColumnFiles) -> Iterator[str]:
    """The documents of one generation that another one lacks at their sequence: neither live nor dead there."""
    there = [LiveShard(shard, files) for shard in target.vector_shards]
    dead = {(letter.document_id, letter.sequence) for letter in read_letters(target.dead_letters, files)}
    for stored in source.vector_shards:
        live = LiveShard(stored, files)
        rows = np.flatnonzero(live.alive)
        for begin in range(0, len(rows), ROW_GROUP_ROWS):
            yield from _missing_of(live, rows[begin : begin + ROW_GROUP_ROWS], there, dead)


def _missing_of(
    live: LiveShard, rows: np.ndarray, there: list[LiveShard], dead: set[tuple[str | None, int | None]]
) -> Iterator[str]:
    ids, sequences = live.ids(rows), live.shard.gather("sequence", rows).tolist()
    events = dict(zip(ids.to_pylist(), sequences, strict=True))
    newest = live_sequences(there, {id_: document_key(id_) for id_ in pc.unique(ids).to_pylist()})
    for document_id, sequence in events.items():
        if newest.get(document_id, sequence - 1) < sequence and (document_id, sequence) not in dead:
            yield document_id
