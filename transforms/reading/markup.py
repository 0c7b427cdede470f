"""HTML to Markdown: the one form of markup that is chunked.

The converter is html-to-markdown, a parser in Rust: measured on a page of 1 MB, 0.2 s against 12 s of markdownify,
and it says what it left out instead of ending in a RecursionError.
"""

import codecs
import html
import re
from dataclasses import dataclass
from typing import Any, Final

from html_to_markdown import (
    ConversionError,
    ConversionOptions,
    InlineDataMedia,
    PreprocessingOptions,
    convert,
)

from transforms.chunking.headings import first_heading
from transforms.reading.refused import Refused

# What stands around the content of a page, by HTML's own elements and by ARIA's landmarks; `a.headerlink` is the
# pilcrow that Sphinx puts behind each heading.
_BOILERPLATE: Final = ["nav", "footer", "button", "[role=navigation]", "[role=contentinfo]", "a.headerlink"]
_OPTIONS: Final = ConversionOptions(
    autolinks=False,
    compact_tables=True,
    exclude_selectors=_BOILERPLATE,
    extract_metadata=False,
    inline_data_media=InlineDataMedia.ALT_TEXT_ONLY,
    # Its own list of what is boilerplate takes the <header> of an article, and the title in it, away.
    preprocessing=PreprocessingOptions(enabled=False),
)
_CHARSET: Final = re.compile(rb"<meta\b[^>]*\bcharset\s*=\s*[\"']?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_TITLE: Final = re.compile(r"<title\b[^>]*>([^<]*)</title", re.IGNORECASE)


class _LinkText:
    """Leaves the text of a link without its address, which says nothing to an embedding model."""

    def visit_link(self, _context: object, _href: str, text: str, _title: str | None) -> dict[str, str]:
        # Not a `VisitResult`, which the declared type asks for: 3.21 takes one of those for "continue".
        return {"custom": text}


_LINKS: Final[Any] = _LinkText()


@dataclass(frozen=True, slots=True)
class Marked:
    """A text in Markdown, and its title: empty if it has none."""

    text: str
    title: str


def html_to_markdown(source: str) -> Marked:
    """The content of a page as Markdown, titled by its `<title>` or first heading.

    Scripts, styles and navigation are dropped. Raises `Refused` (`invalid-markup`) when a part would be lost.
    """
    try:
        result = convert(source, _OPTIONS, _LINKS)
    except (ConversionError, ValueError, RuntimeError) as error:
        raise Refused("invalid-markup", str(error)) from error
    for warning in result.warnings:
        if "depth_limit_exceeded" in str(warning.kind):
            raise Refused("invalid-markup", f"the HTML is nested too deeply: {warning.message}")
    text = result.content or ""
    return Marked(text, _title(source) or first_heading(text))


def declared_encoding(page: bytes) -> str | None:
    """The encoding that a page names in its first 1,024 bytes, as HTML has it; None if it names none that is known."""
    match = _CHARSET.search(page, 0, 1024)
    if match is None:
        return None
    label = match[1].decode().lower()
    # The WHATWG Encoding Standard: who says Latin 1 or ASCII means Windows-1252.
    label = "windows-1252" if label in ("iso-8859-1", "latin1", "us-ascii") else label
    try:
        return codecs.lookup(label).name
    except LookupError:
        return None


def _title(source: str) -> str:
    match = _TITLE.search(source)
    return " ".join(html.unescape(match[1]).split()) if match else ""
