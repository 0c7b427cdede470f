"""The room that canaries take in requests: what is planned, set aside and sent must agree on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tierloom.canaries import LONGEST_TEXT
from tierloom.checkpoint import Checkpoint, Limits
from tierloom.embedders.packing import pack


def bound_of_canary(text: str, limits: Limits) -> int:
    """The tokens of what is sent for one canary, at most: each is at least a byte."""
    return min(len(text.encode()), limits.tokens_per_input, limits.tokens_per_request)


def canary_bound(checkpoint: Checkpoint) -> int:
    """The tokens of any one canary, at most."""
    return bound_of_canary(checkpoint.space.document_prompt + "x" * LONGEST_TEXT, checkpoint.limits)


@dataclass(frozen=True, slots=True)
class Packed:
    """Inputs in requests: the positions of each, and which of them carry a canary. Where some do not, one more canary
    is asked for by itself, after all of them."""

    ranges: list[range]
    carrying: list[bool]

    @property
    def has_closing(self) -> bool:
        """Whether a canary is asked for by itself."""
        return not all(self.carrying)

    @property
    def canaries(self) -> int:
        return sum(self.carrying) + self.has_closing

    @property
    def requests(self) -> int:
        return len(self.ranges) + self.has_closing


def pack_with_canaries(bounds: Sequence[int], checkpoint: Checkpoint, most_tokens: int, alone: bool = False) -> Packed:
    """Pack inputs of at most so many tokens each into requests of at most `most_tokens`, or each `alone` into one.

    Each leaves room for a canary, unless a request takes but one input, or a canary would take more than half of it.
    """
    inputs, tokens = _room(checkpoint, most_tokens)
    most = (inputs, tokens) if inputs else (checkpoint.limits.inputs_per_request, most_tokens)
    ranges = pack(bounds, 1 if alone else most[0], most[1])
    return Packed(ranges, [len(r) <= inputs and sum(bounds[r.start : r.stop]) <= tokens for r in ranges])


def _room(checkpoint: Checkpoint, most_tokens: int) -> tuple[int, int]:
    """The inputs and the tokens that leave room for a canary; no inputs where none do."""
    canary = canary_bound(checkpoint)
    if 2 * canary > most_tokens:
        return 0, 0
    return checkpoint.limits.inputs_per_request - 1, most_tokens - canary
