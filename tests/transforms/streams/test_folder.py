"""A watched folder: whatever happens to its files, while it is watched and while it is not."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transforms.streams.taking import Taken, ids_of, seen_after, take, take_until
from tierloom.errors import SourceError, SyncRefused
from tierloom.seen_files import GONE, SeenFile
from transforms.reading.records import Fields
from transforms.streams.folder import FolderStream
from transforms.streams.stream import ChangeStream

Watch = Callable[..., FolderStream]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(root: Path) -> Iterator[Watch]:
    opened: list[FolderStream] = []

    def opener(seen: dict[str, SeenFile] | None = None, delete_at_most: float = 0.2) -> FolderStream:
        stream = FolderStream(root, Fields(), delete_at_most)
        opened.append(stream)
        stream.open(None, seen or {})
        return stream

    yield opener
    for stream in opened:
        stream.close()


def write(path: Path, text: str, age: float = 60) -> Path:
    """A file that was changed `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def rest(stream: ChangeStream) -> Taken:
    """What comes until nothing waits any more: the watcher has seen all that happened before."""
    quiet: list[bool] = []

    def settled(taken: Taken) -> bool:
        quiet.append(not (taken.batches and taken.batches[-1].changes) and not stream.behind())
        return len(quiet) > 8 and all(quiet[-8:])

    return take_until(stream, settled)


def test_what_lies_in_the_folder_is_read_once(root: Path, watch: Watch) -> None:
    write(root / "a.md", "# Alpha\n\none")
    write(root / "sub/b.txt", "beta")
    write(root / ".hidden/c.md", "hidden")
    write(root / ".d.md", "hidden")
    write(root / "e.png", "no text")
    taken = take(watch(), 2)
    assert taken.texts == [("docs/a.md", "# Alpha\n\none"), ("docs/sub/b.txt", "beta")]
    assert [document.sequence for document in taken.documents] == [
        (root / name).stat().st_mtime_ns for name in ("a.md", "sub/b.txt")
    ]
    assert taken.files.keys() == {str(root / "a.md"), str(root / "sub/b.txt")}
    assert take(watch(taken.files), 0).events == []


def test_what_happens_while_it_is_watched(root: Path, watch: Watch) -> None:
    write(root / "a.md", "alpha")
    write(root / "b.md", "beta")
    stream = watch()
    take(stream, 2)
    (root / "a.md").write_text("alpha two")
    (root / "b.md").unlink()
    (root / "new").mkdir()
    (root / "new/c.md").write_text("gamma")
    (root / ".hidden.md").write_text("hidden")
    (root / "d.bin").write_text("no text")
    taken = take(stream, 3)
    assert sorted(taken.texts) == [("docs/a.md", "alpha two"), ("docs/new/c.md", "gamma")]
    assert ids_of(taken.deletions) == ["docs/b.md"]
    assert taken.files[str(root / "b.md")].size == GONE
    assert all(abs(change.arrived - time.time()) < 10 for change in taken.changes)


def test_a_renamed_file_is_another_document_before_the_old_one_goes(root: Path, watch: Watch) -> None:
    write(root / "old.md", "same")
    stream = watch()
    first = take(stream, 1)
    (root / "old.md").rename(root / "new.md")
    taken = take(stream, 2)
    assert ids_of(taken.events) == ["docs/new.md", "docs/old.md"]
    assert taken.texts == [("docs/new.md", "same")]
    assert taken.deletions[0].sequence > first.documents[0].sequence


def test_a_renamed_folder_renames_what_is_in_it(root: Path, watch: Watch) -> None:
    for name in ("a", "b", "deep/c"):
        write(root / f"one/{name}.md", name)
    stream = watch()
    take(stream, 3)
    (root / "one").rename(root / "two")
    taken = take(stream, 6)
    assert sorted(ids_of(taken.documents)) == ["docs/two/a.md", "docs/two/b.md", "docs/two/deep/c.md"]
    assert sorted(ids_of(taken.deletions)) == ["docs/one/a.md", "docs/one/b.md", "docs/one/deep/c.md"]
    (root / "two/a.md").write_text("changed")
    assert take(stream, 1).texts == [("docs/two/a.md", "changed")]


def test_a_folder_moved_in_or_out_is_read_or_forgotten(root: Path, watch: Watch, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"elsewhere/x/{number}.md", str(number))
    stream = watch()
    (tmp_path / "elsewhere").rename(root / "here")
    assert sorted(ids_of(take(stream, 3).documents)) == [f"docs/here/x/{number}.md" for number in range(3)]
    (root / "here").rename(tmp_path / "there")
    assert len(take(stream, 3).deletions) == 3


def test_an_older_file_that_is_put_back_wins(root: Path, watch: Watch) -> None:
    path = write(root / "a.md", "new", age=60)
    stream = watch()
    first = take(stream, 1)
    write(path, "old", age=3600)
    second = take(stream, 1)
    assert (second.documents[0].text, second.documents[0].sequence) == ("old", first.documents[0].sequence + 1)
    path.unlink()
    third = take(stream, 1)
    write(path, "older", age=7200)
    fourth = take(stream, 1)
    sequences = [taken.changes[0].event.sequence for taken in (first, second, third, fourth)]
    assert sequences == sorted(set(sequences), key=lambda sequence: sequence or 0)


def test_what_happened_while_nobody_watched_is_caught_up(root: Path, watch: Watch) -> None:
    for number in range(8):
        write(root / f"{number}.md", f"text {number}")
    stream = watch()
    seen = take(stream, 8).files
    stream.close()
    write(root / "0.md", "changed", age=30)
    write(root / "1.md", "text 1", age=90)
    (root / "2.md").unlink()
    (root / "3.md").rename(root / "9.md")
    taken = take(watch(seen), 5)
    assert sorted(taken.texts) == [("docs/0.md", "changed"), ("docs/1.md", "text 1"), ("docs/9.md", "text 3")]
    assert sorted(ids_of(taken.deletions)) == ["docs/2.md", "docs/3.md"]
    again = take(watch(seen_after(seen, taken)), 0)
    assert (again.events, again.files) == ([], {})


def test_a_file_that_was_read_under_another_name_keeps_it(root: Path, watch: Watch) -> None:
    path = write(root / "a.md", "one")
    seen = take(watch(), 1).files
    known = {name: SeenFile(name, 1, 1, 1, 1, 1, "library/docs/a.md", file.reading) for name, file in seen.items()}
    stream = watch(known)
    assert ids_of(take(stream, 1).documents) == ["library/docs/a.md"]
    path.unlink()
    assert ids_of(take(stream, 1).deletions) == ["library/docs/a.md"]


def test_files_outside_of_the_folder_are_nobodys_business(root: Path, watch: Watch) -> None:
    write(root / "a.md", "one")
    seen = take(watch(), 1).files
    (file,) = seen.values()
    other = str(root) + "-other/b.md"
    seen[other] = SeenFile(other, 1, 1, 1, 1, 1, "other/b.md", file.reading)
    assert take(watch(seen), 0).events == []


def test_a_file_is_read_when_it_has_come_to_rest(root: Path, watch: Watch) -> None:
    stream = watch()
    with (root / "slow.md").open("w") as file:
        for number in range(10):
            file.write(f"line {number}\n")
            file.flush()
            assert take(stream, 0).events == []
    assert take(stream, 1).texts[0][1].count("\n") == 10


def test_touching_and_rewriting_the_same_gives_the_same_text_again(root: Path, watch: Watch) -> None:
    path = write(root / "a.md", "one")
    stream = watch()
    first = take(stream, 1)
    path.chmod(0o600)
    assert rest(stream).events == []
    path.touch()
    second = take(stream, 1)
    assert second.texts == first.texts
    assert second.documents[0].sequence > first.documents[0].sequence


def test_records_are_upserts_and_deletions(root: Path, watch: Watch) -> None:
    records = [{"id": "a", "text": "alpha"}, {"id": "b", "sequence": 5, "deleted": True}, {"text": "no id"}]
    path = write(root / "r.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    stream = watch()
    taken = take(stream, 3)
    assert taken.texts == [("a", "alpha")]
    assert [(deletion.document_id, deletion.sequence) for deletion in taken.deletions] == [("b", 5)]
    assert [(letter.reason, letter.line, letter.record) for letter in taken.letters] == [("missing-id", 3, None)]
    write(path, json.dumps({"id": "a", "text": "alpha two"}) + "\n", age=3600)
    again = take(stream, 1)
    assert again.documents[0].sequence > taken.documents[0].sequence
    path.unlink()
    gone = take_until(stream, lambda taken: bool(taken.files))
    assert gone.events == []
    assert gone.files[str(path)].size == GONE


def test_a_change_and_what_is_seen_of_its_file_are_never_apart(root: Path, watch: Watch) -> None:
    """A stream that dies between them would not know the file, and miss that it is removed."""
    for number in range(7):
        write(root / f"{number}.md", "text")
    stream = watch()
    taken = take(stream, 7, limit=2)
    for path in root.iterdir():
        path.unlink()
    gone = take(stream, 7, limit=2)
    for batch in (*taken.batches, *gone.batches):
        named = [f"{root.name}/{Path(file.name).name}" for file in batch.files]
        assert ids_of(change.event for change in batch.changes) == named


def test_parquet_is_read_and_what_is_none_is_a_letter(root: Path, watch: Watch) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["alpha", "beta"]}), root / "good.parquet")
    pq.write_table(pa.table({"key": ["a"] * 100, "text": ["alpha"] * 100}), root / "other.parquet")
    (root / "broken.parquet").write_bytes(b"PAR1 or not")
    taken = take(watch(), 4)
    assert taken.texts == [("a", "alpha"), ("b", "beta")]
    assert sorted(letter.source for letter in taken.letters) == [
        str(root / "broken.parquet"),
        str(root / "other.parquet"),
    ]
    assert "has no column 'id'; it has ['key', 'text']" in str(taken.letters)


def test_a_large_file_of_records_comes_in_batches(root: Path, watch: Watch) -> None:
    lines = "".join(json.dumps({"id": str(number), "text": "word"}) + "\n" for number in range(250))
    write(root / "r.jsonl", lines)
    stream = watch()
    batches = [stream.take(100, 5) for _ in range(3)]
    assert [len(batch.changes) for batch in batches if batch] == [100, 100, 50]
    # Before its end nobody may say that the file was read.
    assert [len(batch.files) for batch in batches if batch] == [0, 0, 1]


def test_a_broken_file_is_a_letter_and_its_neighbours_are_read(root: Path, watch: Watch) -> None:
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("no UTF-8 in its name")
    (root / "link.md").symlink_to(root / "nothing.md")
    write(root / "good.md", "good")
    stream = watch()
    taken = take(stream, 4)
    assert taken.texts == [("docs/good.md", "good")]
    assert sorted(letter.reason for letter in taken.letters) == ["invalid-utf8", "unreadable", "unreadable"]
    # A name that is not UTF-8 cannot be told by the watcher: what happens beside it must not be missed.
    (root / os.fsdecode(b"th\xe9.txt")).write_text("another one")
    (root / "good.md").write_text("better")
    assert take(stream, 2).texts == [("docs/good.md", "better")]
    (root / "good.md").write_text("best")
    assert take(stream, 1).texts == [("docs/good.md", "best")]


def test_links_to_folders_are_not_followed(root: Path, watch: Watch, tmp_path: Path) -> None:
    write(tmp_path / "outside/a.md", "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    stream = watch()
    (tmp_path / "outside/a.md").write_text("changed")
    (root / "inside.md").write_text("inside")
    assert ids_of(take(stream, 1).events) == ["docs/inside.md"]


def test_names_with_wildcards_are_names(root: Path, watch: Watch) -> None:
    write(root / "a1.md", "one")
    write(root / "a[1].md", "bracket")
    write(root / "what?.md", "question")
    stream = watch()
    assert len(take(stream, 3).documents) == 3
    (root / "a[1].md").unlink()
    (root / "what?.md").write_text("changed")
    taken = take(stream, 2)
    assert ids_of(taken.events) == ["docs/what?.md", "docs/a[1].md"]


def test_a_folder_that_disappears_deletes_nothing(root: Path, watch: Watch, tmp_path: Path) -> None:
    for number in range(5):
        write(root / f"{number}.md", "text")
    stream = watch(delete_at_most=1.0)
    take(stream, 5)
    root.rename(tmp_path / "away")
    with pytest.raises(SourceError, match=r"docs has disappeared \(No such file or directory\): nothing is deleted"):
        rest(stream)


def test_another_folder_in_its_place_is_not_the_folder(root: Path, watch: Watch, tmp_path: Path) -> None:
    """As when a disk is unmounted: the empty folder is left on which it was mounted."""
    for number in range(5):
        write(root / f"{number}.md", "text")
    stream = watch(delete_at_most=1.0)
    take(stream, 5)
    root.rename(tmp_path / "away")
    root.mkdir()
    with pytest.raises(SourceError, match="another one is there now"):
        rest(stream)


def test_a_folder_found_empty_is_refused_unless_that_is_meant(root: Path, watch: Watch) -> None:
    for number in range(3):
        write(root / f"{number}.md", "text")
    stream = watch()
    seen = take(stream, 3).files
    stream.close()
    for number in range(3):
        (root / f"{number}.md").unlink()
    with pytest.raises(SyncRefused, match=r"3 of 3 files of .*docs were removed, more than 20%.*--delete-at-most"):
        watch(seen)
    assert len(take(watch(seen, delete_at_most=1.0), 3).deletions) == 3


def test_removing_a_large_share_at_once_is_refused(root: Path, watch: Watch) -> None:
    for number in range(60):
        write(root / f"{number}.md", "text")
    stream = watch()
    seen = take(stream, 60).files
    for number in range(12):
        (root / f"{number}.md").unlink()
    assert len(take(stream, 12).deletions) == 12
    # In all, within one minute.
    (root / "12.md").unlink()
    with pytest.raises(SyncRefused, match="13 of 60 files"):
        rest(stream)
    with pytest.raises(SyncRefused, match="13 of 60 files"):
        watch(seen)
    assert len(take(watch(seen, delete_at_most=0.25), 13).deletions) == 13


def test_a_few_files_are_no_mass(root: Path, watch: Watch) -> None:
    for number in range(3):
        write(root / f"{number}.md", "text")
    stream = watch()
    take(stream, 3)
    shutil.rmtree(root / "0.md", ignore_errors=True)
    for number in range(3):
        (root / f"{number}.md").unlink()
    assert len(take(stream, 3).deletions) == 3


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    stream = FolderStream(tmp_path / "nothing", Fields())
    with pytest.raises(SourceError, match="nothing has disappeared"):
        stream.open(None, {})


@pytest.mark.slow
def test_a_busy_hour(root: Path, watch: Watch) -> None:
    """Whatever happens, in whatever order: what was given last of each document is what lies there."""
    stream = watch(delete_at_most=1.0)
    taken = [take(stream, 0)]
    for number in range(120):
        path = root / f"{number * 7 % 5}/{number * 11 % 13}.md"
        if number % 4 == 3 and path.exists():
            path.unlink()
        elif number % 9 == 8 and path.parent.exists() and not (root / f"m{number}").exists():
            path.parent.rename(root / f"m{number}")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"text {number}")
        taken.append(take(stream, 0))
    taken.append(rest(stream))
    state: dict[str, tuple[int, str | None]] = {}
    for one in taken:
        for event in one.events:
            text = getattr(event, "text", None)
            state[event.document_id or ""] = max(
                state.get(event.document_id or "", (0, None)), (event.sequence or 0, text)
            )
    live = {document_id: text for document_id, (_, text) in state.items() if text is not None}
    there = {f"docs/{path.relative_to(root).as_posix()}": path.read_text() for path in root.rglob("*.md")}
    assert live == there
