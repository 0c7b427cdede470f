"""Gathering inputs until they fill a batch: requests go to a file as they come, so that no text is held in memory."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tierloom.checkpoint import Checkpoint
from tierloom.digest import digest_of
from tierloom.embedders.batch_lines import MAX_BYTES, MAX_INPUTS, request_line
from tierloom.embedders.packing import pack

PROBE: Final = "hello"
# Of the file, kept free for the probe.
_PROBE_BYTES: Final = 4096
_PROBE_TOKENS: Final = len(PROBE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input that has to be sent: its content hash, its text, and a bound of its tokens."""

    content: bytes
    text: str
    tokens: int


@dataclass(slots=True)
class Gathering:
    """Requests of a batch to be, in the file at `path`. `contents` are the hashes of their inputs, in order; `shards`
    wait for them; `tokens` bounds what they cost."""

    path: Path
    attempt: int
    contents: dict[bytes, None] = field(default_factory=dict)
    shards: set[str] = field(default_factory=set)
    tokens: int = 0
    bytes: int = 0

    def digest(self, checkpoint: str) -> str:
        """Names the batch by what goes into it."""
        return digest_of("batch", checkpoint, self.attempt, b"".join(self.contents).hex())


class Gatherer:
    """Packs requests into batches within the limits of the API. `tokens_at_most` bounds a batch besides, unless it is
    of one request.

    Inputs that were sent before go apart from those that were not, with a probe beside them.
    """

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        self._checkpoint, self._limits, self._folder = checkpoint, checkpoint.limits, folder
        self._open: dict[int, Gathering] = {}
        self._full: deque[Gathering] = deque()
        self._made = 0
        self.tokens_at_most: float = float("inf")

    def add(self, shard: str, attempt: int, wanted: Sequence[Wanted], alone: bool = False) -> None:
        """Gather inputs that a vector shard waits for: in as few requests as there can be, or each `alone` in one."""
        most = 1 if alone else self._limits.inputs_per_request
        for part in pack([one.tokens for one in wanted], most, self._limits.tokens_per_request):
            self._add_request(shard, attempt, wanted[part.start : part.stop])

    @property
    def full(self) -> bool:
        """Whether a batch is full: it should be sent before more is gathered."""
        return bool(self._full)

    def next(self) -> Gathering | None:
        """The batch to be sent next: a full one, if there is one. It stays until it is `taken`."""
        if not self._full and self._open:
            self._close(min(self._open))
        return self._full[0] if self._full else None

    def taken(self) -> None:
        """The next batch is gathered no more."""
        self._full.popleft().path.unlink(missing_ok=True)

    def holds(self, content: bytes) -> bool:
        """Whether an input is gathered, and not yet sent."""
        return any(content in gathering.contents for gathering in (*self._full, *self._open.values()))

    def _add_request(self, shard: str, attempt: int, wanted: Sequence[Wanted]) -> None:
        gathering = self._open.get(attempt) or self._begin(attempt)
        line, tokens = self._line(gathering, wanted), sum(one.tokens for one in wanted)
        if gathering.contents and not self._fits(gathering, len(wanted), len(line), tokens):
            self._close(attempt)
            gathering = self._begin(attempt)
            line = self._line(gathering, wanted)
        _append(gathering, line)
        gathering.contents.update((one.content, None) for one in wanted)
        gathering.shards.add(shard)
        gathering.tokens += tokens

    def _line(self, gathering: Gathering, wanted: Sequence[Wanted]) -> bytes:
        start = len(gathering.contents)
        return request_line(range(start, start + len(wanted)), self._checkpoint, [one.text for one in wanted])

    def _fits(self, gathering: Gathering, inputs: int, line: int, tokens: int) -> bool:
        return (
            len(gathering.contents) + inputs <= MAX_INPUTS
            and gathering.bytes + line <= MAX_BYTES - _PROBE_BYTES
            and gathering.tokens + tokens <= self.tokens_at_most
        )

    def _begin(self, attempt: int) -> Gathering:
        self._made += 1
        gathering = Gathering(self._folder / f"batch-{self._made}.jsonl", attempt)
        self._open[attempt] = gathering
        return gathering

    def _close(self, attempt: int) -> None:
        gathering = self._open.pop(attempt)
        if attempt > 1:
            _append(gathering, request_line(None, self._checkpoint, [PROBE]))
            gathering.tokens += _PROBE_TOKENS
        self._full.append(gathering)


def _append(gathering: Gathering, line: bytes) -> None:
    with gathering.path.open("ab") as file:
        file.write(line)
    gathering.bytes += len(line)
