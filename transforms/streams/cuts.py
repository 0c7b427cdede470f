"""Where the reader of a partition ended its spans: a worker that takes over ends them at the same places.

Then what it makes of a span has the name that it had before, and what was paid for is found. A cut is stored before
anything is paid for; those that are behind the cursor are garbage.
"""

from contextlib import suppress
from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.digest import digest_of
from tierloom.errors import AlreadyExists, NotFound
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Store

FORMAT: Final = 1


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A span ends before the position `stop`."""

    stop: Count
    format: Literal[1] = FORMAT


class Cuts:
    """The cuts of one source."""

    def __init__(self, store: Store, source: str) -> None:
        self._store = store
        self._source = source

    def after(self, partition: str, start: int) -> int | None:
        """Where the span that begins at `start` was ended; None if nobody did."""
        name = self._name(partition, start)
        try:
            return unseal(self._store.read(name), Cut, name, FORMAT).stop
        except NotFound:
            return None

    def note(self, partition: str, start: int, stop: int) -> None:
        """A span is ended. The first cut stays: the other only costs what is paid twice."""
        with suppress(AlreadyExists):
            self._store.create(self._name(partition, start), seal(Cut(stop)))

    def _name(self, partition: str, start: int) -> str:
        return names.cut(digest_of("cut", self._source, partition, start))
