"""The open dead letters of a version: immutable JSONL files that the manifest names."""

from collections.abc import Iterable, Sequence

from tierloom import names
from tierloom.dead_letter import DeadLetter, from_jsonl, to_jsonl
from tierloom.digest import bytes_digest
from tierloom.manifest import DeadLetters
from tierloom.object_files import ObjectFiles
from tierloom.stores.store import Store


def store_letters(letters: Sequence[DeadLetter], run: str, store: Store) -> DeadLetters:
    """Store letters as one part of a run's, named by its content."""
    data = to_jsonl(letters)
    sha256 = bytes_digest(data)
    name = names.dead_letters(run, sha256[:40])
    store.create(name, data)
    return DeadLetters(path=name, bytes=len(data), sha256=sha256, letters=len(letters))


def read_letters(parts: Iterable[DeadLetters], files: ObjectFiles) -> list[DeadLetter]:
    """All letters of these parts. Raises `Corrupt` or `Malformed`."""
    return [letter for part in parts for letter in from_jsonl(files.path(part).read_bytes(), part.path)]
