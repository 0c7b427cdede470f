"""How a collection is served: profiles of search, and which class of query gets which. Declared by its owner, and
kept in every manifest, so that each fleet searches the same way."""

from typing import Annotated, Final

import msgspec

from tierloom.checkpoint import Dimensions, Positive

TierName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
# Of a profile, and of a class of queries.
Label = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z")]

DEFAULT_TOP: Final = 10
# Of a tier that was not measured.
DEFAULT_SHORTLIST: Final = 200


class Narrowing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a funnel: score the candidates by their int8 prefixes of `dimensions`, and go on with the best
    `keep` of them."""

    dimensions: Dimensions
    keep: Positive


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to search: `shortlist` candidates from a tier, narrowed by the steps of `funnel`, and, with `rerank`,
    scored exactly with their full vectors; the `top` best are the answer.

    Without a `shortlist` it is the smallest that the gate found safe for the tier. Without `rerank` no full vector
    is touched, and without a `funnel` the tier's own scores decide.
    """

    tier: TierName
    shortlist: Positive | None = None
    funnel: tuple[Narrowing, ...] = ()
    rerank: bool = True
    top: Positive = DEFAULT_TOP


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Profiles by name; `routes` from a class of queries to the name of its profile; `default` names the profile of
    every other query. Without a default, the largest int8 tier is shortlisted on and reranked."""

    profiles: dict[Label, Profile] = {}
    routes: dict[Label, Label] = {}
    default: Label | None = None
