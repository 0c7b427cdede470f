"""Which dead letters are open after a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tierloom.dead_letter import DeadLetter
from tierloom.document import document_key
from tierloom.letters import read_letters, store_letters
from tierloom.live_shard import LiveShard
from tierloom.manifest import DeadLetters, Manifest
from tierloom.object_files import ObjectFiles
from tierloom.primary_key import find_documents
from tierloom.stores.store import Store


@dataclass(frozen=True, slots=True)
class LetterChanges:
    """`kept` parts stay as they are, `rewritten` letters make a new one; `changed` tells if that is any change.

    `dead` counts the documents of which open letters speak and nothing lives; `outdated` those of which
    letters were dropped because a newer event of theirs lives.
    """

    kept: tuple[DeadLetters, ...]
    rewritten: tuple[DeadLetter, ...]
    changed: bool
    dead: int
    outdated: int

    def store(self, run: str, store: Store) -> tuple[DeadLetters, ...]:
        """The parts of the next manifest."""
        return (*self.kept, store_letters(self.rewritten, run, store)) if self.rewritten else self.kept


def change_letters(
    received: Iterable[DeadLetter],
    retried: Iterable[DeadLetter],
    head: Manifest,
    shards: Sequence[LiveShard],
    files: ObjectFiles,
) -> LetterChanges:
    """Open what a run `received`, close what it `retried` with success, drop what newer events outdated.

    `shards` are those of the head and of the run together.
    """
    opened = {part.path: read_letters([part], files) for part in head.dead_letters}
    letters = {letter.letter_id: letter for part in opened.values() for letter in part}
    fresh = {letter.letter_id: letter for letter in received if letter.letter_id not in letters}
    closed = {letter.letter_id for letter in retried} - {letter.letter_id for letter in received}
    candidates = [letter for id_, letter in (letters | fresh).items() if id_ not in closed]
    outdated = {letter.letter_id: letter for letter in _outdated(candidates, shards)}
    gone = (closed & letters.keys()) | outdated.keys()
    touched = {path for path, part in opened.items() if any(letter.letter_id in gone for letter in part)}
    moved = {letter.letter_id: letter for path in touched for letter in opened[path]} | fresh
    return LetterChanges(
        kept=tuple(part for part in head.dead_letters if part.path not in touched),
        rewritten=tuple(letter for id_, letter in moved.items() if id_ not in gone),
        changed=bool(touched or fresh.keys() - gone),
        dead=count_dead([letter for letter in candidates if letter.letter_id not in outdated], shards),
        outdated=count_dead(outdated.values(), shards),
    )


def count_dead(letters: Iterable[DeadLetter], shards: Sequence[LiveShard]) -> int:
    """Documents and records of which letters speak and nothing lives."""
    letters = list(letters)
    return sum(letter.chunk is None for letter in letters) + len(dead_events(letters, shards))


def dead_events(letters: Iterable[DeadLetter], shards: Sequence[LiveShard]) -> frozenset[tuple[str, int]]:
    """The (document_id, sequence) that letters of chunks speak of and that have no live row in any shard."""
    events = {
        (letter.document_id, letter.sequence)
        for letter in letters
        if letter.chunk and letter.document_id is not None and letter.sequence is not None
    }
    found = find_documents(shards, {document_id: document_key(document_id) for document_id, _ in events})
    return frozenset(events - {(id_, address.sequence) for id_, addresses in found.items() for address in addresses})


def _outdated(letters: Sequence[DeadLetter], shards: Sequence[LiveShard]) -> list[DeadLetter]:
    ids = {letter.document_id for letter in letters if letter.document_id is not None}
    found = find_documents(shards, {document_id: document_key(document_id) for document_id in ids})
    newest = {id_: max(address.sequence for address in addresses) for id_, addresses in found.items()}
    return [
        letter
        for letter in letters
        if letter.sequence is not None and newest.get(letter.document_id or "", letter.sequence) > letter.sequence
    ]
