"""What a version remembers besides its rows: deletions, files that were read, and how far streams have come."""

import time
from collections.abc import Mapping, Sequence

from tierloom.commit import now
from tierloom.errors import SourceHeld
from tierloom.manifest import Cursor, LedgerPart, Manifest
from tierloom.object_files import ObjectFiles
from tierloom.seen_files import SEEN_FILES, SeenFile, read_seen_files, seen_file_entries
from tierloom.tombstones import TOMBSTONES, tombstone_entries
from transforms.publishing.outcome import CursorMove


def remember_deletions(head: Manifest, deletions: Mapping[str, int], files: ObjectFiles) -> tuple[LedgerPart, ...]:
    """The head's tombstones with these deletions; those that are older than the retention are forgotten."""
    noted = int(time.time())
    entries = tombstone_entries(deletions.items(), noted)
    return TOMBSTONES.add(
        head.tombstones, entries, files.store, files, forget_before=noted - head.retention.deletions_seconds
    )


def newly_seen(head: Manifest, base: int | None, seen: Sequence[SeenFile], files: ObjectFiles) -> list[SeenFile]:
    """Those of the files that the head has not seen as they are. They are news to the version `base`."""
    if not seen or base in (None, head.version):
        return list(seen)
    known = read_seen_files(head.files, files)
    return [file for file in seen if known.get(file.name) != file]


def remember_files(head: Manifest, seen: Sequence[SeenFile], files: ObjectFiles) -> tuple[LedgerPart, ...]:
    """The files that the head has seen, with these."""
    return SEEN_FILES.add(head.files, seen_file_entries(seen), files.store, files)


def with_cursor(head: Manifest, move: CursorMove | None) -> tuple[Cursor, ...]:
    """The head's cursors with one moved, if it is not there already. Raises `SourceHeld` when it is no longer where
    the stream took it up."""
    if move is None:
        return head.cursors
    held = head.cursor_of(move.source)
    if held is not None and held.positions == move.after:
        return head.cursors
    if held is not None and held.positions != move.before:
        raise SourceHeld(
            f"{move.source} is read by another stream too: {held.holder} moved its cursor to {held.positions} "
            f"at {held.moved}, while this one went on from {move.before}; stop one of them, then start again"
        )
    moved = Cursor(source=move.source, positions=dict(move.after), holder=move.holder, moved=now())
    return (*(cursor for cursor in head.cursors if cursor is not held), moved)
