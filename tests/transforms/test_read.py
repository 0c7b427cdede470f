import json
import os
import pickle
from pathlib import Path

import pytest

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from transforms.read import read_split, split_of_letter
from transforms.reading import text_files
from transforms.reading.sources import plan_splits


def read(path: Path) -> list[Document | Deletion | DeadLetter]:
    return [one for split in plan_splits([str(path)]).splits for one in read_split(split)]


def read_one(path: Path) -> Document:
    (document,) = read(path)
    assert isinstance(document, Document), document
    return document


def letter_of(path: Path) -> DeadLetter:
    (letter,) = read(path)
    assert isinstance(letter, DeadLetter)
    return letter


def test_a_text_file_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes("\ufeffgrüße\r\n".encode())

    document = read_one(path)

    assert document.text == "grüße\r\n"
    assert (document.document_id, document.title, document.markdown) == ("note.txt", "note", False)
    assert document.sequence == path.stat().st_mtime_ns
    assert json.loads(document.metadata) == {"source": "note.txt"}
    assert document.origin.source == str(path)


@pytest.mark.parametrize(
    ("name", "content", "title"),
    [
        ("a.md", "Intro\n\n## The `first`\n", "The first"),
        ("b.md", "no heading", "b"),
        ("c.md", "---\ntitle: 'In front'\n---\n# Later\n", "In front"),
        ("d.rst", "Über\n====\n\ntext\n", "Über"),
        ("e.html", "<title>A &amp; B</title><h1>C</h1>text", "A & B"),
        ("f.htm", "<p>x</p><h2>C</h2>text", "C"),
    ],
)
def test_markup_becomes_markdown_with_a_title(tmp_path: Path, name: str, content: str, title: str) -> None:
    (tmp_path / name).write_text(content)
    document = read_one(tmp_path / name)
    assert (document.title, document.markdown) == (title, True)


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"", "empty-document", "empty"),
        (b" \n\t\r\n" * 2000, "empty-document", "white space"),
        (b"abc\xff\xfe", "invalid-utf8", r"b'\xff' at byte offset 3"),
        (b"abc\xed\xa0\x80", "invalid-utf8", "byte offset 3"),
        (b"ab\0c", "binary-file", "NUL byte at offset 2"),
        ("text".encode("utf-16"), "binary-file", "UTF-16"),
    ],
)
def test_what_is_no_text_is_a_dead_letter(tmp_path: Path, content: bytes, reason: str, detail: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)

    letter = letter_of(path)

    assert (letter.stage, letter.reason, letter.source) == ("read", reason, str(path))
    assert detail in letter.detail
    assert letter.document_id == "bad.txt"


def test_markup_without_text_is_an_empty_document(tmp_path: Path) -> None:
    path = tmp_path / "bare.html"
    path.write_text("<html><head><script>var x</script></head><body></body></html>")
    assert letter_of(path).reason == "empty-document"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta charset="ISO-8859-1">', "cp1252"),
        ("<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>", "koi8-r"),
        ("<meta charset=shift_jis>", "shift_jis"),
    ],
)
def test_a_page_may_name_another_encoding(tmp_path: Path, head: str, encoding: str) -> None:
    word = {"cp1252": "“Müller”", "koi8-r": "слово", "shift_jis": "日本"}[encoding]
    path = tmp_path / "old.html"
    path.write_bytes(f"<html><head>{head}</head><body>{word}</body></html>".encode(encoding))
    assert read_one(path).text.strip() == word


@pytest.mark.parametrize("encoding", ["utf-8", "ascii\0", "no-such", "hex", "undefined", "idna", ""])
def test_a_page_in_no_encoding_is_a_dead_letter(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "old.html"
    path.write_bytes(f"<meta charset={encoding}>".encode() + b"\x81\xff<p>text")
    assert letter_of(path).reason in ("invalid-utf8", "binary-file")


def test_a_link_to_nothing_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (tmp_path / "here.txt").write_text("here")

    letter, document = read(tmp_path)

    assert isinstance(letter, DeadLetter)
    assert letter.reason == "unreadable"
    assert isinstance(document, Document)


def test_a_file_that_vanished_after_planning_is_unreadable(tmp_path: Path) -> None:
    names = ["a.txt", "b.html", "c.jsonl"]
    for name in names:
        (tmp_path / name).write_text('{"id": "x", "text": "y"}')
    (split,) = plan_splits([str(tmp_path)]).splits
    for name in names:
        (tmp_path / name).unlink()

    letters = list(read_split(split))

    assert [letter.reason for letter in letters if isinstance(letter, DeadLetter)] == ["unreadable"] * 3


def test_a_folder_in_the_place_of_a_file_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    (split,) = plan_splits([str(path)]).splits
    path.unlink()
    path.mkdir()

    (letter,) = read_split(split)

    assert isinstance(letter, DeadLetter)
    assert letter.reason == "unreadable"


def test_a_file_beyond_the_limit_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LARGEST_DOCUMENT", 10)
    path = tmp_path / "large.txt"
    path.write_text("x" * 10)
    assert read_one(path).text == "x" * 10
    path.write_text("x" * 11)
    assert letter_of(path).reason == "too-large"


def test_a_name_too_long_for_an_id(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*("d" * 200 for _ in range(6)))
    folder.mkdir(parents=True)
    (folder / "x.txt").write_text("text")

    (letter,) = read(tmp_path)

    assert isinstance(letter, DeadLetter)
    assert letter.reason == "id-too-long"
    assert letter.document_id
    assert len(letter.document_id) > 1024


def test_a_name_that_is_not_utf8_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"coffee")

    letter = letter_of(tmp_path)

    assert letter.reason == "unreadable"
    letter.letter_id.encode()


def test_a_letter_can_be_read_again_once_the_file_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "bad.md"
    path.parent.mkdir()
    path.write_bytes(b"# A\xff")
    letter = letter_of(path.parent)
    path.write_text("# A\n\nmended")

    (document,) = read_split(split_of_letter(letter))

    assert document == read_one(path.parent)


def test_a_letter_of_a_file_that_is_still_gone(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    path.symlink_to("nowhere.txt")
    letter = letter_of(path)

    (again,) = read_split(split_of_letter(letter))

    assert isinstance(again, DeadLetter)
    assert again.letter_id == letter.letter_id


def test_splits_are_small_values(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (split,) = plan_splits([str(tmp_path)]).splits
    assert pickle.loads(pickle.dumps(split)) == split
    assert hash(split) == hash(pickle.loads(pickle.dumps(split)))
