"""What was meant by a name that is not known."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

# So many characters of a name make it out.
_PART: Final = 4


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """` (did you mean NAME?)` with the known names that are like this one, the likest first, or that it is a part of;
    empty where there is none."""
    plain = {one.lower(): one for one in known}
    asked = name.lower()
    like = get_close_matches(asked, list(plain), most)
    holding = [one for one in plain if len(asked) >= _PART and asked in one and one not in like]
    near = [plain[one] for one in [*like, *holding][:most]]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def unknown_member(members: Mapping[str, Any], kind: type[msgspec.Struct]) -> str:
    """A few words on the first member that a value of this kind does not have; empty where it has them all."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for member in members:
        if member not in known:
            return f"no member {member!r}{nearest(member, known)}; there are {', '.join(known)}"
    return ""
