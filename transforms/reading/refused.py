"""Why a document was not read: raised where it is found, made a dead letter where the place is known."""

from typing import Final

from tierloom.dead_letter import DeadLetter
from tierloom.document import Origin

_LONGEST: Final = 200


class Refused(Exception):
    """A document or record that cannot be read: `reason` a short fixed word, `detail` a sentence with the values."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def refusal(refused: Refused, origin: Origin, line: int | None = None, document_id: str | None = None) -> DeadLetter:
    """The dead letter of what was refused at `origin`."""
    return DeadLetter(
        stage="read",
        reason=refused.reason,
        detail=refused.detail,
        source=origin.source,
        offset=origin.offset,
        length=origin.length,
        line=line,
        document_id=document_id,
        record=origin.record,
    )


def shown(value: object) -> str:
    """`value` for a message: its repr, cut to a bearable length, lone surrogates escaped."""
    text = repr(value[: _LONGEST + 1] if isinstance(value, str | bytes) else value)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
