from collections.abc import Callable

import msgspec
import pytest

from tests.small_shards import collection_of
from tests.test_manifest import WHOLE, changed, put
from tierloom.errors import Malformed
from tierloom.manifest_checks import checked_manifest
from tierloom.serving import Narrowing, Profile, Serving
from tierloom.serving_checks import serving_problems

FINE = Serving(
    profiles={
        "balanced": Profile(tier="8"),
        "thrifty": Profile(tier="4", shortlist=500, funnel=(Narrowing(8, 100), Narrowing(8, 10)), top=10),
        "open": Profile(tier="4", funnel=(Narrowing(8, 1000),)),
    },
    routes={"analyst": "balanced"},
    default="thrifty",
)


def problems(serving: Serving) -> list[str]:
    return list(serving_problems(msgspec.structs.replace(collection_of(tiers=(4, 8)), serving=serving)))


def with_profile(**members: object) -> Serving:
    return Serving(profiles={"p": msgspec.convert({"tier": "4"} | members, Profile)})


def test_what_fits_together_is_fine() -> None:
    assert problems(FINE) == []
    assert problems(Serving()) == []


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        (Serving(default="any"), "default is no profile: 'any'; there is none"),
        (
            msgspec.structs.replace(FINE, default="trifty"),
            "default is no profile: 'trifty' (did you mean thrifty?); there are balanced, thrifty, open",
        ),
        (
            msgspec.structs.replace(FINE, routes={"analyst": "balance"}),
            "route analyst leads to no profile: 'balance' (did you mean balanced?); there are balanced, thrifty, open",
        ),
        (with_profile(tier="16"), "profile p: no tier '16'; there are 4, 8"),
        (
            with_profile(shortlist=9),
            "profile p: a shortlist of 9 cannot hold the top 10; it must be as large at least",
        ),
        (
            with_profile(funnel=[{"dimensions": 16, "keep": 20}]),
            "profile p: step 1 of its funnel scores 16 dimensions, but 8 are stored as prefixes",
        ),
        (
            with_profile(shortlist=100, funnel=[{"dimensions": 8, "keep": 100}]),
            "profile p: step 1 of its funnel keeps 100 of 100, and must keep fewer",
        ),
        (
            with_profile(funnel=[{"dimensions": 4, "keep": 50}, {"dimensions": 8, "keep": 60}]),
            "profile p: step 2 of its funnel keeps 60 of 50, and must keep fewer",
        ),
        (
            with_profile(funnel=[{"dimensions": 8, "keep": 9}]),
            "profile p: step 1 of its funnel keeps 9, fewer than the top 10",
        ),
    ],
)
def test_what_does_not_is_said_by_name(serving: Serving, said: str) -> None:
    assert problems(serving) == [said]


def test_everything_is_said_at_once() -> None:
    said = problems(Serving(profiles={"p": Profile(tier="x", shortlist=1)}, routes={"a": "q"}, default="r"))
    assert len(said) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put({"p": {"tier": "5"}}, "collection", "serving", "profiles"), "serving: profile p: no tier '5'"),
        (put({"a": "p"}, "collection", "serving", "routes"), "serving: route a leads to no profile: 'p'"),
        (put("p", "collection", "serving", "default"), "serving: default is no profile: 'p'"),
    ],
)
def test_a_manifest_that_cannot_be_served_is_refused(change: Callable[[dict[str, object]], None], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        checked_manifest(changed(change), WHOLE.version)
