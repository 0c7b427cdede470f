import functools
import hashlib
import time
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tierloom.checkpoint import Checkpoint, Limits, Space
from tierloom.collection import Chunking
from tierloom.document import Chunk, Document, Origin
from tierloom.errors import CheckpointError
from tierloom.model_input import check_chunking, model_input
from transforms.chunk import Chunker, empty_document
from transforms.chunking.huggingface import wordllama_tokenizer

TIKTOKEN = "tiktoken:text-embedding-3-small"
GUIDE = "# Guide\n\nWelcome.\n\n## Install\n\n### Linux\n\nRun the installer.\n\n### Windows\n\nClick the installer.\n"
PIECES = st.sampled_from(
    ["word", "Two words. ", " ", "\n", "\n\n", "# Heading\n\n", "- item\n", "```\n", "> quote\n", "| a | b |\n",
     "\u05e9\u05dc\u05d5\u05dd ", "👨\u200d👩\u200d👧", "e\u0301", "\t", "\u3000", "\x00", "z" * 40, "漢字", "\r\n"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join)


def checkpoint(tokenizer: str, prompt: str = "", limit: int = 8191) -> Checkpoint:
    space = Space("openai", "model", "1", 256, (64, 128), document_prompt=prompt)
    return Checkpoint(space, tokenizer, Limits(tokens_per_input=limit))


@functools.cache
def chunker(tokenizer: str, max_tokens: int = 16, overlap: int = 0, prompt: str = "") -> Chunker:
    return Chunker(checkpoint(tokenizer, prompt), Chunking(max_tokens, overlap))


def document(text: str, markdown: bool = False, title: str = "") -> Document:
    return Document("d", 3, text, '{"a":1}', Origin("file", 5, 9), title, markdown)


WORDLLAMA = wordllama_tokenizer().tokenizer


def wordllama_tokens(text: str) -> int:
    return len(WORDLLAMA.encode(text, add_special_tokens=False).ids)


def fits_tiktoken(text: str, tokens: int) -> bool:
    """By the splitter's own count: it leaves a text whole exactly if it fits."""
    return len(TextSplitter.from_tiktoken_model("text-embedding-3-small", tokens, trim=False).chunks(text)) <= 1


FITS: dict[str, Callable[[str, int], bool]] = {
    "utf8-bytes": lambda text, tokens: len(text.encode()) <= tokens,
    "wordllama": lambda text, tokens: wordllama_tokens(text) <= tokens,
    TIKTOKEN: fits_tiktoken,
}


def without_space(text: str) -> str:
    return "".join(character for character in text if not character.isspace())


@pytest.mark.parametrize("tokenizer", FITS)
@pytest.mark.parametrize("markdown", [False, True])
@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
def test_chunks_hold_all_of_the_text_in_order(tokenizer: str, markdown: bool, text: str) -> None:
    chunks = chunker(tokenizer).cut(document(text, markdown))

    assert without_space("".join(chunk.text for chunk in chunks)) == without_space(text)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(FITS[tokenizer](chunk.text, 16) for chunk in chunks)
    assert all(chunk.text in text for chunk in chunks)


@pytest.mark.parametrize("tokenizer", FITS)
@pytest.mark.parametrize(("max_tokens", "overlap"), [(8, 7), (16, 4), (40, 20)])
@settings(max_examples=20, deadline=None)
@given(words=st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["", " ", "。", "\n", "\n\n", "\n\n# "]))))
def test_with_overlap_nothing_is_lost_or_too_large(
    tokenizer: str, max_tokens: int, overlap: int, words: list[tuple[int, str]]
) -> None:
    # No character comes twice, so that every chunk is found in its one place.
    characters = map(chr, range(0x4E00, 0x9FFF))
    text = "".join("".join(islice(characters, length)) + end for length, end in words)
    chunks = chunker(tokenizer, max_tokens, overlap).cut(document(text, markdown=True))

    assert all(FITS[tokenizer](chunk.text, max_tokens) for chunk in chunks)
    covered = 0
    for chunk in chunks:
        start = text.index(chunk.text)
        assert not text[covered:start].strip("\n #。")
        covered = max(covered, start + len(chunk.text))
    assert not text[covered:].strip("\n #。")


def test_overlapping_chunks_share_their_ends() -> None:
    text = " ".join(f"word{number}" for number in range(100))
    chunks = chunker("utf8-bytes", 60, 30).cut(document(text))
    assert all(before.text[-7:] in after.text for before, after in pairwise(chunks))


@pytest.mark.parametrize("tokenizer", FITS)
@settings(max_examples=30, deadline=None)
@given(text=TEXTS, prompt=st.sampled_from(["", "passage: "]))
def test_tokens_are_those_that_the_model_is_sent(tokenizer: str, text: str, prompt: str) -> None:
    for chunk in chunker(tokenizer, prompt=prompt).cut(document(text, markdown=True, title="The title")):
        assert FITS[tokenizer](chunk.model_input, chunk.tokens)
        # Whole even in too small a capacity: a single character.
        if len(chunk.model_input) > 1:
            assert not FITS[tokenizer](chunk.model_input, chunk.tokens - 1)


def headings(chunks: list[Chunk]) -> list[str]:
    return [chunk.heading for chunk in chunks]


def test_a_chunk_has_the_path_of_its_headings() -> None:
    chunks = chunker("utf8-bytes", 40).cut(document(GUIDE, markdown=True, title="Guide"))

    assert "Guide > Install > Linux" in headings(chunks)
    assert "Guide > Install > Windows" in headings(chunks)
    assert headings(chunks)[0] == "Guide"
    assert set(headings(chunker("utf8-bytes", 40).cut(document(GUIDE, markdown=False, title="T")))) == {"T"}


def test_paths_are_right_behind_a_line_that_was_cut() -> None:
    text = "# A\n\n" + "x" * 5000 + "\n\n# B\n\nlast words"
    chunks = chunker("utf8-bytes", 40).cut(document(text, markdown=True))
    assert (chunks[-1].heading, chunks[0].heading) == ("B", "A")
    assert set(headings(chunks)) == {"A", "B"}


def test_the_rule_of_what_is_sent() -> None:
    (chunk,) = chunker("utf8-bytes", 40, prompt="passage: ").cut(document("Some text. ", title="A title"))

    assert chunk.model_input == "passage: A title\n\nSome text."
    assert chunk.content_hash == hashlib.blake2b(b"passage: A title\n\nSome text.", digest_size=16).digest()
    assert (chunk.document_id, chunk.sequence, chunk.metadata) == ("d", 3, '{"a":1}')
    assert chunk.origin == Origin("file", 5, 9)
    assert model_input("p: ", "", "text") == "p: text"


def test_special_tokens_of_a_hugging_face_model_are_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(path))

    chunks = chunker(f"huggingface:{path}", 8).cut(document("one two three four five six seven eight nine ten"))

    assert [len(chunk.text.split()) for chunk in chunks] == [8, 2]
    assert [chunk.tokens for chunk in chunks] == [10, 4]


@pytest.mark.parametrize("tokenizer", ["tiktoken:no-such-model", "tiktoken:", "huggingface:/nowhere/t.json", "gpt", ""])
def test_tokenizers_that_are_not_there_are_refused(tokenizer: str) -> None:
    with pytest.raises(CheckpointError, match="tokenizer"):
        chunker(tokenizer)


@pytest.mark.parametrize(
    ("chunking", "limit", "message"),
    [
        (Chunking(512, 512), 8191, "overlap of 512 tokens"),
        (Chunking(4), 8191, "at least 8"),
        (Chunking(8000), 8191, r"8000 tokens.* 8191 tokens per input of model; allow at most 7924"),
        (Chunking(300), 200, "allow at most 0"),
    ],
)
def test_chunks_that_could_not_be_sent_are_refused(chunking: Chunking, limit: int, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_chunking(checkpoint("utf8-bytes", "passage: ", limit), chunking)


def test_the_largest_chunks_that_are_allowed_can_be_sent() -> None:
    check_chunking(checkpoint("utf8-bytes", "passage: "), Chunking(7924))
    heading = "h" * 1000
    text = f"# {heading}\n\n" + "word " * 2000
    chunks = chunker("utf8-bytes", 7924, prompt="passage: ").cut(document(text, markdown=True))
    assert max(chunk.tokens for chunk in chunks) <= 8191


@pytest.mark.parametrize("text", ["", " \n" * 100, "\u3000\u2003"])
def test_a_document_that_says_nothing_has_no_chunk(text: str) -> None:
    assert chunker("utf8-bytes").cut(document(text)) == []


def test_the_letter_of_a_document_without_chunks() -> None:
    letter = empty_document(document(""))
    assert (letter.stage, letter.reason, letter.document_id, letter.sequence) == ("chunk", "empty-document", "d", 3)
    assert (letter.source, letter.offset, letter.length) == ("file", 5, 9)


# One tenth of the size of the worst cases: enough to tell linear from quadratic by a factor of a hundred.
@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize(
    "text",
    ["abcdefghij" * 10_000, "\n" * 100_000, "a\u0301" + "\u0301" * 100_000, "> " * 50_000, "[" * 100_000,
     "".join("  " * level + "- x\n" for level in range(300)), "👨\u200d👩\u200d👧" * 15_000, "| x | y |\n" * 10_000],
    ids=["no space", "newlines", "accents", "quotes", "brackets", "nested list", "joined emoji", "table"],
)  # fmt: skip
def test_worst_cases_take_no_quadratic_time(text: str, markdown: bool) -> None:
    cutter = chunker(TIKTOKEN, 128)
    started = time.process_time()
    cutter.cut(document(text, markdown))
    assert time.process_time() - started < 10
