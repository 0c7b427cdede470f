"""Collections of two generations: the same documents under two checkpoints, each with its tiers and its gate.

The second one's vectors have as many dimensions as the first one's, and nothing to do with them: whoever mixed the two
would not be stopped by a shape.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from tests.embedders.endpoint import vector_of
from tests.measured import gate_of
from tests.small_shards import CHECKPOINT, Row, collection_of, index_shards, make_collection, store_shard
from tierloom import names
from tierloom.checkpoint import Checkpoint, Endpoint
from tierloom.commit import commit
from tierloom.gate import Gate
from tierloom.manifest import KEY_UNITS, DocumentCounts, Generation, Manifest, RunRecord
from tierloom.shards.schema import ShardSchema
from tierloom.stores.store import Store

OLD = CHECKPOINT
NEW = msgspec.structs.replace(OLD, space=msgspec.structs.replace(OLD.space, model="another-test-model"))
TIERS = (4, 8, 16)


def generation(
    store: Store,
    groups: Sequence[Sequence[Row]],
    checkpoint: Checkpoint = NEW,
    tiers: Sequence[int | str] = TIERS,
    reached: int = KEY_UNITS,
    gate: Gate | None = None,
) -> Generation:
    """A stored generation: one vector shard and one index shard a tier for each group of rows. Its gate says by default
    that every tier is safe from 50 on; one that is not complete has none. Rows without a vector get one of their own
    for each checkpoint."""
    collection = msgspec.structs.replace(collection_of(checkpoint, tiers), untrained_prefixes=True)
    schema = ShardSchema(checkpoint.fingerprint, checkpoint.space.dimensions, collection.prefix_dimensions)
    shards = [store_shard(store, [_drawn(row, checkpoint) for row in rows], schema) for rows in groups]
    documents = len({row.document_id for rows in groups for row in rows})
    store.create(names.checkpoint(checkpoint.fingerprint), checkpoint.to_bytes())
    safe = gate_of(store, {tier.name: 50 for tier in collection.tiers})
    return Generation(
        collection=collection,
        run=RunRecord(run=f"run-of-{checkpoint.space.model}", command="test"),
        vector_shards=tuple(shards),
        index_shards=index_shards(store, collection, [[shard] for shard in shards]),
        documents=DocumentCounts(documents_in=documents, live=documents),
        gate=(gate or safe) if reached == KEY_UNITS else gate,
        reached=reached,
    )


def publish_both(store: Store, front: Generation | None = None, other: Generation | None = None) -> Manifest:
    """The next version: with these generations. Without a front, that of the newest stays; without another, there is
    none."""

    def change(head: Manifest) -> Manifest:
        turned = head if front is None else msgspec.structs.replace(head, other=None).turned(front)
        return msgspec.structs.replace(turned, version=head.version + 1, other=other)

    return commit(store, change)


def rows_of(name: str, count: int = 60) -> list[Row]:
    """Documents of one chunk each, that say which version they are of."""
    return [Row(f"{name}-{at}", text=f"text {at} of {name}") for at in range(count)]


def two_generations(store: Store, old: Checkpoint = OLD, new: Checkpoint = NEW) -> Manifest:
    """Version 1 has the documents `one-`; 2 has `two-`, under the old checkpoint in front and, complete, under the new
    one; so has 3 with `three-`. The newest manifest."""
    make_collection(store, old, TIERS, noise=True)
    publish_both(store, generation(store, [rows_of("one")], old))
    for name in ("two", "three"):
        rows = [rows_of(name)]
        last = publish_both(store, generation(store, rows, old), generation(store, rows, new))
    return last


# What both generations of a collection that is asked answer, and how far apart.
QUESTIONS = 40
SHIFT = 7


def asked_generations(store: Store, old: Checkpoint, new: Checkpoint) -> Manifest:
    """Version 1: under the old checkpoint question i is answered by document i, under the new one by i + SHIFT, with a
    score of 1 each; whoever crossed the two would find anything, with a low one. `prod` is not there yet."""
    make_collection(store, old, TIERS, noise=True)
    generations = [
        generation(
            store,
            [[Row(f"{(at + shift) % QUESTIONS}", vector=_answering(at, checkpoint)) for at in range(QUESTIONS)]],
            checkpoint,
        )
        for checkpoint, shift in ((old, 0), (new, SHIFT))
    ]
    return publish_both(store, *generations)


def question(at: int) -> str:
    return f"question {at}"


def query_vector(at: int, checkpoint: Checkpoint) -> tuple[float, ...]:
    """What the model of a checkpoint makes of question `at`."""
    return _answering(at, checkpoint)


def asked_checkpoints(base_url: str, variable: str = "TIERLOOM_TEST_KEY") -> tuple[Checkpoint, Checkpoint]:
    """Both checkpoints at a loopback endpoint; prompts make their models differ. The new one needs a key."""
    old = msgspec.structs.replace(OLD, endpoint=Endpoint(base_url))
    prompted = msgspec.structs.replace(NEW.space, query_prompt="new: ")
    return old, msgspec.structs.replace(NEW, space=prompted, endpoint=Endpoint(base_url, variable))


def _answering(at: int, checkpoint: Checkpoint) -> tuple[float, ...]:
    text = checkpoint.space.query_prompt + question(at)
    return tuple(vector_of(text, checkpoint.space.dimensions).tolist())


def _drawn(row: Row, checkpoint: Checkpoint) -> Row:
    if row.vector is not None:
        return row
    seed = zlib.crc32(f"{checkpoint.fingerprint} {row.document_id} {row.ordinal} {row.text}".encode())
    drawn = np.random.default_rng(seed).standard_normal(checkpoint.space.dimensions)
    return replace(row, vector=tuple(drawn.tolist()))
