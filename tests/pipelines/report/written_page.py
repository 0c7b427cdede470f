"""A report as a parser sees it: its elements, and the cells of its tables."""

from collections import defaultdict
from html.parser import HTMLParser
from typing import Final

_VOID: Final = frozenset({"meta", "link", "br", "img", "input", "hr"})


class WrittenPage(HTMLParser):
    """`elements` are (name, names of attributes) in order, `attributes` (element, name, value);
    `tables` the texts of the cells of each row, by the table's id; `text` is everything that is read.

    Fails for a page whose elements are not closed as they were opened.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: defaultdict[str, list[list[str]]] = defaultdict(list)
        self.text = ""
        self._open: list[str] = []
        self._table = ""
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = dict(attrs)["id"] or ""
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag == "br":
            self.handle_data(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (tag, self._open)

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self._open or "th" in self._open:
            row = self.tables[self._table][-1]
            row[-1] = " ".join((row[-1] + data).split()) + (" " if data.endswith((" ", "\n")) else "")

    def column(self, table: str, heading: str) -> list[str]:
        """The cells of a column, without its heading."""
        head, *rows = self.tables[table]
        return [row[[cell.strip() for cell in head].index(heading)].strip() for row in rows]
