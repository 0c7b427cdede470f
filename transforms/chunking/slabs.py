"""Slabs: what the splitter is given at once.

`semantic-text-splitter` takes time quadratic in the longest stretch it cannot break at a line end: measured with a
limit of 512 tokens, 50 kB without a space take 1 s, 500 kB take 90 s. Lines of ordinary length are linear. So
a line too long is cut first, into pieces a fixed multiple of a chunk: then every text is linear, and only such lines
pay with a chunk cut short at the end of each piece.
"""

import io
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

LARGEST: Final = 1 << 18
# A line may be as long as so many times the tokens of a chunk, in characters: about eight chunks of English.
LINE_CHARACTERS_PER_TOKEN: Final = 32
# A stretch without a space costs most, and reads worst: shorter pieces.
_UNBROKEN_SHARE: Final = 4
# Quotes and lists of 64 levels. The Markdown splitter tries every level: 400 of them in 160 kB take 80 s.
_DEEPLY_NESTED: Final = re.compile(r"^(?:[ \t>]|[*+-][ \t]|\d{1,9}[.)][ \t]){128}", re.MULTILINE)
_JOINER: Final = "\u200d"
_LONGEST_CLUSTER: Final = 64


def is_deeply_nested(markdown: str) -> bool:
    """Whether Markdown nests so deeply that its structure must be left out of account."""
    return _DEEPLY_NESTED.search(markdown) is not None


def cut_slabs(text: str, longest_line: int) -> Iterator[tuple[int, str]]:
    """Consecutive pieces of `text` that make it up, each with the character offset at which it starts.

    None is longer than `LARGEST`, if that is above `longest_line`; a line longer than `longest_line` is cut after
    a sentence, else between words, else between characters that stand for themselves.
    """
    start = reached = 0
    for line in io.StringIO(text, newline="\n"):
        if len(line) > longest_line:
            yield from _slab(text, start, reached)
            yield from _pieces(text, reached, reached + len(line), longest_line)
            start = reached + len(line)
        elif reached + len(line) - start > LARGEST:
            end = _paragraph_end(text, start, reached)
            yield from _slab(text, start, end)
            start = end
        reached += len(line)
    yield from _slab(text, start, reached)


def _slab(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    if start < end:
        yield start, text[start:end]


def _paragraph_end(text: str, start: int, end: int) -> int:
    """After the last blank line of the second half of [start, end), or `end`."""
    blank = text.rfind("\n\n", (start + end) // 2, end)
    return end if blank < 0 else blank + 2


def _pieces(text: str, start: int, end: int, longest: int) -> Iterator[tuple[int, str]]:
    while end - start > longest:
        cut = _cut(text, start, start + longest)
        yield start, text[start:cut]
        start = cut
    yield start, text[start:end]


def _cut(text: str, start: int, end: int) -> int:
    middle = (start + end) // 2
    for mark in (". ", "。", " "):
        if (found := text.rfind(mark, middle, end)) >= 0:
            return found + len(mark)
    return _between_clusters(text, start, start + (end - start) // _UNBROKEN_SHARE)


def _between_clusters(text: str, start: int, end: int) -> int:
    """At most `_LONGEST_CLUSTER` characters before `end`, where no accent or emoji is torn from its base."""
    lowest = max(start + 1, end - _LONGEST_CLUSTER)
    return next((cut for cut in range(end, lowest, -1) if not _joined(text[cut - 1], text[cut])), end)


def _joined(before: str, after: str) -> bool:
    return before == _JOINER or after == _JOINER or unicodedata.combining(after) > 0 or "\ufe00" <= after <= "\ufe0f"
