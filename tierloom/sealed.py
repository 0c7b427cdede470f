"""JSON objects that carry the sha256 of their own content, and are read strictly.

A sealed object is canonical JSON (sorted keys, no spaces, UTF-8, a final newline) whose member `sha256`
is the hash of the same object without that member. Only that one spelling is accepted: a flipped bit, a
duplicate key, an unknown member or a wrong type is refused by name.
"""

import hashlib
import json
from typing import Any, TypeVar

import msgspec

from tierloom.errors import Corrupt, FormatTooNew, Malformed

T = TypeVar("T", bound=msgspec.Struct)

MAX_BYTES = 64 << 20
_SEAL = "sha256"


def seal(value: msgspec.Struct) -> bytes:
    """`value` as sealed JSON bytes."""
    members = msgspec.to_builtins(value)
    members[_SEAL] = hashlib.sha256(canonical(members)).hexdigest()
    return canonical(members) + b"\n"


def unseal(data: bytes, kind: type[T], name: str, newest_format: int) -> T:
    """The value sealed in `data`; `name` is the object's name, for messages.

    Raises:
        Malformed: not JSON, or not of this kind: the message names the member.
        Corrupt: the seal does not fit the content, or it is spelled otherwise than `seal` does.
        FormatTooNew: its `format` is above `newest_format`.
    """
    members = _parse(data, name)
    _refuse_newer(members, name, newest_format)
    _refuse_broken_seal(data, members, name)
    try:
        return msgspec.convert(members, kind, strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: {error}") from error


def canonical(members: Any) -> bytes:
    """One spelling for equal JSON values: the bytes that are hashed."""
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _refuse_broken_seal(data: bytes, members: dict[str, Any], name: str) -> None:
    """Take the seal off `members`, if it is whole."""
    spelled = _spell(members, name) + b"\n"
    if (stated := members.pop(_SEAL, None)) is None:
        raise Malformed(f"{name}: has no member {_SEAL!r}")
    if (found := hashlib.sha256(_spell(members, name)).hexdigest()) != stated:
        raise Corrupt(f"{name}: states sha256 {stated!r}, but its content has {found}")
    if spelled != data:
        raise Corrupt(f"{name}: its content fits its seal, but its bytes are not the canonical JSON of it")


def _spell(members: dict[str, Any], name: str) -> bytes:
    """`canonical`, of members that anyone may have written."""
    try:
        return canonical(members)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name}: holds what JSON cannot: {error}") from error


def _parse(data: bytes, name: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise Malformed(f"{name}: {len(data)} bytes, more than the {MAX_BYTES} that such an object may have")
    try:
        members = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name}: not valid JSON: {error}") from error
    if not isinstance(members, dict):
        raise Malformed(f"{name}: a JSON object was expected, found {type(members).__name__}")
    return members


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"member {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return members


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _refuse_newer(members: dict[str, Any], name: str, newest: int) -> None:
    stated = members.get("format")
    if isinstance(stated, int) and stated > newest:
        raise FormatTooNew(f"{name}: written in format {stated}; this Tierloom reads up to {newest}. Upgrade it.")
