import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.model_input import LONGEST_PATH
from transforms.chunking.headings import Heading, HeadingPaths, find_headings, first_heading

GUIDE = """Preface

# Guide

## Install

```
# no heading
```

> # quoted

### `Linux` and **more**

Setext
======

- # in a list

    # indented
## <b>End</b> ##
"""


def test_headings_are_those_of_commonmark() -> None:
    headings = find_headings(GUIDE)

    assert [(heading.level, heading.text) for heading in headings] == [
        (1, "Guide"),
        (2, "Install"),
        (3, "Linux and more"),
        (1, "Setext"),
        (2, "End"),
    ]
    for heading in headings:
        assert GUIDE[heading.offset - 1] == "\n"
        assert heading.text.split()[0] in GUIDE[heading.offset :].splitlines()[0]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_offsets_count_the_characters_of_any_line_end(line_end: str) -> None:
    markdown = line_end.join(["---", "title: x", "---", "ü", "", "# A", "b", "", "C", "---"])
    expected = [markdown.index("# A"), markdown.index("C" + line_end)]
    if line_end == "\r":  # front matter is read with line feeds alone
        markdown = markdown[len("---\rtitle: x\r---\r") :]
        expected = [markdown.index("# A"), markdown.index("C" + line_end)]
    assert [heading.offset for heading in find_headings(markdown)] == expected


def test_front_matter_is_no_heading() -> None:
    assert find_headings("---\ntitle: x\n---\ntext\n") == []
    assert first_heading('---\nlayout: y\ntitle: "In front"\n---\n# Later\n') == "In front"
    assert first_heading("---\n\n# After a rule\n") == "After a rule"


@given(st.lists(st.sampled_from(["# A", "## B", "### C", "text", "", "```", "> # Q", "    # I"])))
def test_plain_headings_are_found_as_by_hand(lines: list[str]) -> None:
    expected, fenced = [], False
    for line in lines:
        if line == "```":
            fenced = not fenced
        elif not fenced and (match := re.fullmatch(r"(#+) ([A-Z])", line)):
            expected.append((len(match[1]), match[2]))
    assert [(heading.level, heading.text) for heading in find_headings("\n".join(lines))] == expected


def paths(title: str) -> HeadingPaths:
    return HeadingPaths(title, find_headings(GUIDE))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("Preface", "Guide"),
        ("# Guide", "Guide"),
        ("## Install", "Guide > Install"),
        ("# no heading", "Guide > Install"),
        ("# quoted", "Guide > Install > Linux and more"),
        ("- # in a list", "Guide > Setext"),
        ("## <b>End", "Guide > Setext > End"),
    ],
)
def test_the_path_holds_the_headings_above(place: str, expected: str) -> None:
    assert paths("Guide").at(GUIDE.index(place)) == (expected if place != "# quoted" else "Guide > Install")


def test_a_title_that_is_the_first_heading_is_not_said_twice() -> None:
    offset = GUIDE.index("## Install")
    assert paths("guide").at(offset) == "Guide > Install"
    assert paths("Manual").at(offset) == "Manual > Guide > Install"
    assert paths("").at(offset) == "Guide > Install"
    assert paths("").at(0) == ""


@given(
    st.text(st.characters(codec="utf-8")),
    st.lists(st.tuples(st.integers(1, 6), st.text(st.characters(codec="utf-8"), max_size=300)), max_size=8),
)
def test_a_path_is_never_too_long(title: str, headings: list[tuple[int, str]]) -> None:
    found = HeadingPaths(title, [Heading(offset, level, text) for offset, (level, text) in enumerate(headings)])
    for offset in range(-1, len(headings)):
        assert len(found.at(offset).encode()) <= LONGEST_PATH


def test_of_a_long_path_the_innermost_heading_is_kept() -> None:
    headings = [Heading(0, 1, "a" * 200), Heading(1, 2, "b" * 200), Heading(2, 3, "c")]
    found = HeadingPaths("", headings)
    assert found.at(1) == "b" * 200
    assert found.at(2) == "b" * 200 + " > c"
