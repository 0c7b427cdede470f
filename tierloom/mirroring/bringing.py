"""Having every object of a version in a mirror: what is there and sound is kept, the rest is fetched."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from tierloom.errors import TierloomError
from tierloom.manifest import VectorShard
from tierloom.mirroring.fetching import (
    Fetcher,
    OnProgress,
    Progress,
    Stopped,
    free_bytes,
    part_name,
    room_named,
    too_full,
)
from tierloom.mirroring.hollow import check_hollow, hole_bytes
from tierloom.mirroring.mirror import Mirror
from tierloom.mirroring.wanted import Wanted
from tierloom.shards.writer import sha256_of
from tierloom.stored_object import StoredObject
from tierloom.stores.local import SCRATCH, LocalStore
from tierloom.stores.store import Store

_REQUESTS: Final = 8


@dataclass(frozen=True, slots=True)
class Brought:
    """What came and what was there; `hollow` maps the vector shards that lack their full vectors to their sha256."""

    fetched: Progress
    kept_objects: int
    kept_bytes: int
    hollow: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _There:
    """An object in the mirror: not at all (`sha256` is None), or with this hash."""

    stored: StoredObject
    sha256: str | None


def bring(
    store: Store, local: LocalStore, want: Wanted, mirror: Mirror, hole: int | None, on_progress: OnProgress | None
) -> Brought:
    """Have `want` in `local`, every byte checked. `hole` is the dimensions of the full vectors if they are left out.

    Raises `StoreError` before anything is fetched when there is no room for it.
    """
    there = _look(local, want, mirror, hole)
    missing = [one.stored for one in there if one.sha256 is None]
    needed = {stored.path: _bytes_to_come(local, stored, hole) for stored in missing}
    expected = Progress(0, 0, len(missing), sum(needed.values()))
    if expected.bytes_in_all > free_bytes(local.root):
        raise too_full(local, expected.bytes_in_all)
    fetcher = Fetcher(store, local, expected, on_progress)
    with room_named(local, lambda: expected.bytes_in_all - fetcher.progress.bytes):
        came = _fetch_all(fetcher, missing, hole)
    kept = [one.stored for one in there if one.sha256 is not None]
    found = {one.stored.path: one.sha256 for one in there if one.sha256 not in (None, one.stored.sha256)}
    hollow = {path: sha256 for path, sha256 in (found | came).items() if sha256 is not None}
    return Brought(fetcher.progress, len(kept), sum(stored.bytes for stored in kept), hollow)


def _look(local: LocalStore, want: Wanted, mirror: Mirror, hole: int | None) -> list[_There]:
    """What of each object is there. Every byte is read: what was damaged since is fetched again."""

    def look(stored: StoredObject) -> _There:
        if local.size(stored.path) != stored.bytes:
            return _There(stored, None)
        found = sha256_of(local.root / stored.path)
        if found == stored.sha256:
            return _There(stored, found)
        if hole is None or not isinstance(stored, VectorShard):
            return _There(stored, None)
        return _There(stored, found if _is_hollow(local, stored, found, mirror) else None)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(look, want.objects))


def _is_hollow(local: LocalStore, stored: VectorShard, found: str, mirror: Mirror) -> bool:
    """Whether a file whose hash this is is the shard without its full vectors; a pull that was killed noted none."""
    if mirror.hollow_sha256(stored.path) == found:
        return True
    try:
        check_hollow(stored, local.root / stored.path)
    except TierloomError:
        return False
    return True


def _bytes_to_come(local: LocalStore, stored: StoredObject, hole: int | None) -> int:
    if hole is not None and isinstance(stored, VectorShard):
        return stored.bytes - hole_bytes(stored, hole)
    part = local.root / SCRATCH / part_name(stored)
    return max(0, stored.bytes - (part.stat().st_size if part.exists() else 0))


def _fetch_all(fetcher: Fetcher, missing: Sequence[StoredObject], hole: int | None) -> dict[str, str | None]:
    """Fetch several objects at a time; the first that fails ends it. The hashes of the shards that are hollow."""

    def fetch(stored: StoredObject) -> str | None:
        if hole is not None and isinstance(stored, VectorShard):
            return fetcher.fetch_hollow(stored)
        fetcher.fetch(stored)
        return None

    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="pull") as pool:
        under_way = {stored.path: pool.submit(fetch, stored) for stored in missing}
        try:
            wait(under_way.values(), return_when=FIRST_EXCEPTION)
            for future in under_way.values():
                if future.done() and not isinstance(future.exception(), (Stopped, type(None))):
                    future.result()
        finally:
            fetcher.stop()
            pool.shutdown(cancel_futures=True)
    return {path: future.result() for path, future in under_way.items()}
