"""What does not fit together in how a collection is served, by name and with the nearest that there is."""

from collections.abc import Iterable, Iterator

from tierloom.collection import Collection
from tierloom.serving import Profile
from tierloom.spelling import nearest


def serving_problems(collection: Collection) -> Iterator[str]:
    """A sentence for each thing in the profiles and routes of a collection that cannot be done with it."""
    serving = collection.serving
    if serving.default is not None and serving.default not in serving.profiles:
        yield f"default is no profile: {_unknown(serving.default, serving.profiles)}"
    for query_class, name in serving.routes.items():
        if name not in serving.profiles:
            yield f"route {query_class} leads to no profile: {_unknown(name, serving.profiles)}"
    for name, profile in serving.profiles.items():
        yield from (f"profile {name}: {problem}" for problem in _profile_problems(profile, collection))


def _unknown(name: str, known: Iterable[str]) -> str:
    there = ", ".join(known)
    return f"{name!r}{nearest(name, known)}; there {f'are {there}' if there else 'is none'}"


def _profile_problems(profile: Profile, collection: Collection) -> Iterator[str]:
    tiers = [tier.name for tier in collection.tiers]
    if profile.tier not in tiers:
        yield f"no tier {_unknown(profile.tier, tiers)}"
    if profile.shortlist is not None and profile.shortlist < profile.top:
        yield f"a shortlist of {profile.shortlist:,} cannot hold the top {profile.top:,}; it must be as large at least"
    yield from _funnel_problems(profile, collection.prefix_dimensions)


def _funnel_problems(profile: Profile, prefix_dimensions: int) -> Iterator[str]:
    coming = profile.shortlist
    for at, step in enumerate(profile.funnel, 1):
        if step.dimensions > prefix_dimensions:
            yield (
                f"step {at} of its funnel scores {step.dimensions:,} dimensions, "
                f"but {prefix_dimensions:,} are stored as prefixes"
            )
        if coming is not None and step.keep >= coming:
            yield f"step {at} of its funnel keeps {step.keep:,} of {coming:,}, and must keep fewer"
        if step.keep < profile.top:
            yield f"step {at} of its funnel keeps {step.keep:,}, fewer than the top {profile.top:,}"
        coming = step.keep
