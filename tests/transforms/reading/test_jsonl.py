import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierloom.dead_letter import DeadLetter, to_jsonl
from tierloom.document import Deletion, Document
from transforms.read import read_split, split_of_letter
from transforms.reading import jsonl
from transforms.reading.jsonl import parsed_record
from transforms.reading.records import Fields
from transforms.reading.sources import plan_splits
from transforms.reading.splits import SPLIT_BYTES

GOOD = b'{"id": "good", "text": "text"}\n'


def read(
    path: Path, fields: Fields | None = None, split_bytes: int = SPLIT_BYTES
) -> list[Document | Deletion | DeadLetter]:
    plan = plan_splits([str(path)], fields, split_bytes)
    return [one for split in plan.splits for one in read_split(split, fields)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def read_line(path: Path, line: bytes, fields: Fields | None = None) -> Document | Deletion | DeadLetter:
    """What becomes of `line` between two good ones, which must come through."""
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    before, one, after = read(path, fields)
    assert isinstance(before, Document)
    assert isinstance(after, Document)
    return one


def test_a_line_is_a_document(path: Path) -> None:
    line = {"id": "a", "text": "Grüße \u0000", "sequence": 7, "title": "T", "tags": ["x"], "metadata": {"lang": "de"}}

    document = read_line(path, json.dumps(line).encode())

    assert isinstance(document, Document)
    assert (document.document_id, document.sequence, document.title) == ("a", 7, "T")
    assert (document.text, document.markdown) == ("Grüße \u0000", False)
    assert document.metadata == '{"lang":"de","tags":["x"],"title":"T"}'
    assert (document.origin.source, document.origin.offset) == (str(path), len(GOOD))


def test_fields_are_mapped_and_all_others_join_the_metadata(path: Path) -> None:
    line = b'{"key": 12, "body": "b", "rev": 3, "id": "mine", "metadata": "no object", "x": NaN, "y": [1e999]}'

    path.write_bytes(line)
    (document,) = read(path, Fields("key", "body", "rev"))

    assert isinstance(document, Document)
    assert (document.document_id, document.text, document.sequence) == ("12", "b", 3)
    assert document.metadata == '{"id":"mine","metadata":"no object","x":null,"y":[null]}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a", "text": ', "invalid-json"),
        (b'{"id": "a"} {"id": "b"}', "invalid-json"),
        (b'{"id": "a", "text": "\x00"}', "invalid-json"),
        (b"[" * 100_000, "invalid-json"),
        (b'{"id": ' + b"9" * 5000 + b"}", "invalid-json"),
        (b'{"id": "a", "text": "\xff"}', "invalid-utf8"),
        (b"[1]", "not-an-object"),
        (b'"text"', "not-an-object"),
        (b"null", "not-an-object"),
        (b'{"text": "t"}', "missing-id"),
        (b'{"id": null, "text": "t"}', "invalid-id"),
        (b'{"id": 1.5, "text": "t"}', "invalid-id"),
        (b'{"id": true, "text": "t"}', "invalid-id"),
        (b'{"id": {}, "text": "t"}', "invalid-id"),
        (b'{"id": "", "text": "t"}', "invalid-id"),
        (b'{"id": "' + b"i" * 1025 + b'", "text": "t"}', "id-too-long"),
        ('{"id": "' + "ü" * 513 + '", "text": "t"}', "id-too-long"),
        (b'{"id": "a"}', "missing-text"),
        (b'{"id": "a", "text": null}', "missing-text"),
        (b'{"id": "a", "text": ["t"]}', "invalid-text"),
        (b'{"id": "a", "text": ""}', "empty-document"),
        (b'{"id": "a", "text": " \\n "}', "empty-document"),
        (b'{"id": "a", "text": "\\ud800"}', "invalid-unicode"),
        (b'{"id": "\\ud800", "text": "t"}', "invalid-unicode"),
        (b'{"id": "a", "text": "t", "x": {"\\udfff": 1}}', "invalid-unicode"),
        (b'{"id": "a", "text": "t", "sequence": "soon"}', "invalid-sequence"),
        (b'{"id": "a", "text": "t", "sequence": 1.0}', "invalid-sequence"),
        (b'{"id": "a", "text": "t", "sequence": true}', "invalid-sequence"),
        (b'{"id": "a", "text": "t", "sequence": 9223372036854775808}', "invalid-sequence"),
        (b'{"id": "a", "text": "t", "sequence": "2024-01-01T00:00:00"}', "invalid-sequence"),
        (b'{"id": "a", "text": "t", "sequence": "9999-01-01T00:00:00Z"}', "invalid-sequence"),
    ],
)
def test_a_bad_line_is_a_dead_letter_and_its_neighbours_go_in(path: Path, line: bytes | str, reason: str) -> None:
    data = line.encode() if isinstance(line, str) else line

    letter = read_line(path, data)

    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.reason, letter.line) == ("read", reason, 2)
    assert (letter.source, letter.offset, letter.length) == (str(path), len(GOOD), len(data) + 1)
    assert len(letter.detail) < 1000
    assert to_jsonl([letter])


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 80), 1 << 80)
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(members=st.dictionaries(st.text(max_size=3), _VALUES, max_size=4), escaped=st.booleans())
def test_what_python_writes_as_json_is_read_as_python_reads_it(members: dict[str, object], escaped: bool) -> None:
    line = json.dumps(members, ensure_ascii=escaped).encode(errors="replace")
    assert parsed_record(line) == _finite(json.loads(line))


def _finite(value: object) -> object:
    """Without the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return {name: _finite(one) for name, one in value.items()} if isinstance(value, dict) else value


def test_a_letter_knows_the_id_if_there_is_one(path: Path) -> None:
    letter = read_line(path, b'{"id": "a", "text": 1}')
    assert isinstance(letter, DeadLetter)
    assert letter.document_id == "a"


def test_blank_lines_are_skipped(path: Path) -> None:
    path.write_bytes(b"\n" * 10_000 + GOOD + b" \t\r\n" * 3 + GOOD.strip())
    assert [type(one) for one in read(path)] == [Document, Document]


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2)
    assert [type(one) for one in read(path)] == [Document, Document]


def test_without_a_sequence_the_later_line_wins(path: Path) -> None:
    path.write_bytes(GOOD + b'{"id": "good", "text": "later", "sequence": null}\n')
    first, second = (one for one in read(path) if isinstance(one, Document))
    assert path.stat().st_mtime_ns == first.sequence < second.sequence


def test_a_line_too_large_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LARGEST_DOCUMENT", 1000)
    line = b'{"id": "huge", "text": "' + b"x" * 5_000_000 + b'"}'

    letter = read_line(path, line)

    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.length) == ("too-large", len(line) + 1)


def test_ranges_inside_one_huge_line_do_not_each_read_it_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_BLOCK", 1000)
    path.write_bytes(GOOD + b'{"id": "huge", "text": "' + b"x" * 100_000 + b'"}\n' + GOOD)
    *_, inside, _, _ = plan_splits([str(path)], split_bytes=500).splits
    read_blocks: list[int] = []

    class Counted(io.BufferedReader):
        def readline(self, size: int | None = -1, /) -> bytes:
            read_blocks.append(1)
            return super().readline(size)

    monkeypatch.setattr(io, "BufferedReader", Counted)
    early = plan_splits([str(path)], split_bytes=500).splits[1]
    assert list(read_split(early)) == list(read_split(inside)) == []
    assert len(read_blocks) < 10


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from([GOOD, b"\n", b"\r\n", b"{broken\n", '{"id": 5, "text": "ü€𝄞"}\r\n'.encode(), b"[]\n"])
    ),
    tail=st.sampled_from([b"", b'{"id": "last", "text": "no line end"}']),
    split_bytes=st.integers(1, 200),
)
def test_any_cut_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], tail: bytes, split_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.write_bytes(b"".join(lines) + tail)
    whole = read(path)

    assert read(path, split_bytes=split_bytes) == whole
    kept = [line for line in [*lines, tail] if line.strip()]
    assert [_length(one) for one in whole] == [len(line) for line in kept]


def _length(one: Document | Deletion | DeadLetter) -> int | None:
    assert not isinstance(one, Deletion)
    return one.origin.length if isinstance(one, Document) else one.length


def test_every_letter_can_be_read_again_alone(path: Path) -> None:
    path.write_bytes((GOOD + b"{broken\n") * 5 + b'{"id": 1')
    letters = [one for one in read(path) if isinstance(one, DeadLetter)]
    assert len(letters) == 6

    assert [list(read_split(split_of_letter(letter))) for letter in letters] == [[letter] for letter in letters]


def test_line_numbers_are_those_of_the_file_in_every_range(path: Path) -> None:
    path.write_bytes((GOOD + b"\n{broken\n") * 50)
    letters = [one for one in read(path, split_bytes=97) if isinstance(one, DeadLetter)]
    assert [letter.line for letter in letters] == [3 * number for number in range(1, 51)]
