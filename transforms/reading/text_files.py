"""Text files: one file, one document."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from tierloom.dead_letter import UNREADABLE, DeadLetter
from tierloom.document import Document, Origin
from tierloom.sealed import canonical
from transforms.chunking.headings import first_heading
from transforms.reading.filesystems import open_file
from transforms.reading.markup import Marked, declared_encoding, html_to_markdown
from transforms.reading.records import checked_id, checked_text
from transforms.reading.refused import Refused, refusal, shown
from transforms.reading.restructuredtext import restructuredtext_to_markdown
from transforms.reading.splits import FilePart, Kind

# A worker holds a document and its chunks whole: this bounds its memory.
LARGEST_DOCUMENT: Final = 64 << 20
_BOM: Final = "\ufeff"


def read_text_file(part: FilePart) -> Document | DeadLetter:
    """The document of a file; a dead letter when it is unreadable, binary, not UTF-8, empty, or broken markup."""
    document_id = part.document_id or PurePosixPath(part.uri).name
    origin = Origin(part.uri, 0, part.size)
    try:
        return _document(part, checked_id(document_id), origin)
    except Refused as refused:
        return refusal(refused, origin, document_id=document_id)


def _document(part: FilePart, document_id: str, origin: Origin) -> Document:
    marked = _MARKED[part.kind](_decoded(_read(part), part.kind))
    return Document(
        document_id=document_id,
        sequence=part.sequence,
        text=checked_text(marked.text),
        metadata=canonical({"source": document_id}).decode(),
        origin=origin,
        title=marked.title or PurePosixPath(document_id).stem,
        markdown=part.kind != "text",
    )


def _read(part: FilePart) -> bytes:
    try:
        with open_file(part.uri) as stream:
            data: bytes = stream.read(LARGEST_DOCUMENT + 1)
    except OSError as error:
        raise Refused(UNREADABLE, str(error)) from error
    if len(data) > LARGEST_DOCUMENT:
        raise Refused("too-large", f"{part.size} bytes, more than the {LARGEST_DOCUMENT} of a document: split it")
    return data


def _decoded(data: bytes, kind: Kind) -> str:
    if (nul := data.find(b"\0")) >= 0:
        raise Refused("binary-file", f"a NUL byte at offset {nul}; if this is UTF-16 text, convert it to UTF-8")
    try:
        return data.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        if kind == "html" and (text := _as_declared(data)) is not None:
            return text
        found = shown(data[error.start : error.end])
        raise Refused("invalid-utf8", f"{found} at byte offset {error.start}: {error.reason}") from error


def _as_declared(page: bytes) -> str | None:
    """The text of a page in the encoding that it names; None if it is not in that one either."""
    try:
        return page.decode(declared_encoding(page) or "utf-8")
    except (UnicodeError, LookupError):  # codecs that are not of text, such as hex, are no encodings
        return None


def _plain(text: str) -> Marked:
    return Marked(text, "")


def _markdown(text: str) -> Marked:
    return Marked(text, first_heading(text))


_MARKED: Final[dict[Kind, Callable[[str], Marked]]] = {
    "text": _plain,
    "markdown": _markdown,
    "html": html_to_markdown,
    "restructuredtext": restructuredtext_to_markdown,
}
