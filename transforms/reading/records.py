"""Records: one line of JSONL or one row of Parquet, made a document."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from tierloom.document import Deletion, Document, Origin
from transforms.reading.refused import Refused, shown

LONGEST_ID: Final = 1024
_INT64: Final = range(-(1 << 63), 1 << 63)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1)
# One spelling for equal metadata: shards are named by what is in them.
_metadata_json: Final = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of a record are its id, text and sequence, and which tells that the document is deleted.

    Every other field joins the metadata; a field `metadata` that is an object is merged into it.
    """

    id: str = "id"
    text: str = "text"
    sequence: str = "sequence"
    deleted: str = "deleted"


def record_event(
    record: Mapping[str, Any], fields: Fields, origin: Origin, undated_sequence: int
) -> Document | Deletion:
    """What a record says: a document, or its deletion. `undated_sequence` is that of one without a sequence.

    Raises `Refused` with the reason `missing-id`, `invalid-id`, `id-too-long`, `missing-text`, `invalid-text`,
    `empty-document`, `invalid-sequence`, `invalid-deleted` or `invalid-unicode`.
    """
    document_id = record_id(record, fields)
    sequence = _sequence(record.get(fields.sequence), undated_sequence)
    if _is_deletion(record, fields):
        return Deletion(document_id, sequence)
    text = _text(record, fields)
    title = record.get("title")
    return Document(
        document_id=document_id,
        sequence=sequence,
        text=text,
        metadata=_metadata(record, fields),
        origin=origin,
        title=title if isinstance(title, str) and fields.text != "title" else "",
    )


def record_id(record: Mapping[str, Any], fields: Fields) -> str:
    """The id of a record: a string, or the decimal text of an integer. Raises `Refused`."""
    if fields.id not in record:
        raise Refused("missing-id", f"the record has no field {shown(fields.id)}; it has {_names(record)}")
    value = record[fields.id]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise Refused("invalid-id", f"field {shown(fields.id)} must be a string or an integer, not {shown(value)}")
    return checked_id(value)


def checked_id(document_id: str) -> str:
    """The id, if it is not too long and is Unicode text. Raises `Refused`."""
    size = len(_encoded(document_id, "the id"))
    if size > LONGEST_ID:
        raise Refused("id-too-long", f"the id has {size} bytes of at most {LONGEST_ID}: {shown(document_id)}")
    return document_id


def checked_text(text: str) -> str:
    """The text, if it is Unicode text and says something. Raises `Refused`."""
    _encoded(text, "the text")
    if not text or text.isspace():
        raise Refused("empty-document", "the text is empty or white space")
    return text


def _is_deletion(record: Mapping[str, Any], fields: Fields) -> bool:
    value = record.get(fields.deleted)
    if value is not None and not isinstance(value, bool):
        raise Refused("invalid-deleted", f"field {shown(fields.deleted)} must be true or false, not {shown(value)}")
    return bool(value)


def _text(record: Mapping[str, Any], fields: Fields) -> str:
    value = record.get(fields.text)
    if value is None:
        raise Refused("missing-text", f"the record has no text in field {shown(fields.text)}; it has {_names(record)}")
    if not isinstance(value, str):
        raise Refused("invalid-text", f"field {shown(fields.text)} must be a string, not {shown(value)}")
    return checked_text(value)


def _metadata(record: Mapping[str, Any], fields: Fields) -> str:
    others = dict(record)
    for name in (fields.id, fields.text, fields.sequence, fields.deleted):
        others.pop(name, None)
    if isinstance(nested := others.get("metadata"), Mapping):
        del others["metadata"]
        others = {**nested, **others}
    try:
        return _metadata_json(others).decode()
    except UnicodeEncodeError as error:
        raise Refused("invalid-unicode", f"a lone surrogate in the metadata: {error.reason}") from error


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Refused("invalid-unicode", f"{what} has a lone surrogate at character {error.start}") from error


def _names(record: Mapping[str, Any]) -> str:
    return shown(sorted(record)[:20])


def _sequence(value: object, undated: int) -> int:
    if value is None:
        return undated
    if isinstance(value, str):
        value = nanoseconds(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused("invalid-sequence", f"{shown(value)} is neither an integer nor an RFC 3339 date and time")
    if value not in _INT64:
        raise Refused("invalid-sequence", f"{shown(value)} lies outside of 64 bits")
    return value


def nanoseconds(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 date and time, rounded down. Raises `Refused`."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise Refused("invalid-sequence", f"{shown(text)} is neither an integer nor an RFC 3339 date and time")
    day, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        # A leap second, :60, is the start of the next minute: `datetime` knows none.
        since = datetime.fromisoformat(f"{day}T{minute}") - _EPOCH
    except ValueError as error:
        raise Refused("invalid-sequence", f"{shown(text)}: {error}") from error
    if int(second) > 60:
        raise Refused("invalid-sequence", f"{shown(text)}: second must be in 0..60")
    offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
    seconds = since.days * 86_400 + since.seconds + int(second) - offset
    return seconds * 1_000_000_000 + int((fraction or "")[:9].ljust(9, "0"))
