import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.chunking import slabs
from transforms.chunking.slabs import cut_slabs, is_deeply_nested

WORDS = st.sampled_from(["word", " ", ". ", "\n", "\n\n", "。", "\r\n", "e\u0301", "👨\u200d👩\u200d👧", "x" * 50])


@given(st.lists(WORDS).map("".join), st.integers(4, 60))
def test_slabs_make_up_the_text(text: str, longest_line: int) -> None:
    cut = list(cut_slabs(text, longest_line))

    assert "".join(slab for _, slab in cut) == text
    assert all(text.startswith(slab, offset) and slab for offset, slab in cut)
    for _, slab in cut:
        lines = slab.split("\n")
        assert len(lines) <= 2 or max(map(len, lines)) < longest_line + 1


@given(st.lists(st.text("ab \n", max_size=30)).map("".join))
def test_no_slab_is_larger_than_the_bound(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "LARGEST", 100)
        assert all(len(slab) <= 100 for _, slab in cut_slabs(text, 50))
        assert "".join(slab for _, slab in cut_slabs(text, 50)) == text


def test_ordinary_text_is_one_slab() -> None:
    text = "A paragraph of some words.\n\n" * 1000
    assert list(cut_slabs(text, 1000)) == [(0, text)]


def test_a_large_text_is_cut_between_paragraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "LARGEST", 100)
    text = "one line\nand another\n\n" * 20
    assert all(slab.startswith("one") and slab.endswith("\n\n") for _, slab in cut_slabs(text, 50))


@pytest.mark.parametrize(("text", "end"), [("word " * 30, " "), ("Some words. " * 30, ". "), ("語" * 7 + "。", "。")])
def test_a_long_line_is_cut_where_it_reads_best(text: str, end: str) -> None:
    *pieces, _ = (slab for _, slab in cut_slabs(text * 20, 40))
    assert len(pieces) >= 2
    assert all(piece.endswith(end) for piece in pieces)


@pytest.mark.parametrize("cluster", ["👨\u200d👩\u200d👧\u200d👦", "e\u0301\u0323", "❤\ufe0f\u200d🔥"])
def test_no_cut_tears_what_is_one_character_to_a_reader(cluster: str) -> None:
    pieces = [slab for _, slab in cut_slabs(cluster * 500, 400)]
    assert len(pieces) > 5
    assert all(len(piece) % len(cluster) == 0 for piece in pieces)


def test_endless_accents_are_cut_all_the_same() -> None:
    pieces = [slab for _, slab in cut_slabs("a" + "\u0301" * 10_000, 400)]
    assert max(map(len, pieces)) <= 400


@pytest.mark.parametrize(
    ("line", "deep"),
    [("> " * 64, True), ("  " * 64 + "- x", True), ("1. " * 100 + "- " * 28, True), ("- " * 130, True),
     ("-" * 500, False), ("> " * 60, False), (" " * 100 + "x", False), ("=" * 200, False)],
)  # fmt: skip
def test_deep_nesting_is_told_from_rules_and_indented_code(line: str, deep: bool) -> None:
    assert is_deeply_nested(f"text\n\n{line}x\n") is deep
