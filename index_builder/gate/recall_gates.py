"""The gates of all generations of a collection."""

from index_builder.gate.recall_gate import RecallGate
from tierloom.column_files import ColumnFiles
from tierloom.manifest import Manifest


class RecallGates:
    """Measures version after version of one collection, each generation by itself. For one thread."""

    def __init__(self, files: ColumnFiles) -> None:
        self._files = files
        self._gates: dict[str, RecallGate] = {}

    def measured(self, proposal: Manifest, head: Manifest, refuse: bool = True) -> Manifest:
        """The proposal with the gates of its generations; `head` is the version that it follows.

        One that is still being built is not measured. Raises what `RecallGate.measured` does, of the generation in
        front alone: the other one serves nobody before it is promoted, and then that is refused.
        """
        measured = proposal
        for generation in proposal.generations:
            if generation.is_complete:
                refused = refuse and generation.checkpoint == proposal.checkpoint
                gate = self._gate_of(generation.checkpoint)
                measured = measured.with_generation(gate.measured(generation, _before(generation, head), refused))
        return measured

    def _gate_of(self, checkpoint: str) -> RecallGate:
        return self._gates.setdefault(checkpoint, RecallGate(self._files))


def _before(generation: Manifest, head: Manifest) -> Manifest:
    """The head with the same generation in front, if it has that."""
    return head.of(generation.checkpoint) if generation.checkpoint in head.checkpoints else head
