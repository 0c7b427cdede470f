"""Counting the tokens of OpenAI's vocabularies without a download, and without another library.

`semantic-text-splitter` carries the vocabularies and splits by them, but does not tell its counts. A text that fits
into a capacity is one chunk, though, and a longer one is several: the smallest capacity that leaves a text whole is its
count. To ask that way takes several tokenizations, so texts are cut into words, and each word is asked once. No token
of these vocabularies reaches from a word into the blank behind it, so the counts of words add up.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from semantic_text_splitter import TextSplitter

# Before a blank; where there are none, before the marks that end a clause of Chinese or Japanese.
_WORDS: Final = re.compile(
    r"(?<=\S)(?= )|(?<=[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff])(?=[\u3001\u3002\uff01\uff0c\uff1f])"
)
# A word of one token, which never joins what stands before it. With it behind, even a single character of several
# tokens leaves something to split off.
_BEHIND: Final = " a"
# Longer ones are seldom met again.
_WORTH_KEEPING: Final = 64
_WORDS_KEPT: Final = 1 << 17


class TiktokenCounter:
    """Counts exactly, by the vocabulary of one model. Safe to use from several threads."""

    def __init__(self, model: str) -> None:
        """Raises what the library does for a model without a vocabulary: a bare Exception."""
        TextSplitter.from_tiktoken_model(model, 1)
        self.model = model
        self._kept: Callable[[str], int] = lru_cache(maxsize=_WORDS_KEPT)(self._of_word)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text."""
        return [sum(map(self._of, _WORDS.split(text))) for text in texts]

    def _of(self, word: str) -> int:
        return self._kept(word) if len(word) <= _WORTH_KEEPING else self._of_word(word)

    def _of_word(self, word: str) -> int:
        if not word:
            return 0
        text = word + _BEHIND
        # Most words are one token: that is asked first. No token is less than a byte.
        first, most = 2, len(word.encode()) + 1
        if self._fits(text, first):
            return first - 1
        return first + bisect_left(range(first + 1, most), True, key=lambda capacity: self._fits(text, capacity))

    def _fits(self, text: str, capacity: int) -> bool:
        return len(TextSplitter.from_tiktoken_model(self.model, capacity, trim=False).chunks(text)) == 1
