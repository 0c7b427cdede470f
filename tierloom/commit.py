"""The commit loop: a new version is a manifest created if absent; who loses the race decides again."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version as package_version

import msgspec

from tierloom import names
from tierloom.channel import move_channel, read_channel
from tierloom.errors import AlreadyExists, CommitConflict, InputError, RevisionMismatch
from tierloom.manifest import Manifest
from tierloom.manifest_checks import checked_manifest
from tierloom.stores.store import Store
from tierloom.versions import read_head, read_manifest

# Each lost race means that another writer made progress.
MAX_RACES = 100

_AT_ONCE = 16


def commit(
    store: Store, change: Callable[[Manifest], Manifest | None], check: Callable[[], None] = lambda: None
) -> Manifest:
    """Publish what `change` makes of the newest manifest; return the published manifest.

    `change` is given the head and answers with its successor (but for `parent`, which is set here), or None when
    there is nothing to publish: then the head is returned. It is asked again after each lost race, with the new
    head. `check` is called right before a version is created, and what it raises ends the commit (`tierloom.turn`).
    Raises `CommitConflict` after `MAX_RACES` lost races, or when an object that the successor names is not there any
    more, and whatever `checked_manifest` has against the successor.
    """
    for _ in range(MAX_RACES):
        head = read_head(store)
        proposal = change(head)
        if proposal is None:
            return head
        if proposal.version != head.version + 1:
            raise CommitConflict(f"version {proposal.version} proposed on top of {head.version}")
        proposal = msgspec.structs.replace(proposal, parent=head.digest())
        _claim(store, head, proposal)
        check()
        try:
            store.create(names.manifest(proposal.version), _readable(proposal))
        except AlreadyExists:
            continue
        if _is_in_the_chain(store, proposal):
            advance_latest(store, proposal.version)
            return proposal
        _take_back(store, proposal)
    raise CommitConflict(f"{store.url}: lost {MAX_RACES} races for the next version; fewer writers would help")


def _claim(store: Store, head: Manifest, proposal: Manifest) -> None:
    """Make what a proposal adds as young as it is: no maintenance removes it before the version is there.

    Raises `CommitConflict` when some of it is gone: what no version names is not kept for ever.
    """
    known = {stored.path for stored in head.objects()}
    added = [stored.path for stored in proposal.objects() if stored.path not in known]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="claim") as pool:
        found = list(pool.map(store.renew, added))
    if gone := [path for path, there in zip(added, found, strict=True) if not there]:
        raise CommitConflict(
            f"{gone[0]} (one of {len(gone)} objects) was removed before it was published: this run took longer than "
            "the grace period of `tierloom gc`; run it again, and the next gc with a longer --grace"
        )


def _is_in_the_chain(store: Store, created: Manifest) -> bool:
    """Whether a created manifest is a version, and not one in a hole that retired versions have left.

    A writer that slept for long between reading the head and creating its successor may find the number of that
    free again.
    """
    seen = read_channel(store, names.LATEST)
    if seen is None or seen[0].version <= created.version:
        return True
    try:
        return read_manifest(store, created.version + 1).parent == created.digest()
    except InputError:
        return False


def _take_back(store: Store, created: Manifest) -> None:
    for listed in store.list(names.manifest(created.version)):
        store.remove(listed)


def _readable(manifest: Manifest) -> bytes:
    """The bytes of a manifest, if readers will take them: one that they refuse would lock everyone out for good."""
    data = manifest.to_bytes()
    checked_manifest(data, manifest.version)
    return data


def advance_latest(store: Store, version: int) -> None:
    """Move `latest` forward to `version`, unless it is there or further already."""
    while True:
        seen = read_channel(store, names.LATEST)
        if seen is not None and seen[0].version >= version:
            return
        with contextlib.suppress(RevisionMismatch):
            move_channel(store, names.LATEST, version, seen)
            return


def now() -> str:
    """The present moment as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def writer() -> str:
    """The program that writes, as manifests name it."""
    return f"tierloom {package_version('tierloom')}"
