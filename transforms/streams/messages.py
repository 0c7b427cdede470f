"""Messages: one JSON record each, from a source that may not give it again."""

import base64
from dataclasses import replace
from typing import Any, Final

from tierloom.dead_letter import DeadLetter, KeptRecord
from tierloom.document import Deletion, Document, Origin
from transforms.reading.jsonl import parsed_record
from transforms.reading.records import Fields, record_event, record_id
from transforms.reading.refused import Refused, refusal, shown

# Every publish reads the open letters: larger records are not kept in them.
MOST_KEPT_BYTES: Final = 64 << 10


def message_event(
    data: bytes, fields: Fields, origin: Origin, sequence: int, key: str | None = None, keep: bool = True
) -> Document | Deletion | DeadLetter:
    """What a record says. One without an id has `key`, one without a sequence has `sequence`.

    With `keep`, a letter about the record holds it: its source will not give it again.
    """
    if keep:
        origin = replace(origin, record=_kept(data, fields, sequence, key))
    record: dict[str, Any] = {}
    try:
        record = parsed_record(data)
        if key is not None:
            record.setdefault(fields.id, key)
        return record_event(record, fields, origin, sequence)
    except Refused as refused:
        if keep and origin.record is None:
            refused = Refused(refused.reason, f"{refused.detail}; {_too_large(data)}")
        return refusal(refused, origin, document_id=_id_if_any(record, fields))


def letter_event(letter: DeadLetter) -> Document | Deletion | DeadLetter:
    """What the record says that `letter` keeps. Raises `ValueError` if it keeps none."""
    record = letter.record
    if record is None:
        raise ValueError(f"dead letter {letter.letter_id} keeps no record")
    data = base64.b64decode(record.data) if record.base64 else record.data.encode()
    origin = Origin(letter.source, letter.offset or 0, letter.length)
    return message_event(data, Fields(*record.fields), origin, record.sequence, record.key)


def key_of(key: bytes) -> str:
    """The id that a message's key is. Raises `Refused` (`invalid-utf8`)."""
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid-utf8", f"the key of the message is not UTF-8: {shown(key)}") from error


def _kept(data: bytes, fields: Fields, sequence: int, key: str | None) -> KeptRecord | None:
    if len(data) > MOST_KEPT_BYTES:
        return None
    names = (fields.id, fields.text, fields.sequence, fields.deleted)
    try:
        return KeptRecord(data.decode(), sequence, names, key=key)
    except UnicodeDecodeError:
        return KeptRecord(base64.b64encode(data).decode(), sequence, names, True, key)


def _too_large(data: bytes) -> str:
    return f"its {len(data):,} bytes are not kept here, for they are more than {MOST_KEPT_BYTES:,}"


def _id_if_any(record: dict[str, Any], fields: Fields) -> str | None:
    try:
        return record_id(record, fields)
    except Refused:
        return None
