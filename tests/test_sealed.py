import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.errors import Corrupt, FormatTooNew, Malformed, TierloomError
from tierloom.sealed import MAX_BYTES, canonical, seal, unseal

_INTEGERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    names: tuple[str, ...] = ()
    share: float = 0.5


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    count: int
    inner: Inner = Inner()
    format: int = 1


_SEALED = seal(Thing("thing é", 7, Inner(("a", "b"), 0.25)))


def open_thing(data: bytes) -> Thing:
    return unseal(data, Thing, "things/7.json", 1)


def sealed(**changes: Any) -> bytes:
    """A whole seal over members that `Thing` may not have."""
    members: dict[str, Any] = {"title": "t", "count": 1, "inner": {"names": [], "share": 0.5}, "format": 1} | changes
    members["sha256"] = hashlib.sha256(canonical(members)).hexdigest()
    return canonical(members) + b"\n"


@given(
    st.builds(
        Thing,
        st.text(st.characters(codec="utf-8")),
        _INTEGERS,
        st.builds(
            Inner,
            st.lists(st.text(st.characters(codec="utf-8")), max_size=3).map(tuple),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
    )
)
def test_what_was_sealed_comes_back_byte_for_byte(thing: Thing) -> None:
    data = seal(thing)
    assert open_thing(data) == thing
    assert seal(open_thing(data)) == data


def test_a_sealed_object_is_json_that_anyone_can_check() -> None:
    members = json.loads(_SEALED)
    stated = members.pop("sha256")
    spelled = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(spelled).hexdigest() == stated


def test_every_flipped_bit_is_refused() -> None:
    for at in range(len(_SEALED) * 8):
        flipped = bytearray(_SEALED)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(TierloomError, match=r"things/7\.json"):
            open_thing(bytes(flipped))


def test_every_other_value_of_every_byte_is_refused() -> None:
    for at, was in enumerate(_SEALED):
        for byte in {*b'\x00\t\n\r "0129:,[]{}\\aAeEfN\x7f\x80\xc3\xed\xff'} - {was}:
            with pytest.raises(TierloomError, match=r"things/7\.json"):
                open_thing(_SEALED[:at] + bytes([byte]) + _SEALED[at + 1 :])


def test_every_cut_is_refused() -> None:
    for length in range(len(_SEALED)):
        with pytest.raises(TierloomError, match=r"things/7\.json"):
            open_thing(_SEALED[:length])


@pytest.mark.parametrize(
    "respelled",
    [
        _SEALED + b"\n",
        b" " + _SEALED,
        _SEALED.rstrip(),
        _SEALED.replace(b",", b", ", 1),
        _SEALED.replace(b'"count":7,', b'"count":7,"count":7,'),
        _SEALED.replace("é".encode(), rb"\u00e9"),
        b"\xef\xbb\xbf" + _SEALED,
        _SEALED.decode().encode("utf-16"),
        json.dumps(json.loads(_SEALED), indent=1).encode(),
    ],
)
def test_another_spelling_of_the_same_content_is_refused(respelled: bytes) -> None:
    with pytest.raises((Corrupt, Malformed), match=r"things/7\.json"):
        open_thing(respelled)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"\x00", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "expected, found list"),
        (b"null", "expected, found NoneType"),
        (b"{}", "no member 'sha256'"),
        (b'{"sha256":null}', "no member 'sha256'"),
        (b'{"a":1,"a":1}', "'a' appears twice"),
        (b'{"inner":{"a":1,"a":2}}', "'a' appears twice"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":1e999,"sha256":""}', "not valid JSON"),
        (b'{"a":"\\ud800","sha256":""}', "not valid JSON"),
        (b'{"\\udfff":1,"sha256":""}', "not valid JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b" " * (MAX_BYTES + 1), "more than the"),
    ],
)
def test_what_is_not_a_json_object_is_malformed(data: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said) as refused:
        open_thing(data)
    assert str(refused.value).startswith("things/7.json: ")


@pytest.mark.parametrize("depth", [300, 900, 2000, 20_000])
def test_no_depth_of_nesting_gets_past_the_errors_of_the_tree(depth: int) -> None:
    with pytest.raises(TierloomError):
        open_thing(b'{"a":' + b"[" * depth + b"]" * depth + b',"sha256":""}')


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"count": "1"}, r"\$\.count"),
        ({"count": 1.0}, r"\$\.count"),
        ({"count": True}, r"\$\.count"),
        ({"count": None}, r"\$\.count"),
        ({"title": 1}, r"\$\.title"),
        ({"inner": {"names": ["a", 1]}}, r"\$\.inner\.names\[1\]"),
        ({"inner": {"share": "x"}}, r"\$\.inner\.share"),
        ({"inner": {"surprise": 1}}, "surprise"),
        ({"surprise": 1}, "surprise"),
        ({"format": "1"}, r"\$\.format"),
        ({"format": True}, r"\$\.format"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named(changes: dict[str, Any], member: str) -> None:
    with pytest.raises(Malformed, match=member):
        open_thing(sealed(**changes))


def test_a_missing_member_is_named() -> None:
    members = {"title": "t", "format": 1}
    members["sha256"] = hashlib.sha256(canonical(members)).hexdigest()
    with pytest.raises(Malformed, match="count"):
        open_thing(canonical(members) + b"\n")


def test_a_newer_format_is_told_from_damage_whatever_else_it_holds() -> None:
    with pytest.raises(FormatTooNew, match=r"format 2.*up to 1.*Upgrade"):
        open_thing(sealed(format=2, surprise=[1]))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_our_errors(data: bytes) -> None:
    with pytest.raises(TierloomError):
        open_thing(data)
