"""What a run has to say for itself: stored even when it published nothing."""

from typing import Annotated, Final, Literal

import msgspec

from tierloom import names
from tierloom.errors import AlreadyExists
from tierloom.manifest import RunRecord
from tierloom.sealed import seal, unseal
from tierloom.stored_object import Count
from tierloom.stores.store import Store

FORMAT: Final = 1


class RunReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`record` is of the generation in front, `other` of another one. `version` is what the run published, or the
    newest there was when it had nothing to publish. `gate_seconds` is what it took to measure the tiers of it,
    `least_left` the tokens that the smallest of the documents takes that the run's cap left."""

    record: RunRecord
    version: Count
    published: bool
    other: RunRecord | None = None
    gate_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    least_left: Count = 0
    format: Literal[1] = FORMAT

    @property
    def left_documents(self) -> int:
        """What the cap left, of all generations."""
        return self.record.left_documents + (self.other.left_documents if self.other else 0)

    @property
    def tokens(self) -> int:
        """What was paid for, of all generations; but for the canaries that were asked first."""
        return self.record.tokens + (self.other.tokens if self.other else 0)

    @property
    def canary_tokens(self) -> int:
        """What was paid for those, of all generations."""
        return self.record.canary_tokens + (self.other.canary_tokens if self.other else 0)


def store_report(report: RunReport, store: Store) -> None:
    """Keep the first report of a run: a replayed step finds nothing left to publish, and is not asked."""
    try:
        store.create(names.run(report.record.run), seal(report))
    except AlreadyExists:
        return


def read_report(run: str, store: Store) -> RunReport:
    """Raises `NotFound` when the run did not get that far."""
    name = names.run(run)
    return unseal(store.read(name), RunReport, name, FORMAT)
