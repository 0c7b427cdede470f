"""The gate: no version is published whose tiers do not find what an exact search finds."""

import time
from contextlib import suppress
from typing import Final

import msgspec
import numpy as np

from index_builder.gate.addressed import AddressedRows
from index_builder.gate.answers import Answers
from index_builder.gate.asking import Asked, Asking
from index_builder.gate.quality import Judge
from index_builder.gate.refusing import refuse_below_floor, refuse_other_models
from index_builder.gate.sample import QUERIES, Sample, drawn_sample
from index_builder.probing.prefixes import MOST_ROWS, probe_prefixes
from index_builder.sampling import sample_live
from tierloom import names
from tierloom.column_files import ColumnFiles
from tierloom.digest import bytes_digest
from tierloom.errors import Corrupt, Malformed, NotFound
from tierloom.gate import Gate, PrefixProbe
from tierloom.index_reader import IndexReader
from tierloom.manifest import IndexShard, Manifest
from tierloom.search import TierShard
from tierloom.shards.live import LiveShard
from tierloom.shards.live_shards import LiveShards
from tierloom.stored_object import StoredObject
from tierloom.stores.store import Store

# A sample stays until the collection has so many times the chunks that it was drawn from, or until less than this
# share of its chunks is left.
_GROWTH: Final = 2
_LEFT: Final = 0.75

# Answers are stored again when this share of the live rows was asked since; and never where they would take more than
# this share of the bytes of the vectors.
_NEW: Final = 0.2
_WORTH: Final = 0.2

_SEED: Final = 0

_DAMAGED: Final = (Corrupt, Malformed, NotFound)


class RecallGate:
    """Measures version after version of one collection. For one thread.

    What was measured is kept, here and now and then in the store, so that the next measurement asks only what is new.
    """

    def __init__(self, files: ColumnFiles) -> None:
        self._files = files
        self._store = files.store
        self._shards = LiveShards(files)
        self._positions: dict[str, int] = {}
        self._sample: tuple[StoredObject, Sample] | None = None
        self._answers: Answers | None = None
        self._kept = frozenset[str]()

    def measured(self, proposal: Manifest, head: Manifest, refuse: bool = True) -> Manifest:
        """The proposal with its gate; `head` is the version that it follows.

        Raises `BelowFloor` when a tier has no safe shortlist, and `NotMatryoshka` when a tier is cut from vectors that
        do not front-load; without `refuse` that is only noted, and no channel is promoted to it.
        """
        began = time.perf_counter()
        if (gate := proposal.gate) and _same_rows(proposal, head) and gate.floor == proposal.collection.recall_floor:
            return proposal
        measured = self._measure(proposal)
        if measured is not None:
            measured = msgspec.structs.replace(measured, seconds=round(time.perf_counter() - began, 6))
            if refuse:
                refuse_other_models(measured.probes, proposal.collection)
                refuse_below_floor(measured)
        return msgspec.structs.replace(proposal, gate=measured)

    def _measure(self, proposal: Manifest) -> Gate | None:
        gate = proposal.gate
        if not proposal.live_chunks:
            given = gate is not None and gate.source == "given"
            return msgspec.structs.replace(gate, tiers=(), exact=None, answers=None) if gate and given else None
        shards = self._shards.opened(proposal.vector_shards)
        self._positions = {shard.path: at for at, shard in enumerate(proposal.vector_shards)}
        if gate is None:
            return self._anew(proposal, shards)
        sample = self._sample_of(gate)
        if sample is None or _outgrown(sample, proposal.live_chunks):
            return self._anew(proposal, shards)
        asked = Asking(proposal, shards, sample, self._open_index).after(self._answers_of(gate))
        if asked.present.sum() < _LEFT * len(sample):
            return self._anew(proposal, shards)
        return self._figures(proposal, shards, sample, gate.sample, asked)

    def _anew(self, proposal: Manifest, shards: list[LiveShard]) -> Gate:
        """With a sample drawn from what lives now."""
        sample = drawn_sample(shards, QUERIES, _SEED)
        stored = put(sample.to_bytes(), self._store)
        asked = Asking(proposal, shards, sample, self._open_index).after(None)
        self._kept = frozenset()
        return self._figures(msgspec.structs.replace(proposal, gate=None), shards, sample, stored, asked)

    def _figures(
        self, proposal: Manifest, shards: list[LiveShard], sample: Sample, stored: StoredObject, asked: Asked
    ) -> Gate:
        collection = proposal.collection
        judge = Judge(asked, sample, proposal.live_chunks, AddressedRows(shards))
        self._sample, self._answers = (stored, sample), asked.answers
        probes = proposal.gate.probes if proposal.gate else ()
        return Gate(
            floor=collection.recall_floor,
            source=sample.source,
            queries=int(asked.present.sum()),
            seed=_SEED,
            tiers=tuple(
                judge.tier(tier, asked.answers.tiers[tier.name], collection.recall_floor) for tier in collection.tiers
            ),
            sample=stored,
            answers=self._keep(asked.answers, proposal),
            exact=judge.exact() if sample.judged else None,
            probes=probes + self._probes_of(proposal, {*(one.dimensions for one in probes), asked.vectors.shape[1]}),
        )

    def _probes_of(self, proposal: Manifest, known: set[int]) -> tuple[PrefixProbe, ...]:
        """Of the sizes of tiers that are not `known`: those that were probed, and the native one."""
        sizes = sorted({tier.dimensions for tier in proposal.collection.tiers} - known)
        if not sizes:
            return ()
        return probe_prefixes(sample_live(proposal, self._files, MOST_ROWS, _SEED).gather("vector"), sizes, _SEED)

    def _keep(self, answers: Answers, proposal: Manifest) -> StoredObject | None:
        """Answers are stored again when much has come since, unless there is so little that asking anew is as good."""
        new = sum(shard.live_rows for shard in proposal.vector_shards if shard.path not in self._kept)
        if new < _NEW * proposal.live_chunks:
            return proposal.gate.answers if proposal.gate else None
        if answers.size > _WORTH * sum(shard.bytes for shard in proposal.vector_shards):
            return None
        self._kept = frozenset(answers.shards)
        return put(answers.to_bytes(), self._store)

    def _sample_of(self, gate: Gate) -> Sample | None:
        """None when it is damaged and can be drawn anew. Raises `Corrupt` for queries that only their owner has."""
        if self._sample is None or self._sample[0] != gate.sample:
            self._answers = None
            try:
                path = self._files.path(gate.sample)
                self._sample = gate.sample, Sample.from_bytes(path.read_bytes(), gate.sample.path)
            except _DAMAGED as error:
                if gate.source == "held-out":
                    return None
                raise Corrupt(
                    f"{error}; these are the queries that the tiers are measured by: give them again with `tierloom "
                    "gate STORE --queries FILE`, or measure by held-out chunks with --held-out"
                ) from error
        return self._sample[1]

    def _answers_of(self, gate: Gate) -> Answers | None:
        """What was kept; None when nothing was, or it is damaged: then everything is asked anew."""
        if self._answers is None and gate.answers is not None:
            with suppress(*_DAMAGED):
                path = self._files.path(gate.answers)
                self._answers = Answers.from_bytes(path.read_bytes(), gate.answers.path)
                self._kept = frozenset(self._answers.shards)
        return self._answers

    def _open_index(self, shard: IndexShard) -> TierShard:
        aliases = self._files.path(shard.aliases) if shard.aliases else None
        reader = IndexReader(shard, self._files.path(shard), aliases)
        return TierShard(reader, np.array([self._positions[path] for path in shard.vector_shards], dtype=np.int64))


def put(data: bytes, store: Store) -> StoredObject:
    """Store what a gate keeps."""
    sha256 = bytes_digest(data)
    stored = StoredObject(path=names.gate(sha256[:40]), bytes=len(data), sha256=sha256)
    store.create(stored.path, data)
    return stored


def _outgrown(sample: Sample, live: int) -> bool:
    return sample.source == "held-out" and live >= _GROWTH * sample.drawn_from


def _same_rows(proposal: Manifest, head: Manifest) -> bool:
    return (
        proposal.vector_shards == head.vector_shards
        and proposal.index_shards == head.index_shards
        and proposal.gate == head.gate
        and proposal.reached == head.reached
    )
