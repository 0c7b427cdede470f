import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tierloom.errors import SourceError
from transforms.reading.records import Fields
from transforms.reading.sources import Plan, plan_splits
from transforms.reading.splits import FilePart


def parts(plan: Plan) -> list[FilePart]:
    return [part for split in plan.splits for part in split.parts]


def ids(plan: Plan) -> list[str | None]:
    return [part.document_id for part in parts(plan)]


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    return root


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write(tmp_path / "docs", "a.txt", "guide/intro.md", "guide/deep/x.rst", "page.HTML", "logo.png", ".git/b.md")


def test_a_folder_is_read_recursively_without_its_hidden_files(docs: Path) -> None:
    plan = plan_splits([str(docs)])

    assert ids(plan) == ["docs/a.txt", "docs/guide/deep/x.rst", "docs/guide/intro.md", "docs/page.HTML"]
    assert [part.kind for part in parts(plan)] == ["text", "restructuredtext", "markdown", "html"]
    assert (plan.files, plan.passed_over) == (4, 1)
    assert plan.bytes == sum(path.stat().st_size for path in docs.rglob("*.*") if ".git" not in str(path)) - len(
        "text of logo.png"
    )


@pytest.mark.parametrize("spelling", ["docs", "./docs", "docs/", "../{parent}/docs", "{absolute}", "docs/guide/.."])
def test_ids_do_not_depend_on_how_a_folder_is_spelled(
    docs: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(docs.parent)
    source = spelling.format(parent=docs.parent.name, absolute=docs)

    assert plan_splits([source]) == plan_splits([str(docs)])


def test_the_current_folder_has_its_own_name(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(docs)
    assert plan_splits(["."]) == plan_splits([str(docs)])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("docs/*.txt", ["docs/a.txt"]),
        ("docs/**/*.md", ["docs/guide/intro.md"]),
        ("docs/**", ["docs/a.txt", "docs/guide/deep/x.rst", "docs/guide/intro.md", "docs/page.HTML"]),
        ("docs/**/x.rst", ["docs/guide/deep/x.rst"]),
        ("docs/*/*.md", ["docs/guide/intro.md"]),
        ("docs/[!b].txt", ["docs/a.txt"]),
        ("docs/?.txt", ["docs/a.txt"]),
        ("docs/.git/*.md", [".git/b.md"]),
        ("docs/.*/*.md", ["docs/.git/b.md"]),
    ],
)
def test_globs(docs: Path, pattern: str, expected: list[str]) -> None:
    assert ids(plan_splits([str(docs.parent / pattern)])) == expected


def test_a_file_whose_name_looks_like_a_glob_is_taken_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "notes[1].md", "notes1.md")
    assert ids(plan_splits([str(tmp_path / "notes[1].md")])) == ["notes[1].md"]


def test_a_file_reached_through_several_sources_is_read_once_by_its_outermost_name(docs: Path) -> None:
    sources = [str(docs / "guide"), str(docs), str(docs / "guide" / "intro.md")]

    assert ids(plan_splits(sources)) == ids(plan_splits(sources[::-1])) == ids(plan_splits([str(docs)]))


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/docs/x.md", "b/docs/x.md")

    with pytest.raises(SourceError, match=r"a/docs/x\.md and .*b/docs/x\.md .*'docs/x\.md'; ingest them from a common"):
        plan_splits([str(tmp_path / "a/docs"), str(tmp_path / "b/docs")])
    assert ids(plan_splits([str(tmp_path)]))[0] == f"{tmp_path.name}/a/docs/x.md"


def test_a_loop_of_links_ends(docs: Path) -> None:
    before = ids(plan_splits([str(docs)]))
    (docs / "guide" / "loop").symlink_to(docs, target_is_directory=True)

    assert ids(plan_splits([str(docs)])) == before
    assert ids(plan_splits([str(docs / "**" / "*.md")])) == ["docs/guide/intro.md"]


def test_a_link_to_a_folder_is_a_root_by_its_own_name(docs: Path) -> None:
    link = docs.parent / "latest"
    link.symlink_to(docs, target_is_directory=True)

    assert ids(plan_splits([str(link)]))[0] == "latest/a.txt"
    assert plan_splits([str(link), str(docs)]).files == 4


def test_a_pipe_is_passed_over_in_a_folder_and_refused_by_name(docs: Path) -> None:
    os.mkfifo(docs / "pipe.txt")

    assert "docs/pipe.txt" not in ids(plan_splits([str(docs)]))
    with pytest.raises(SourceError, match="not a regular file"):
        plan_splits([str(docs / "pipe.txt")])


def test_a_name_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"coffee")

    assert ids(plan_splits([str(tmp_path)])) == [f"{tmp_path.name}/caf\\xe9.txt"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "'.*nowhere' does not exist"),
        ("docs/*.pdf", "matches no file that is read"),
        ("docs/logo.png", r"logo\.png is of no known kind; .*\.txt, .*\.parquet"),
        ("docs/[z-a].md", "not a valid glob"),
        ("empty", "matches no file that is read"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(docs: Path, source: str, message: str) -> None:
    (docs.parent / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        plan_splits([str(docs), str(docs.parent / source)])


def test_small_files_share_a_split_and_large_jsonl_is_cut(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 30_000)
    (tmp_path / "z.jsonl").write_bytes(b"x" * 250_000)

    plan = plan_splits([str(tmp_path)], split_bytes=100_000)

    assert [[Path(part.uri).name for part in split.parts] for split in plan.splits] == [
        ["0.txt", "1.txt", "2.txt"],
        ["3.txt", "4.txt"],
        ["z.jsonl"],
        ["z.jsonl"],
        ["z.jsonl"],
    ]
    assert [(part.offset, part.length) for part in parts(plan)[5:]] == [
        (0, 100_000),
        (100_000, 100_000),
        (200_000, 50_000),
    ]
    assert sum(split.bytes for split in plan.splits) == plan.bytes == 400_000


@pytest.mark.parametrize(("size", "splits"), [(31_000, 31), (32_000, 16), (63_000, 32), (64_000, 16), (640_000, 160)])
def test_of_a_large_file_more_goes_into_a_split_whatever_lies_beside_it(tmp_path: Path, size: int, splits: int) -> None:
    (tmp_path / "records.jsonl").write_bytes(b"\n" * size)
    alone = plan_splits([str(tmp_path)], split_bytes=1000).splits
    (tmp_path / "a.jsonl").write_bytes(b"\n" * 500_000)
    assert len(alone) == splits
    assert plan_splits([str(tmp_path)], split_bytes=1000).splits[-splits:] == alone


def test_many_empty_files_are_several_splits(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.txt").touch()
    assert len(plan_splits([str(tmp_path)], split_bytes=100_000).splits) == 5


def table(rows: int, *names: str) -> pa.Table:
    return pa.table({name: [f"{name} {row}" for row in range(rows)] for name in names})


def test_parquet_is_cut_at_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(table(1000, "id", "text"), path, row_group_size=100)
    group = pq.read_metadata(path).row_group(0)
    stored = sum(group.column(column).total_compressed_size for column in range(2))

    plan = plan_splits([str(path)], split_bytes=stored * 3)

    cut = [(part.offset, part.length) for part in parts(plan)]
    assert sum(length for _, length in cut) == 1000
    assert all(offset % 100 == 0 for offset, _ in cut)
    assert 3 <= len(cut) <= 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(id="key"), r"no column 'key'; it has \['id', 'text'\]. Name the right one with --id-field"),
        (Fields(text="body"), "no column 'body'.*--text-field"),
        (Fields(sequence="changed"), "no column 'changed'.*--sequence-field"),
    ],
)
def test_parquet_without_a_named_column_is_refused(tmp_path: Path, fields: Fields, message: str) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(table(3, "id", "text"), path)

    with pytest.raises(SourceError, match=message):
        plan_splits([str(path)], fields)
    assert plan_splits([str(path)]).files == 1


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_corrupt_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(table(3, "id", "text"), path)
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(SourceError, match=r"rows\.parquet is not a readable Parquet file"):
        plan_splits([str(path)])
