"""What a search answers, and what served it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, overload

# Every step of an answer, in order; `seconds` has each of them.
STEPS: Final = ("embed", "shortlist", "narrow", "rerank", "describe")


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk of an answer. `score` is a cosine: exact after reranking, else the estimate of the last step.

    `heading` and `text` are empty, and `metadata` too, where the answer was not to be described.
    """

    document_id: str
    ordinal: int
    score: float
    heading: str
    text: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer(Sequence[Hit]):
    """The hits, best first, and how they were found. A sequence of its hits.

    `query_class` is the class that was asked for, `routed` whether the collection declares a route for it; one
    that it does not is served as its default says. `profile` is the declared profile's name, `default` where the
    collection declares none, `given` for a profile that the caller brought. `checkpoint` is a fingerprint.
    `shortlist` rows were asked of the tier, of which `candidates` were found alive. `seconds` is the time of each
    of `STEPS`, and no part of equality; the embedding of a batch counts for each of its queries by an equal share.
    """

    hits: tuple[Hit, ...]
    query_class: str | None
    profile: str
    tier: str
    dimensions: int
    version: int
    checkpoint: str
    shortlist: int
    candidates: int
    reranked: bool
    seconds: Mapping[str, float] = field(compare=False)
    routed: bool = False

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, at: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[at]
