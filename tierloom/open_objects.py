"""What is open of the objects of one store: versions that name the same object share it."""

import threading
import weakref
from collections.abc import Iterable
from itertools import chain

from tierloom.described_rows import DescribedRows
from tierloom.forking import remake_in_children
from tierloom.index_reader import IndexReader
from tierloom.manifest import IndexShard, Manifest
from tierloom.object_files import ObjectFiles


class OpenObjects:
    """Files, mapped vector shards and open index shards. Safe to use from several threads, and after a fork."""

    def __init__(self, files: ObjectFiles) -> None:
        self.files = files
        self.described = DescribedRows()
        # An index shard is open for as long as a version holds its reader.
        self._readers: weakref.WeakValueDictionary[IndexShard, IndexReader] = weakref.WeakValueDictionary()
        self._setting = threading.Lock()
        remake_in_children(self._remake)

    def reader(self, shard: IndexShard) -> IndexReader:
        """An index shard, open. Raises `NotFound`, `Corrupt` or `Malformed`."""
        if (reader := self._readers.get(shard)) is None:
            aliases = self.files.path(shard.aliases) if shard.aliases else None
            reader = IndexReader(shard, self.files.path(shard), aliases)
            # Of two threads that opened it at once, both take the first one's.
            with self._setting:
                reader = self._readers.setdefault(shard, reader)
        return reader

    def keep(self, open_ones: Iterable[Manifest], at_hand: Iterable[Manifest] = ()) -> None:
        """Unmap what none of the open versions names, and let go of the copies of what neither they nor those that
        are to be at hand name."""
        held = list(open_ones)
        self.described.keep({stored.path for manifest in held for stored in manifest.vector_shards})
        self.files.unmap_all_but(*(manifest.vector_shards for manifest in held))
        self.files.keep(*(manifest.objects() for manifest in chain(held, at_hand)))

    def _remake(self) -> None:
        self._setting = threading.Lock()
