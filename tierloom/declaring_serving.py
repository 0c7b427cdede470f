"""How a collection is served, as its owner writes it in TOML:

default = "balanced"
[profiles.balanced]
tier = 128
[profiles.autocomplete]
tier = 64
rerank = false
top = 5
[profiles.thrifty]
tier = "256-binary"
shortlist = 500
funnel = [{ dimensions = 256, keep = 100 }]
[routes]
typing = "autocomplete"

Of a profile only `tier` must be there.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tierloom.errors import InputError
from tierloom.serving import Narrowing, Profile, Serving
from tierloom.spelling import unknown_member


def declared_serving(path: Path) -> Serving:
    """The profiles and routes that a file declares. Raises `InputError` that names the member at fault, and the one
    that may have been meant."""
    members = _read(path)
    _refuse_unknown_members(members, path)
    try:
        return msgspec.convert(_with_tier_names(members), Serving, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error


def _refuse_unknown_members(members: dict[str, Any], path: Path) -> None:
    _refuse_unknown(members, Serving, f"{path}")
    for name, profile in _tables(members.get("profiles")):
        _refuse_unknown(profile, Profile, f"{path}: profile {name}")
        steps = profile.get("funnel")
        for at, step in enumerate(steps if isinstance(steps, list) else (), 1):
            if isinstance(step, dict):
                _refuse_unknown(step, Narrowing, f"{path}: profile {name}: step {at} of its funnel")


def _refuse_unknown(members: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    if problem := unknown_member(members, kind):
        raise InputError(f"{where}: {problem}")


def _with_tier_names(members: dict[str, Any]) -> dict[str, Any]:
    """A tier may be named by a number: that of an int8 tier of so many dimensions."""
    profiles = members.get("profiles")
    if not isinstance(profiles, dict):
        return members
    named = {name: profile | _named_tier(profile) for name, profile in _tables(profiles)}
    return members | {"profiles": profiles | named}


def _named_tier(profile: dict[str, Any]) -> dict[str, str]:
    tier = profile.get("tier")
    return {"tier": str(tier)} if type(tier) is int else {}


def _tables(tables: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    if isinstance(tables, dict):
        yield from ((name, table) for name, table in tables.items() if isinstance(table, dict))
