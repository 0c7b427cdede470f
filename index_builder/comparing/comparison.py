"""What a comparison found: kept as JSON, so that a report can show what was measured before."""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from tierloom.checkpoint import Dimensions, Positive
from tierloom.collection import Fingerprint
from tierloom.errors import InputError
from tierloom.gate import Advantage, Estimate, Quality
from tierloom.manifest import Reached
from tierloom.serving import TierName
from tierloom.stored_object import Count

FORMAT: Final = 1

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class ComparedTier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tier as it is served: `shortlist` candidates, reranked. Its `quality` is against the exact answers of its own
    generation. `bytes` is what it takes in memory when it is mapped, `seconds` the median time of a search."""

    tier: TierName
    shortlist: Positive
    quality: Quality
    bytes: Count
    seconds: Seconds


class ComparedGeneration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side. `exact` is the quality of its exact answers, None without known relevant documents; `exact_seconds` the
    median time of an exact search, `embed_seconds` that of embedding a question (None for held-out chunks).
    `vector_bytes` are the float16 vectors of what lives, `stored_bytes` all objects that this generation names.
    """

    checkpoint: Fingerprint
    model: str
    revision: str
    dimensions: Dimensions
    reached: Reached
    live_documents: Count
    live_chunks: Count
    vector_bytes: Count
    stored_bytes: Count
    exact: Quality | None
    exact_seconds: Seconds
    embed_seconds: Seconds | None
    tiers: tuple[ComparedTier, ...]

    def tier(self, name: str) -> ComparedTier | None:
        return next((tier for tier in self.tiers if tier.tier == name), None)


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both generations of `version`, that in front first, on so many `queries` that both could be asked.

    `documents` and `chunks` are the shares of the exact first ten that they have in common; `chunks` is None where they
    are cut differently. `ndcg` and `hit_rate` are by how much the second one's exact answers are ahead of the first
    one's, query by query; None where no relevant documents are known.
    """

    version: Count
    source: Literal["held-out", "given"]
    queries: Positive
    seed: Count
    first: ComparedGeneration
    second: ComparedGeneration
    documents: Estimate
    chunks: Estimate | None
    ndcg: Advantage | None = None
    hit_rate: Advantage | None = None
    format: Literal[1] = FORMAT

    @property
    def sides(self) -> tuple[ComparedGeneration, ComparedGeneration]:
        return self.first, self.second


def read_comparison(path: Path) -> Comparison:
    """What `tierloom compare --json` wrote. Raises `InputError`."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Comparison)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no comparison ({error}); make one: tierloom compare STORE --json > FILE"
        ) from error
