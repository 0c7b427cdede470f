import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines.gcs_server import GcsBucket
from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document
from tierloom.errors import SourceError
from transforms.read import read_split, split_of_letter
from transforms.reading.sources import plan_splits

pytestmark = pytest.mark.engine


@pytest.fixture
def docs(gcs_bucket: GcsBucket) -> GcsBucket:
    for name in ["docs/a.txt", "docs/guide/intro.md", "docs/logo.png", "docs/.hidden/b.md", "docs2/c.txt"]:
        gcs_bucket.put(name, f"text of {name}".encode())
    return gcs_bucket


def read(source: str, split_bytes: int = 2 << 20) -> list[Document | Deletion | DeadLetter]:
    return [one for split in plan_splits([source], split_bytes=split_bytes).splits for one in read_split(split)]


def ids(source: str) -> list[str | None]:
    return [one.document_id for one in read(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/docs", ["docs/a.txt", "docs/guide/intro.md"]),
        ("/docs/", ["docs/a.txt", "docs/guide/intro.md"]),
        ("/docs/guide/intro.md", ["intro.md"]),
        ("/docs/**/*.md", ["docs/guide/intro.md"]),
        ("/docs/*.txt", ["docs/a.txt"]),
        ("/docs*/*.txt", ["{bucket}/docs/a.txt", "{bucket}/docs2/c.txt"]),
        ("", ["{bucket}/docs/a.txt", "{bucket}/docs/guide/intro.md", "{bucket}/docs2/c.txt"]),
    ],
)
def test_folders_globs_and_files(docs: GcsBucket, source: str, expected: list[str]) -> None:
    assert ids(docs.url + source) == [name.format(bucket=docs.name) for name in expected]


def test_a_document_of_a_bucket(docs: GcsBucket) -> None:
    (document,) = read(f"{docs.url}/docs/a.txt")

    assert isinstance(document, Document)
    assert (document.text, document.origin.source) == ("text of docs/a.txt", f"{docs.url}/docs/a.txt")
    assert document.sequence > 1_600_000_000_000_000_000


@pytest.mark.parametrize("source", ["/nothing", "/docs/nothing.md", "/docs/*.pdf", "-that-is-not-there/x"])
def test_what_is_not_there_is_refused(docs: GcsBucket, source: str) -> None:
    with pytest.raises(SourceError, match="source 'gs://"):
        plan_splits([docs.url + source])


def test_jsonl_is_read_in_ranges(gcs_bucket: GcsBucket) -> None:
    lines = [b'{"id": %d, "text": "text %d"}\n' % (number, number) for number in range(200)]
    lines[150] = b"{broken\n"
    gcs_bucket.put("rows.jsonl", b"".join(lines))

    found = read(f"{gcs_bucket.url}/rows.jsonl", split_bytes=1000)

    assert len(found) == 200
    letter = found[150]
    assert isinstance(letter, DeadLetter)
    assert letter.line == 151
    assert list(read_split(split_of_letter(letter))) == [letter]


def test_parquet_is_read_in_row_groups(gcs_bucket: GcsBucket) -> None:
    data = io.BytesIO()
    pq.write_table(pa.table({"id": range(100), "text": [str(row) for row in range(100)]}), data, row_group_size=10)
    gcs_bucket.put("rows.parquet", data.getvalue())

    assert [one.document_id for one in read(f"{gcs_bucket.url}/rows.parquet", split_bytes=1)] == [
        str(row) for row in range(100)
    ]


def test_an_object_that_vanished_is_unreadable(docs: GcsBucket) -> None:
    plan = plan_splits([f"{docs.url}/docs/a.txt"])
    (split,) = plan.splits
    gone = split.parts[0].uri.replace("a.txt", "gone.txt")
    letter = DeadLetter("read", "unreadable", "", gone, 0, 5, document_id="gone.txt")

    (again,) = read_split(split_of_letter(letter))

    assert isinstance(again, DeadLetter)
    assert (again.reason, again.source) == ("unreadable", gone)
