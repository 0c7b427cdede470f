"""A file of records that grows: nothing of it is skipped or taken twice, and another file is never taken for it."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.transforms.streams.taking import ids_of, take, take_until
from tierloom.errors import SourceError, SourceLost
from transforms.reading.records import Fields
from transforms.streams.growing_file import GrowingFile

Open = Callable[..., GrowingFile]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "changes.jsonl"
    file.write_text("")
    return file


@pytest.fixture
def follow(path: Path) -> Iterator[Open]:
    opened: list[GrowingFile] = []

    def opener(positions: Mapping[str, int] | None = None) -> GrowingFile:
        stream = GrowingFile(path, Fields())
        opened.append(stream)
        stream.open(positions, {})
        return stream

    yield opener
    for stream in opened:
        stream.close()


def line(number: int, **more: object) -> str:
    return json.dumps({"id": f"d{number}", "text": f"text {number}", **more}) + "\n"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def ids(first: int, end: int) -> list[str]:
    return [f"d{number}" for number in range(first, end)]


def test_lines_are_taken_as_they_are_appended(path: Path, follow: Open) -> None:
    append(path, line(0) + line(1))
    stream = follow()
    assert ids_of(take(stream, 2).events) == ids(0, 2)
    append(path, line(2) + json.dumps({"id": "d0", "sequence": 7, "deleted": True}) + "\n")
    taken = take(stream, 2)
    assert ids_of(taken.documents) == ["d2"]
    assert [(deletion.document_id, deletion.sequence) for deletion in taken.deletions] == [("d0", 7)]


def test_a_line_is_taken_when_it_is_ended(path: Path, follow: Open) -> None:
    stream = follow()
    whole = line(0) + line(1)
    append(path, whole[:-5])
    assert ids_of(take(stream, 1).events) == ["d0"]
    append(path, whole[-5:])
    assert ids_of(take(stream, 1).events) == ["d1"]


def test_it_goes_on_behind_its_position(path: Path, follow: Open) -> None:
    append(path, "".join(map(line, range(10))) + "\n\n")
    stream = follow()
    first = stream.take(4, 5)
    assert first is not None
    assert ids_of(change.event for change in first.changes) == ids(0, 4)
    rest = take(follow(first.positions), 6)
    assert ids_of(rest.events) == ids(4, 10)
    # Blank lines are passed, too.
    assert rest.positions["offset"] == path.stat().st_size
    append(path, line(10))
    assert ids_of(take(follow(rest.positions), 1).events) == ["d10"]


def test_later_lines_have_higher_sequences_whatever_the_time_of_the_file(path: Path, follow: Open) -> None:
    append(path, line(0) + line(1))
    first = take(follow(), 2)
    append(path, line(0))
    os.utime(path, (1, 1))
    second = take(follow(first.positions), 1)
    sequences = [document.sequence for document in (*first.documents, *second.documents)]
    assert sequences == sorted(set(sequences))
    append(path, line(0, sequence=3))
    assert take(follow(second.positions), 1).documents[0].sequence == 3


def test_unreadable_lines_are_letters_that_tell_their_place(path: Path, follow: Open) -> None:
    lines = [line(0).encode(), b"{broken\n", b'{"text": "no id"}\n', b"caf\xe9\n", b"[1]\n", line(1).encode()]
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    taken = take(follow(), 6)
    assert ids_of(taken.documents) == ["d0", "d1"]
    assert [letter.reason for letter in taken.letters] == [
        "invalid-json",
        "missing-id",
        "invalid-utf8",
        "not-an-object",
    ]
    for letter in taken.letters:
        start = letter.offset or 0
        assert path.read_bytes()[start : start + (letter.length or 0)] in lines
        # It can be read again where it is.
        assert (letter.source, letter.record) == (str(path), None)


def test_a_file_that_is_rewritten_as_it_was_and_more_is_the_same(path: Path, follow: Open) -> None:
    append(path, line(0))
    stream = follow()
    first = take(stream, 1)
    copy = path.with_suffix(".new")
    shutil.copy(path, copy)
    append(copy, line(1))
    copy.replace(path)
    assert ids_of(take(stream, 1).events) == ["d1"]
    assert ids_of(take(follow(first.positions), 1).events) == ["d1"]


def truncate(path: Path) -> None:
    path.write_text("")


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_text("".join(line(number + 100) for number in range(50)))
    other.replace(path)


def overwrite(path: Path) -> None:
    """The same inode, not shorter, other bytes."""
    path.write_text("".join(line(number + 100) for number in range(50)))


def change_the_end(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[:-10] + "X" + text[-9:] + line(9))


@pytest.mark.parametrize("happens", [truncate, shorten, replace, overwrite, change_the_end])
def test_another_file_is_never_read_on(path: Path, follow: Open, happens: Callable[[Path], None]) -> None:
    append(path, "".join(map(line, range(5))))
    stream = follow()
    taken = take(stream, 5)
    happens(path)
    with pytest.raises(SourceLost, match=rf"published up to byte {taken.positions['offset']}, but .*--from-beginning"):
        take(stream, 1)
    with pytest.raises(SourceLost, match="truncated or replaced"):
        follow(taken.positions)
    everything = take(follow(), 0)
    assert len(everything.events) == path.read_text().count("\n")


def test_a_file_that_disappears_is_lost(path: Path, follow: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.streams.growing_file._ABSENT_SECONDS", 0.2)
    append(path, line(0))
    stream = follow()
    taken = take(stream, 1)
    path.unlink()
    with pytest.raises(SourceLost, match="it is no longer there"):
        take(stream, 1)
    with pytest.raises(SourceError, match=r"changes\.jsonl is not a regular file"):
        follow(taken.positions)


def test_a_moment_without_the_file_is_nothing(path: Path, follow: Open) -> None:
    append(path, line(0))
    stream = follow()
    take(stream, 1)
    away = path.rename(path.with_suffix(".away"))
    assert stream.take(10, 0.2) is not None
    append(away, line(1))
    away.rename(path)
    assert ids_of(take(stream, 1).events) == ["d1"]


def test_a_pipe_is_no_growing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(SourceError, match="write a pipe into standard input, and name it -"):
        GrowingFile(tmp_path / "pipe.jsonl", Fields()).open(None, {})


def test_how_much_is_behind(path: Path, follow: Open) -> None:
    stream = follow()
    assert stream.behind() == 0
    append(path, "".join(map(line, range(1000, 2000))))
    assert stream.behind() == 1
    stream.take(100, 5)
    assert stream.behind() == 900


def test_a_writer_at_full_speed(path: Path, follow: Open) -> None:
    """Lines torn at any byte, while others are read: each comes once, in order."""
    text = "".join(line(number, more="ü" * (number % 50)) for number in range(3000)).encode()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for start in range(0, len(text), 997):
                file.write(text[start : start + 997])

    writer = threading.Thread(target=write)
    stream = follow()
    writer.start()
    taken = take_until(stream, lambda taken: len(taken.changes) >= 3000, limit=70)
    writer.join()
    assert ids_of(taken.events) == ids(0, 3000)
    assert all(abs(time.time() - change.arrived) < 30 for change in taken.changes)
