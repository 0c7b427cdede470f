"""Leases: who reads an old version, or works on a new one, says so, and nothing that they need is removed.

A lease is a small object with an end, moved on by its holder until it is let go. A reader first takes the lease, then
renews the manifest; whoever retires versions lists the manifests first, then the leases, and removes a manifest only
if it was not renewed meanwhile. So either the lease is seen, or the manifest stays, or the reader finds it gone and
takes a newer one. Who works on a new version states since when: no object that is younger is removed.
"""

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Literal

import msgspec

from tierloom import names
from tierloom.errors import InputError, RevisionMismatch, StoreError
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Listed, Revision, Store

FORMAT: Final = 1
SHORTEST: Final = timedelta(seconds=3)
# The clocks of holders and of those who remove what nobody holds may differ by this much.
CLOCK_SKEW: Final = timedelta(minutes=5)

_RENEWALS: Final = 3
_log = logging.getLogger(__name__)


class LeaseRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored of a lease. `expires` and `working_since` are seconds since 1970; the latter is None for who
    only reads. `serial` rises with every renewal, so no two states have equal bytes."""

    version: Count
    holder: str
    expires: float
    serial: Count = 0
    working_since: float | None = None
    format: Literal[1] = FORMAT

    def expired(self, now: float) -> bool:
        return self.expires + CLOCK_SKEW.total_seconds() < now


class Lease:
    """A version that is kept while this is held. A context manager; a thread renews it until it is closed.

    `lost` is set when it could not be renewed in time, and its version was retired.
    """

    def __init__(
        self, store: Store, version: int, duration: timedelta, holder: str = "", working: bool = False
    ) -> None:
        """Raises `InputError` when there is no such version (any more), or `duration` is under three seconds."""
        if duration < SHORTEST:
            raise InputError(f"a lease of {duration} is too short to be renewed in time; the shortest is {SHORTEST}")
        self.version = version
        self.lost = False
        self._store = store
        self._duration = duration
        began = _now()
        self._record = LeaseRecord(version, holder or this_process(), 0, 0, began if working else None)
        self._process = os.getpid()
        self._name = names.lease(secrets.token_hex(16))
        self._revision: Revision | None = None
        self._closing = threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of the version. In a forked child nothing: it is the parent's, who renews it."""
        if os.getpid() != self._process:
            return
        self._closing.set()
        # A store that is out of reach may hold it up: the lease then ends by itself.
        self._thread.join(timeout=5)
        with contextlib.suppress(StoreError):
            self._remove()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> None:
        self._renew()
        if not self._store.renew(names.manifest(self.version)):
            self._remove()
            url = self._store.url
            raise InputError(f"{url} has no version {self.version}, or none any more; see tierloom history {url}")

    def _renew(self) -> None:
        expires = _now() + self._duration.total_seconds()
        self._record = msgspec.structs.replace(self._record, expires=expires, serial=self._record.serial + 1)
        self._revision = self._store.swap(self._name, seal(self._record), self._revision)

    def _remove(self) -> None:
        for listed in self._store.list(self._name):
            self._store.remove(listed)

    def _keep_renewing(self) -> None:
        while not self._closing.wait(self._duration.total_seconds() / _RENEWALS):
            try:
                self._renew_or_retake()
            except InputError:
                self.lost = True
                _log.warning("the lease on version %d of %s was lost", self.version, self._store.url)
                return
            except StoreError as error:
                _log.warning("the lease on version %d was not renewed, and is tried again: %s", self.version, error)

    def _renew_or_retake(self) -> None:
        try:
            self._renew()
        except RevisionMismatch:
            # It had expired, and was removed; or a renewal came through whose answer did not.
            found = self._store.read_revision(self._name)
            self._revision = found[1] if found else None
            self._take()


def lease_newest(
    store: Store, newest: Callable[[], int], duration: timedelta, holder: str = "", working: bool = False
) -> Lease:
    """A lease on the version that `newest` finds, asked again where that was retired in the same moment."""
    while True:
        version = newest()
        try:
            return Lease(store, version, duration, holder, working)
        except InputError:
            if newest() == version:
                raise


def leases(store: Store) -> Iterator[tuple[Listed, LeaseRecord]]:
    """Every lease that there is, expired ones too. Raises `Corrupt` or `Malformed`."""
    for listed in store.list(names.LEASES):
        # One that was let go of meanwhile is none.
        if (found := store.read_revision(listed.name)) is not None:
            yield listed, unseal(found[0], LeaseRecord, listed.name, FORMAT)


def this_process() -> str:
    """How a holder is named for people: host and process."""
    return f"{socket.gethostname()} pid {os.getpid()}"


def _now() -> float:
    return datetime.now(UTC).timestamp()
