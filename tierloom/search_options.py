"""What a caller may say of a search, beside the query: the keyword arguments of every `search`."""

from collections.abc import Collection
from typing import TypedDict

from tierloom.serving import Profile


class RouteOptions(TypedDict, total=False):
    """How a query is answered.

    The collection's routes say which profile a `query_class` gets; a class without a route, and a query without a
    class, gets the default. A `profile` is a declared one by name, or a value. `tier` (its name, or the dimensions of
    an int8 tier), `shortlist`, `rerank` and `top` win over the profile. Without a shortlist of its own a profile has
    the smallest that the gate found safe.
    """

    query_class: str | None
    profile: str | Profile | None
    tier: int | str | None
    shortlist: int | None
    rerank: bool | None
    top: int | None


class SearchOptions(RouteOptions, total=False):
    """And of what.

    Of `documents` alone, if they are given: each live chunk of theirs is scored, no tier is asked. With `by_document`
    (default: False) the answer has the best chunk of each of the `top` best documents. Without `describe` (default:
    True), hits have no heading, text and metadata. `checkpoint` is the fingerprint that a query vector was made under,
    if the caller knows it.
    """

    documents: Collection[str] | None
    by_document: bool
    describe: bool
    checkpoint: str | None
