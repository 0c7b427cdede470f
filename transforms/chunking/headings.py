"""The headings of Markdown, and the path of headings that leads to a place in it."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tierloom.model_input import LONGEST_PATH

SEPARATOR: Final = " > "

_BLOCKS: Final = MarkdownIt("commonmark")
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])
_INLINE: Final = MarkdownIt("commonmark")
_LINE: Final = re.compile(r"\r\n|\n|\r")
# A rule and a paragraph are no front matter: its first line is a name and a colon.
_FRONT_MATTER: Final = re.compile(r"---[ \t]*\r?\n(?=[\w-]+:)(.*?)^(?:---|\.\.\.)[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_FRONT_TITLE: Final = re.compile(r"^title:[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)
_INLINE_MARK: Final = re.compile(r"[\\`*_\[\]<>&!]")
# Without one of these there is no heading, and nothing need be parsed.
_MARK: Final = re.compile(r"(?:^|\r) {0,3}(?:#|=+[ \t]*(?:\r|$)|-+[ \t]*(?:\r|$))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 to 6 whose line starts at character `offset`."""

    offset: int
    level: int
    text: str


def find_headings(markdown: str) -> list[Heading]:
    """The headings outside of quotes and lists, in order; YAML front matter is not looked into."""
    start = match.end() if (match := _FRONT_MATTER.match(markdown)) else 0
    return list(_headings(markdown[start:], start)) if _MARK.search(markdown, start) else []


def first_heading(markdown: str) -> str:
    """The title in the front matter, else the text of the first heading that has one, else nothing."""
    if (front := _FRONT_MATTER.match(markdown)) and (title := _FRONT_TITLE.search(front[1])):
        return title[1].strip("\"'")
    return next((heading.text for heading in find_headings(markdown) if heading.text), "")


class HeadingPaths:
    """The heading paths of one document, by character offset."""

    def __init__(self, title: str, headings: list[Heading]) -> None:
        self._offsets = [heading.offset for heading in headings]
        self._paths = list(_paths(_one_line(title), headings))

    def at(self, offset: int) -> str:
        """The path ("Guide > Install > Linux") of the headings that hold `offset`, at most `LONGEST_PATH` bytes.

        The title comes first if it is not the first heading. Of a path too long the outer headings are left out.
        """
        return self._paths[bisect_right(self._offsets, offset)]


def _headings(markdown: str, start: int) -> Iterator[Heading]:
    lines = [0, *(match.end() for match in _LINE.finditer(markdown))]
    tokens = _BLOCKS.parse(markdown)
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map:
            yield Heading(start + lines[opening.map[0]], int(opening.tag[1]), _plain(content.content))


def _plain(inline: str) -> str:
    if not _INLINE_MARK.search(inline):
        return _one_line(inline)
    (token,) = _INLINE.parseInline(inline)
    return _one_line("".join(_texts(token)))


def _texts(token: Token) -> Iterator[str]:
    for child in token.children or ():
        if child.type == "image":
            yield from _texts(child)
        elif child.type in ("softbreak", "hardbreak"):
            yield " "
        elif child.type != "html_inline":
            yield child.content


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _paths(title: str, headings: list[Heading]) -> Iterator[str]:
    """The path before the first heading, then the one from each heading on."""
    yield _path(title, [])
    above: list[Heading] = []
    for heading in headings:
        above = [*(other for other in above if other.level < heading.level), heading]
        yield _path(title, [other.text for other in above if other.text])


def _path(title: str, texts: list[str]) -> str:
    known = bool(texts) and texts[0].casefold() == title.casefold()
    names = texts if known or not title else [title, *texts]
    while len(names) > 1 and len(SEPARATOR.join(names).encode()) > LONGEST_PATH:
        names = names[1:]
    return _cut(SEPARATOR.join(names))


def _cut(path: str) -> str:
    data = path.encode()
    if len(data) <= LONGEST_PATH:
        return path
    return data[: LONGEST_PATH - len("…".encode())].decode(errors="ignore") + "…"
