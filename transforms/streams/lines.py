"""Lines of bytes that arrive piece by piece."""

from typing import Final

from tierloom.dead_letter import DeadLetter
from tierloom.document import Deletion, Document, Origin
from transforms.reading.jsonl import Line
from transforms.reading.records import Fields
from transforms.reading.refused import Refused, refusal
from transforms.reading.text_files import LARGEST_DOCUMENT
from transforms.streams.messages import message_event

_BOM: Final = b"\xef\xbb\xbf"


class Lines:
    """Cuts what is fed into lines; the first begins at byte `offset`. Holds at most `largest` bytes of a begun line."""

    def __init__(self, offset: int = 0, largest: int = LARGEST_DOCUMENT) -> None:
        self.offset = offset
        self._largest = largest
        self._number = 0
        self._begun = b""
        self._dropped = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` ends."""
        *ended, self._begun = (self._begun + data).split(b"\n")
        lines = [self._line(piece, 1) for piece in ended]
        if len(self._begun) > self._largest:
            self._dropped += len(self._begun)
            self._begun = b""
        return lines

    def rest(self) -> list[Line]:
        """The last line, if it has no end."""
        lines = [self._line(self._begun, 0)] if self._begun or self._dropped else []
        self._begun = b""
        return lines

    def _line(self, piece: bytes, end: int) -> Line:
        length = self._dropped + len(piece) + end
        # RFC 8259 lets a parser ignore a byte order mark; only the first line can have one.
        held = piece if self.offset else piece.removeprefix(_BOM)
        line = Line(self.offset, length, None if length - end > self._largest else held, self._number)
        self.offset += length
        self._number += 1
        self._dropped = 0
        return line


def line_event(
    line: Line, fields: Fields, origin: Origin, sequence: int, keep: bool
) -> Document | Deletion | DeadLetter:
    """What the record of a line says; `sequence` is that of one without. With `keep`, a letter holds the line."""
    if line.data is None:
        too_large = f"a line of {line.length} bytes, more than the {LARGEST_DOCUMENT} of a document"
        return refusal(Refused("too-large", too_large), origin)
    return message_event(line.data, fields, origin, sequence, keep=keep)
