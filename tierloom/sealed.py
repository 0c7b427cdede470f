"""JSON objects that carry the sha256 of their own content, and are read strictly.

A sealed object is canonical JSON (sorted keys, no spaces, UTF-8, a final newline) whose member `sha256`
is the hash of the same object without that member. Only that one spelling is accepted: a flipped bit, a
duplicate key, an unknown member or a wrong type is refused by name.
"""

import hashlib
import json
from typing import Any, Final, TypeVar

import msgspec

from tierloom.errors import Corrupt, FormatTooNew, InputError, Malformed
from tierloom.stores.store import Store

T = TypeVar("T", bound=msgspec.Struct)

# Of a manifest that is enough for a thousand million rows; and what is no longer is refused, whatever is in
# it, within about a tenth of a second.
MAX_BYTES: Final = 4 << 20
_SEAL: Final = "sha256"


def seal(value: msgspec.Struct, longest: int = MAX_BYTES) -> bytes:
    """`value` as sealed JSON bytes. Raises `InputError` when nobody could read them, for their length."""
    members = msgspec.to_builtins(value)
    members[_SEAL] = hashlib.sha256(canonical(members)).hexdigest()
    data = canonical(members) + b"\n"
    if len(data) > longest:
        raise InputError(
            f"a {type(value).__name__} of {len(data)} bytes, more than the {longest} that such an object may have; "
            "make fewer and larger shards (tierloom compact, tierloom init --shard-rows)"
        )
    return data


def read_sealed(store: Store, name: str, longest: int = MAX_BYTES) -> bytes:
    """The bytes of a sealed object, never more than one may have. Raises `NotFound` or `Malformed`."""
    length = store.size(name)
    if length is not None and length > longest:
        raise _too_long(name, length, longest)
    return store.read(name)


def unseal(data: bytes, kind: type[T], name: str, newest_format: int, longest: int = MAX_BYTES) -> T:
    """The value sealed in `data`; `name` is the object's name, for messages.

    Raises:
        Malformed: not JSON, or not of this kind: the message names the member.
        Corrupt: the seal does not fit the content, or it is spelled otherwise than `seal` does.
        FormatTooNew: its `format` is above `newest_format`.
    """
    if len(data) > longest:
        raise _too_long(name, len(data), longest)
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
    # Spelled once: with the seal to compare, and without it to hash.
    spelled = {member: canonical(member) + b":" + _spell(members[member], name) for member in sorted(members)}
    if (stated := members.pop(_SEAL, None)) is None:
        _refuse_duplicates(data, name)
        raise Malformed(f"{name}: has no member {_SEAL!r}")
    content = b"{" + b",".join(text for member, text in spelled.items() if member != _SEAL) + b"}"
    if (found := hashlib.sha256(content).hexdigest()) != stated:
        raise Corrupt(f"{name}: states sha256 {stated!r}, but its content has {found}")
    if data != b"{" + b",".join(spelled.values()) + b"}\n":
        _refuse_duplicates(data, name)
        raise Corrupt(f"{name}: its content fits its seal, but its bytes are not the canonical JSON of it")


def _spell(value: Any, name: str) -> bytes:
    """`canonical`, of what anyone may have written."""
    try:
        return canonical(value)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name}: holds what JSON cannot: {error}") from error


def _too_long(name: str, length: int, longest: int) -> Malformed:
    return Malformed(f"{name}: {length} bytes, more than the {longest} that such an object may have")


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{name}: not valid JSON: {error}") from error
    if not isinstance(members, dict):
        raise Malformed(f"{name}: a JSON object was expected, found {type(members).__name__}")
    return members


def _refuse_duplicates(data: bytes, name: str) -> None:
    try:
        json.loads(data, object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise Malformed(f"{name}: not valid JSON: {error}") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"member {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return members


def _refuse_newer(members: dict[str, Any], name: str, newest: int) -> None:
    stated = members.get("format")
    if isinstance(stated, int) and stated > newest:
        raise FormatTooNew(f"{name}: written in format {stated}; this Tierloom reads up to {newest}. Upgrade it.")
