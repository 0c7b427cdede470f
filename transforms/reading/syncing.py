"""Making the contents of sources the truth: what is no longer in them is to be deleted.

Every row of a vector shard knows the source that it came from. So what a file held is found without any list of it:
of a file that is gone all that came from it, of a file of records that changed what came from it and is not in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tierloom.document import Deletion, source_key
from tierloom.errors import SyncRefused
from tierloom.seen_files import GONE, SeenFile
from tierloom.shards.live import LiveShard, of_each
from transforms.read import read_split
from transforms.reading.listing import covers
from transforms.reading.records import Fields
from transforms.reading.seeing import gone
from transforms.reading.sources import Plan
from transforms.reading.splits import Split


@dataclass(frozen=True, slots=True)
class Sync:
    """What is no longer in the sources: deletions, and files that are gone. `kept` are files of which nothing is
    deleted, because a record in them could not be read."""

    deletions: tuple[Deletion, ...]
    gone: tuple[SeenFile, ...]
    kept: tuple[str, ...]


def plan_sync(
    sources: Sequence[str], plan: Plan, seen: Mapping[str, SeenFile], shards: Sequence[LiveShard], fields: Fields
) -> Sync:
    """What to delete so that of the `sources` only lives what `plan` found in them.

    `shards` and `seen` are those of the version that the plan was made against. Files of records that changed are
    read here for their ids.
    """
    lost = _lost_files(sources, plan, seen)
    changed = _changed_record_files(plan)
    present = {uri: _ids_in(splits, fields) for uri, splits in changed.items()}
    readable = {uri: ids for uri, ids in present.items() if ids is not None}
    live = _live_documents(shards, [*(file.name for file in lost), *readable])
    deletions = {
        document_id: sequence + 1
        for uri, documents in live.items()
        for document_id, sequence in documents.items()
        if document_id not in readable.get(uri, frozenset())
    }
    still = {file.name for file in plan.found}
    return Sync(
        deletions=tuple(Deletion(*item) for item in sorted(deletions.items()) if item[0] not in still),
        gone=tuple(gone(file, max(live.get(file.name, {}).values(), default=file.sequence) + 1) for file in lost),
        kept=tuple(sorted(changed.keys() - readable.keys())),
    )


def refuse_excess(sync: Sync, live_documents: int, most: float) -> None:
    """Raise `SyncRefused` when the deletions are more than the share `most` of what lives."""
    if len(sync.deletions) > most * live_documents:
        share = len(sync.deletions) / live_documents
        example = ", ".join(repr(deletion.document_id) for deletion in sync.deletions[:3])
        raise SyncRefused(
            f"the sync would delete {len(sync.deletions):,} of {live_documents:,} documents ({share:.0%}; {example} "
            f"...), more than {most:.0%}: is a source missing or cut short? If not, allow it with --delete-at-most "
            "or --force"
        )


def _lost_files(sources: Sequence[str], plan: Plan, seen: Mapping[str, SeenFile]) -> list[SeenFile]:
    """The files below the sources that were seen once and are not found now."""
    found = {file.uri for file in plan.found}
    return [
        file
        for file in seen.values()
        if file.size != GONE and file.name not in found and any(covers(source, file.name) for source in sources)
    ]


def _changed_record_files(plan: Plan) -> dict[str, list[Split]]:
    """The parts of each file of records that is read, each part as a split of its own."""
    parts: dict[str, list[Split]] = {}
    for split in plan.splits:
        for part in split.parts:
            if part.document_id is None:
                parts.setdefault(part.uri, []).append(Split((part,), part.length))
    return parts


def _ids_in(splits: Iterable[Split], fields: Fields) -> Set[str] | None:
    """The ids of all records; None if one has no id that can be read: then it is not known who is missing."""
    ids: set[str] = set()
    for event in (event for split in splits for event in read_split(split, fields)):
        if event.document_id is None:
            return None
        # Of a letter's document it is not known whether it is deleted: then it stays.
        if not isinstance(event, Deletion):
            ids.add(event.document_id)
    return ids


def _live_documents(shards: Sequence[LiveShard], sources: Iterable[str]) -> dict[str, dict[str, int]]:
    """The documents that came from each of these sources, with their sequences."""
    names = {source_key(source): source for source in sources}
    keys = np.array(sorted(names), dtype=np.uint64)
    found: dict[str, dict[str, int]] = {}
    for rows in of_each(lambda shard: list(_rows_from(shard, keys)), shards) if names else ():
        for source, document_id, sequence in rows:
            found.setdefault(names[source], {})[document_id] = sequence
    return found


def _rows_from(shard: LiveShard, keys: np.ndarray) -> Iterator[tuple[int, str, int]]:
    sources = shard.shard.column("source")
    rows = np.flatnonzero(np.isin(sources, keys) & shard.alive)
    if not len(rows):
        return iter(())
    ids: pa.ChunkedArray = shard.shard.read(("document_id",), rows)["document_id"]
    return zip(sources[rows].tolist(), ids.to_pylist(), shard.shard.gather("sequence", rows).tolist(), strict=True)
