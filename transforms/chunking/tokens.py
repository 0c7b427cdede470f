"""Tokens: the checkpoint's own tokenizer, counting and splitting, without a download."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from tierloom.collection import Chunking
from tierloom.errors import CheckpointError, MissingExtra
from transforms.chunking.tiktoken_counts import TiktokenCounter

# The tokens of each text.
Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Splitters:
    """How to split plain text and Markdown by tokens, and how to count them."""

    plain: TextSplitter
    markdown: MarkdownSplitter
    count: Count


def open_splitters(tokenizer: str, chunking: Chunking) -> Splitters:
    """The splitters of `Checkpoint.tokenizer`. They hold what cannot be pickled.

    Raises `CheckpointError` for a tokenizer that is unknown or cannot be loaded, `MissingExtra` for one that
    needs a package that is not installed.
    """
    kind, _, name = tokenizer.partition(":")
    if kind == "tiktoken" and name:
        return _tiktoken(name, chunking)
    if tokenizer == "utf8-bytes":
        return _bytes(chunking)
    if tokenizer == "wordllama" or (kind == "huggingface" and name):
        return _huggingface(tokenizer, name, chunking)
    raise CheckpointError(
        f"tokenizer {tokenizer!r} is unknown; it is one of tiktoken:<model>, wordllama, "
        "huggingface:<path of a tokenizer.json>, utf8-bytes"
    )


def _tiktoken(model: str, chunking: Chunking) -> Splitters:
    limits = (chunking.max_tokens, chunking.overlap_tokens)
    try:
        plain = TextSplitter.from_tiktoken_model(model, *limits)
        return Splitters(plain, MarkdownSplitter.from_tiktoken_model(model, *limits), TiktokenCounter(model).count)
    except Exception as error:  # the library raises bare Exception for a model without a vocabulary
        raise CheckpointError(f"tokenizer tiktoken:{model}: {error}; utf8-bytes bounds any byte-level model") from error


def _bytes(chunking: Chunking) -> Splitters:
    limits = (chunking.max_tokens, chunking.overlap_tokens)
    return Splitters(
        TextSplitter.from_callback(utf8_length, *limits),
        MarkdownSplitter.from_callback(utf8_length, *limits),
        lambda texts: [utf8_length(text) for text in texts],
    )


def _huggingface(tokenizer: str, path: str, chunking: Chunking) -> Splitters:
    try:
        # Here, because `tokenizers` comes with an optional extra.
        from transforms.chunking.huggingface import load_tokenizer, wordllama_tokenizer
    except ImportError as error:
        raise MissingExtra("local", f"tokenizer {tokenizer}") from error
    loaded = load_tokenizer(path) if path else wordllama_tokenizer()
    limits = (chunking.max_tokens, chunking.overlap_tokens)
    return Splitters(
        TextSplitter.from_huggingface_tokenizer(loaded.tokenizer, *limits),
        MarkdownSplitter.from_huggingface_tokenizer(loaded.tokenizer, *limits),
        loaded.count,
    )


def open_count(tokenizer: str) -> Count:
    """Counts texts that were cut by another tokenizer. Raises as `open_splitters`."""
    return open_splitters(tokenizer, Chunking()).count


def utf8_length(text: str) -> int:
    """Bytes of the text in UTF-8: no byte-level vocabulary makes more tokens of it."""
    return len(text.encode())
