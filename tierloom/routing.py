"""Which tier a query is searched on, and how: from its class, a profile, or what the caller says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tierloom.collection import Collection, Tier
from tierloom.errors import QueryError
from tierloom.manifest import Manifest
from tierloom.mirroring.mirror import Held
from tierloom.search_options import RouteOptions
from tierloom.serving import DEFAULT_SHORTLIST, DEFAULT_TOP, Narrowing, Profile, Serving

# So many rows are scored and described within a few seconds; more is a walk over `Snapshot.chunks`.
MOST: Final = 1_000_000

T = TypeVar("T")

DEFAULT: Final = "default"
GIVEN: Final = "given"


@dataclass(frozen=True, slots=True)
class Route:
    """How one query is answered: every choice made. `routed` says whether its class has a route of its own."""

    query_class: str | None
    routed: bool
    profile: str
    tier: Tier
    shortlist: int
    funnel: tuple[Narrowing, ...]
    rerank: bool
    top: int

    def wider(self, factor: int) -> "Route":
        """The same with so many times the candidates in every step."""
        funnel = tuple(Narrowing(step.dimensions, factor * step.keep) for step in self.funnel)
        return replace(self, shortlist=factor * self.shortlist, funnel=funnel)


def route(manifest: Manifest, options: RouteOptions, held: Held | None = None) -> Route:
    """What a query gets; see `RouteOptions`. `held` is what a mirror has of the version, where there is one: what is
    not declared is chosen among that.

    Raises `QueryError` for a profile that is not declared and for counts that cannot be, `CheckpointError` for a
    tier that is not there.
    """
    collection = manifest.collection
    query_class = options.get("query_class")
    name, chosen = _profile(collection, held, query_class, options.get("profile"))
    wanted = _given(options.get("top"), chosen.top)
    tier = options.get("tier")
    searched = collection.tier(chosen.tier if tier is None else tier)
    reranked = _given(options.get("rerank"), chosen.rerank)
    count = _given(options.get("shortlist"), chosen.shortlist)
    if count is None:
        count = _safe_shortlist(manifest, searched) if reranked or chosen.funnel else wanted
    _refuse_odd_counts(count, wanted)
    _refuse_odd_funnel(chosen.funnel, collection.prefix_dimensions)
    routed = query_class in collection.serving.routes
    return Route(query_class, routed, name, searched, max(count, wanted), chosen.funnel, reranked, wanted)


def _given(option: T | None, otherwise: T) -> T:
    return otherwise if option is None else option


def served_tiers(collection: Collection, held: Held | None = None) -> tuple[Tier, ...]:
    """The tiers that the declared profiles and the default search on, each once; of a mirror, those it has."""
    profiles = (*collection.serving.profiles.values(), _default(collection, held)[1])
    wanted = {profile.tier: collection.tier(profile.tier) for profile in profiles}
    return tuple(tier for tier in wanted.values() if tier in held_tiers(collection, held))


def held_tiers(collection: Collection, held: Held | None) -> tuple[Tier, ...]:
    """The tiers that can be asked."""
    return tuple(tier for tier in collection.tiers if held is None or tier.name in held.tiers)


def _profile(
    collection: Collection, held: Held | None, query_class: str | None, profile: str | Profile | None
) -> tuple[str, Profile]:
    serving = collection.serving
    if isinstance(profile, Profile):
        return GIVEN, profile
    if profile is not None:
        return profile, _declared(serving, profile)
    if query_class is not None and (name := serving.routes.get(query_class)) is not None:
        return name, _declared(serving, name)
    return _default(collection, held)


def _declared(serving: Serving, name: str) -> Profile:
    if (found := serving.profiles.get(name)) is None:
        raise QueryError(f"this collection has no profile {name!r}; it has {_listed(serving.profiles)}")
    return found


def _default(collection: Collection, held: Held | None) -> tuple[str, Profile]:
    """Undeclared, it is the largest int8 tier, reranked; without full vectors, by itself."""
    if (name := collection.serving.default) is not None:
        return name, _declared(collection.serving, name)
    tiers = held_tiers(collection, held) or collection.tiers
    graded = [tier for tier in tiers if tier.kind == "int8"] or list(tiers)
    largest = max(graded, key=lambda tier: tier.dimensions)
    return DEFAULT, Profile(tier=largest.name, rerank=held is None or held.vectors, top=DEFAULT_TOP)


def _safe_shortlist(manifest: Manifest, tier: Tier) -> int:
    """The smallest that the gate found safe."""
    quality = manifest.gate.of_tier(tier.name) if manifest.gate else None
    return (quality.safe_shortlist if quality else None) or DEFAULT_SHORTLIST


def _refuse_odd_counts(shortlist: int, top: int) -> None:
    if shortlist < 1 or top < 1:
        raise QueryError(f"shortlist {shortlist} and top {top} must be at least 1")
    if shortlist > MOST or top > MOST:
        raise QueryError(f"shortlist {shortlist} and top {top} may be at most {MOST}; walk over chunks() for more")


def _refuse_odd_funnel(funnel: tuple[Narrowing, ...], stored: int) -> None:
    for step in funnel:
        if step.dimensions > stored:
            raise QueryError(f"a funnel's step of {step.dimensions} dimensions, but prefixes of {stored} are stored")


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
