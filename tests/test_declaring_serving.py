from pathlib import Path

import pytest

from tierloom.declaring_serving import declared_serving
from tierloom.errors import InputError
from tierloom.serving import Narrowing, Profile, Serving

WHOLE = """
default = "balanced"
[profiles.balanced]
tier = 128
[profiles.autocomplete]
tier = "64"
rerank = false
top = 5
[profiles.thrifty]
tier = "256-binary"
shortlist = 500
funnel = [{ dimensions = 256, keep = 100 }]
[routes]
typing = "autocomplete"
"""


def declared(folder: Path, text: str) -> Serving:
    path = folder / "serving.toml"
    path.write_text(text, encoding="utf-8")
    return declared_serving(path)


def test_profiles_and_routes_are_as_they_are_written(tmp_path: Path) -> None:
    assert declared(tmp_path, WHOLE) == Serving(
        profiles={
            "balanced": Profile(tier="128"),
            "autocomplete": Profile(tier="64", rerank=False, top=5),
            "thrifty": Profile(tier="256-binary", shortlist=500, funnel=(Narrowing(256, 100),)),
        },
        routes={"typing": "autocomplete"},
        default="balanced",
    )


def test_an_empty_file_declares_nothing(tmp_path: Path) -> None:
    assert declared(tmp_path, "") == Serving()


@pytest.mark.parametrize(
    ("was", "is_", "said"),
    [
        (
            "default =",
            "defualt =",
            r"serving\.toml: no member 'defualt' \(did you mean default\?\); there are profiles",
        ),
        ("[routes]", "[route]", r"no member 'route' \(did you mean routes\?\)"),
        ("rerank", "re_rank", r"profile autocomplete: no member 're_rank' \(did you mean rerank\?\)"),
        ("keep", "kept", r"profile thrifty: step 1 of its funnel: no member 'kept' \(did you mean keep\?\)"),
        ("tier = 128", "", "missing required field `tier`"),
        ("tier = 128", "tier = 12.8", "Expected `str`, got `float`"),
        ("tier = 128", "tier = true", "Expected `str`, got `bool`"),
        ("tier = 128", 'tier = "One"', "Expected `str` matching regex"),
        ("top = 5", "top = 0", "Expected `int` >= 1"),
        ("top = 5", 'top = "5"', "Expected `int`, got `str`"),
        ("[profiles.balanced]", '[profiles."Bal anced"]', "Expected `str` matching regex"),
        ("[{ dimensions", "[3, { dimensions", "Expected `object`, got `int`"),
        ("funnel = [{ dimensions = 256, keep = 100 }]", "funnel = 3", "Expected `array`, got `int`"),
        ('"balanced"', "balanced", "not valid TOML"),
    ],
)
def test_what_is_written_wrong_is_named(tmp_path: Path, was: str, is_: str, said: str) -> None:
    assert was in WHOLE
    with pytest.raises(InputError, match=said):
        declared(tmp_path, WHOLE.replace(was, is_, 1))


@pytest.mark.parametrize("text", ["profiles = 3", "[profiles]\np = 3", "routes = []", "[routes]\na = 3"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="Expected"):
        declared(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.toml: cannot be read: No such file"):
        declared_serving(tmp_path / "nothing.toml")


def test_a_file_of_other_bytes_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'default = "\xe9"')
    with pytest.raises(InputError, match="not valid TOML"):
        declared_serving(tmp_path / "latin.toml")
