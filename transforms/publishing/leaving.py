"""What a run stored of documents that its cap left then: it is not published, and not lost."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.shards.live import LiveShard
from tierloom.shards.primary_key import Address, find_documents
from transforms.paying import Left
from transforms.publishing.events import Event, event_of


def without_left(left: Left, shards: Sequence[LiveShard]) -> list[LiveShard]:
    """The shards of a run, in which the rows of documents that were left count as dead."""
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for addresses in _begun(left, shards).values():
        for address in addresses:
            rows[address.shard].append(address.row)
    return [shard.without(np.array(rows[at])) if at in rows else shard for at, shard in enumerate(shards)]


def left_in_all(left: Left, shards: Sequence[LiveShard], letters: Iterable[DeadLetter]) -> Left:
    """With those that came in a second time, and were whole then: they are left too.

    Of a document that was left, the first chunk that could not be paid for is not stored: where it is there, it came in
    another time. Later ones may be, which an earlier run had finished.
    """
    if not left.begun:
        return left
    ordinals: defaultdict[Event, Counter[int]] = defaultdict(Counter)
    for event, addresses in _begun(left, shards).items():
        for address in addresses:
            ordinal = shards[address.shard].shard.gather("ordinal", np.array([address.row]))[0]
            ordinals[event][int(ordinal)] += 1
    for letter in letters:
        if letter.chunk and (about := event_of(letter)) in left.begun:
            ordinals[about][letter.chunk.ordinal] += 1
    again = sum(ordinals[event][first] for event, first in left.begun.items())
    return replace(left, documents=left.documents + again)


def _begun(left: Left, shards: Sequence[LiveShard]) -> dict[Event, list[Address]]:
    """Where the rows of these events are."""
    if not left.begun:
        return {}
    found: defaultdict[Event, list[Address]] = defaultdict(list)
    for document_id, addresses in find_documents(shards, {id_: document_key(id_) for id_, _ in left.begun}).items():
        for address in addresses:
            if (document_id, address.sequence) in left.begun:
                found[document_id, address.sequence].append(address)
    return found
