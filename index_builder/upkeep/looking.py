"""Looking into one object for documents."""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from index_builder.upkeep.naming import Ids
from tierloom import names
from tierloom.collection import is_tier_name, parse_tier_name
from tierloom.column_files import ColumnFiles
from tierloom.dead_letter import DeadLetter, from_jsonl
from tierloom.digest import bytes_digest
from tierloom.errors import Malformed, NotFound
from tierloom.ledger import read_part
from tierloom.manifest import VectorShard
from tierloom.quantizer import binary_codes
from tierloom.seen_files import SEEN_FILES
from tierloom.shards.columns import ShardColumns
from tierloom.shards.mapped import MappedShard
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import StoredObject
from tierloom.stores.file_failures import gone_is_not_found
from tierloom.stores.store import Listed, Store

_JSON: Final = (
    names.MANIFESTS,
    names.CHANNELS,
    names.CHECKPOINTS,
    names.RUNS,
    names.LEASES,
    names.TURNS,
    names.ERASURES,
    names.PROBES,
    names.CUTS,
    names.DRAFTS,
)
LOOKED_INTO: Final = (names.VECTOR_SHARDS, names.DEAD_LETTERS, names.SEEN_FILES, *_JSON)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in an object: whether it holds something of the documents, which of them were `found`, and the
    newest sequences of those; or whether the characters of an id are `said` in it, which may be by chance."""

    name: str
    bytes: int
    sha256: str
    holds: bool = False
    said: bool = False
    found: frozenset[str] = frozenset()
    sequences: dict[str, int] = field(default_factory=dict)


class Looker:
    """Looks into objects of one store. Safe to use from several threads. `embedded` are the documents of which rows
    were found: their codes are known."""

    def __init__(self, store: Store, ids: Ids) -> None:
        self._store = store
        self._ids = ids
        # The codes of rows that were found: int8 (P,) each, as bytes.
        self._codes: set[bytes] = set()
        self.embedded: set[str] = set()

    def look(self, listed: Listed, stored: StoredObject | None) -> Look | None:
        """What an object says; `stored` is what a version says of it, if one does. None if it is gone.

        Raises `Corrupt` or `Malformed` for one that a version names. One that none does and that nobody can read
        counts as holding the documents.
        """
        try:
            with self._folder_for(listed) as folder:
                return self._look(listed, stored, folder)
        except NotFound:
            return None
        except (Malformed, msgspec.ValidationError):
            if stored is not None or listed.name.startswith(_JSON):
                raise
            return Look(listed.name, listed.bytes, "", holds=True)

    def _look(self, listed: Listed, stored: StoredObject | None, folder: Path) -> Look:
        if listed.name.startswith(names.VECTOR_SHARDS):
            return self._look_at_shard(listed, stored, folder)
        if listed.name.startswith(names.SEEN_FILES):
            return self._look_at_ledger(listed, folder)
        data = self._store.read(listed.name)
        if listed.name.startswith(names.DEAD_LETTERS):
            return self._look_at_letters(listed, data)
        return Look(listed.name, len(data), bytes_digest(data), said=self._ids.said_in(data))

    def look_for_codes(self, listed: Listed) -> Look | None:
        """Whether an index shard has the code of a row that was found; None if it is gone, or no index shard."""
        tier = listed.name.split("/")[1]
        if not listed.name.endswith(".usearch") or not is_tier_name(tier):
            return None
        codes = self._codes_in(tier)
        try:
            with self._folder_for(listed) as folder:
                path = self._store.fetch(listed.name, folder)
                return Look(listed.name, listed.bytes, sha256_of(path), holds=_any_in(codes, path))
        except NotFound:
            return None

    def _codes_in(self, tier: str) -> set[bytes]:
        """What the rows that were found have as codes in the tier of this name. Generations store prefixes of different
        lengths: what has fewer dimensions is in no such tier, and its beginning alone might be found by chance."""
        dimensions, kind = parse_tier_name(tier)
        prefixes = (np.frombuffer(code, np.int8)[np.newaxis] for code in self._codes if len(code) >= dimensions)
        return {
            (binary_codes(prefix, dimensions) if kind == "binary" else prefix[:, :dimensions]).tobytes()
            for prefix in prefixes
        }

    @contextmanager
    def _folder_for(self, listed: Listed) -> Iterator[Path]:
        """Where to fetch an object to; it raises `NotFound` for one that others remove while it is looked at."""
        with TemporaryDirectory(dir=self._store.scratch(), prefix="look-") as folder, gone_is_not_found(listed.name):
            yield Path(folder)

    def _look_at_shard(self, listed: Listed, stored: StoredObject | None, folder: Path) -> Look:
        if isinstance(stored, VectorShard):
            return self._seen(listed, stored.sha256, ColumnFiles(self._store, folder).shard(stored))
        path = self._store.fetch(listed.name, folder)
        return self._seen(listed, sha256_of(path), MappedShard(path, listed.name))

    def _seen(self, listed: Listed, sha256: str, shard: ShardColumns) -> Look:
        rows, letters = self._ids.rows_of(shard), self._ids.letters_in_notes(shard)
        self._codes |= {code.tobytes() for code in shard.gather("prefix", rows)}
        ids = shard.read(("document_id",), rows)["document_id"].to_pylist() if len(rows) else []
        self.embedded.update(ids)
        events = [*zip(ids, shard.gather("sequence", rows).tolist(), strict=True), *_events(letters)]
        return self._look_of(listed, sha256, letters, events)

    def _look_at_ledger(self, listed: Listed, folder: Path) -> Look:
        path = self._store.fetch(listed.name, folder)
        entries = read_part(path, listed.name, SEEN_FILES.schema)
        ours = entries.filter(pa.array(self._ids.in_entries(entries))).to_pylist()
        events = [(id_, entry["sequence"]) for entry in ours for id_ in (entry["name"], entry["document_id"])]
        return self._look_of(listed, sha256_of(path), (), events)

    def _look_at_letters(self, listed: Listed, data: bytes) -> Look:
        letters = [letter for letter in from_jsonl(data, listed.name) if self._ids.in_letter(letter)]
        look = self._look_of(listed, bytes_digest(data), letters, list(_events(letters)))
        return look if look.holds else replace(look, said=self._ids.said_in(data))

    def _look_of(
        self, listed: Listed, sha256: str, letters: Sequence[DeadLetter], events: Sequence[tuple[str | None, int]]
    ) -> Look:
        newest = _newest((id_, sequence) for id_, sequence in events if id_ in self._ids.every)
        found = frozenset(newest).union(*(self._ids.in_letter(letter) for letter in letters))
        return Look(listed.name, listed.bytes, sha256, bool(events or letters), found=found, sequences=newest)


def _events(letters: Iterable[DeadLetter]) -> Iterator[tuple[str, int]]:
    return (
        (letter.document_id, letter.sequence)
        for letter in letters
        if letter.document_id is not None and letter.sequence is not None
    )


def _newest(events: Iterable[tuple[str | None, int]]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for document_id, sequence in events:
        if document_id is None:
            continue
        newest[document_id] = max(sequence, newest.get(document_id, sequence))
    return newest


def _any_in(codes: Iterable[bytes], path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(code) >= 0 for code in codes)
