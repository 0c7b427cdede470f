"""Counts of OpenAI's vocabularies, against what other implementations count, and against the splitter itself."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter

from transforms.chunking.tiktoken_counts import TiktokenCounter

SMALL = TiktokenCounter("text-embedding-3-small")
GPT_4O = TiktokenCounter("gpt-4o")

# As tiktoken and bpe-openai count them: by cl100k_base, by o200k_base.
COUNTED = {
    "": (0, 0),
    "tiktoken is great!": (6, 6),
    "antidisestablishmentarianism": (6, 6),
    "2 + 2 = 4": (7, 7),
    "お誕生日おめでとう": (9, 8),
    "😀": (2, 1),
    "   ": (1, 1),
    "\n\n": (1, 1),
    "<|endoftext|> x": (8, 8),
    "吾輩は猫である。名前はまだ無い。" * 20: (420, 280),
}


@pytest.mark.parametrize("text", COUNTED)
def test_tokens_are_those_that_other_implementations_count(text: str) -> None:
    assert (*SMALL.count([text]), *GPT_4O.count([text])) == COUNTED[text]


@pytest.mark.parametrize("counter", [SMALL, GPT_4O], ids=["cl100k", "o200k"])
@settings(deadline=None)
@given(
    text=st.lists(
        st.one_of(st.text(max_size=6), st.sampled_from([" ", "\n", "  ", "'s", "word", "猫。", "1234", "\t"]))
    )
)
def test_a_whole_text_fits_its_count_and_nothing_less(counter: TiktokenCounter, text: list[str]) -> None:
    joined = "".join(text)
    [tokens] = counter.count([joined])

    def fits(capacity: int) -> bool:
        # What is behind is one token, and can be split off.
        splitter = TextSplitter.from_tiktoken_model(counter.model, capacity, trim=False)
        return len(splitter.chunks(joined + " a")) == 1

    assert fits(tokens + 1)
    assert tokens == 0 or not fits(tokens)


def test_texts_that_were_met_before_are_counted_at_once() -> None:
    texts = [" ".join(f"word{n % 500} and" for n in range(at, at + 400)) for at in range(300)]
    SMALL.count(texts)
    began = time.process_time()
    SMALL.count(texts)
    # A tokenization of each takes about as long.
    assert time.process_time() - began < 1
