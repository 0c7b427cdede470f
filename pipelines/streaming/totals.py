"""What a stream did from its start to its end."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.commands.tables import count, table
from pipelines.streaming.arrivals import Latency
from pipelines.summary import token_line
from tierloom.run_report import RunReport


@dataclass(slots=True)
class Totals:
    """Sums over the versions that were published. Documents, chunks and tokens as in `tierloom.manifest.RunRecord`,
    but that the canaries were asked once, before the first of them; `least_left` as in
    `tierloom.run_report.RunReport`; `latency` is that of the last minutes."""

    version: int = 0
    versions: int = 0
    changes: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    dead_letters: int = 0
    embedded_chunks: int = 0
    copied_chunks: int = 0
    found_chunks: int = 0
    tokens: int = 0
    canary_tokens: int = 0
    left_documents: int = 0
    least_left: int = 0
    gate_seconds: float = 0.0
    latency: Latency | None = None

    def add(self, report: RunReport) -> None:
        """A batch was published, or held nothing new."""
        record = report.record
        self.version = report.version
        self.versions += report.published
        self.changes += record.documents.documents_in
        self.gate_seconds += report.gate_seconds
        self.left_documents += report.left_documents
        self.least_left = report.least_left
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(record, name))

    def with_latency(self, latency: Latency | None) -> "Totals":
        return replace(self, latency=latency)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)


_SUMMED = (
    "added",
    "changed",
    "removed",
    "dead_letters",
    "embedded_chunks",
    "copied_chunks",
    "found_chunks",
    "tokens",
)


def totals_table(totals: Totals, store: str, elapsed: float) -> str:
    """The closing table."""
    chunks = f"{totals.embedded_chunks:,} embedded, {totals.copied_chunks:,} reused from live rows"
    letters = f"; see them with: tierloom dead-letters {store}" if totals.dead_letters else ""
    rows = [
        ("changes in", f"{totals.changes:,}"),
        ("documents", f"{totals.added:,} added, {totals.changed:,} changed, {totals.removed:,} removed"),
        ("chunks", chunks + (f", {totals.found_chunks:,} from interrupted runs" if totals.found_chunks else "")),
        ("tokens", token_line(totals.tokens, totals.canary_tokens)),
        ("dead letters", f"{totals.dead_letters:,}{letters}"),
        ("time", f"{elapsed:.1f} s{_searchable(totals.latency)}"),
        ("gate", f"{totals.gate_seconds:.1f} s, {totals.gate_seconds / elapsed:.1%} of the time"),
        ("version", f"{totals.version:,}, after {count(totals.versions, 'version')} published"),
    ]
    return table(rows)


def _searchable(latency: Latency | None) -> str:
    return f"; searchable after {latency.p50:.1f} s (p50), {latency.p99:.1f} s (p99)" if latency else ""
