"""What a model is sent for a chunk: the one rule, and what it asks of the chunking.

The rule: `document_prompt + (heading + "\\n\\n" if heading else "") + text`, where `heading` is the chunk's heading
path ("Guide > Install > Linux") and `text` the exact slice of the document. `Chunk.content_hash` covers exactly
those bytes, so that a vector is paid for again only when one of them changes.
"""

from typing import Final

from tierloom.checkpoint import Checkpoint
from tierloom.collection import Chunking
from tierloom.errors import CheckpointError

# Of UTF-8: so much may a heading path add to what the model is sent.
LONGEST_PATH: Final = 256
# One character can be four bytes, and a word may cost a token for its start: less could not hold any text.
FEWEST_TOKENS: Final = 8
_BETWEEN: Final = "\n\n"


def model_input(document_prompt: str, heading: str, text: str) -> str:
    """What the model is sent for a chunk: the rule of this module."""
    return f"{document_prompt}{heading}{_BETWEEN}{text}" if heading else f"{document_prompt}{text}"


def check_chunking(checkpoint: Checkpoint, chunking: Chunking) -> None:
    """Raises `CheckpointError` when a chunk of these sizes, with prompt and heading, could not be sent."""
    if chunking.max_tokens < FEWEST_TOKENS:
        raise CheckpointError(f"chunks of {chunking.max_tokens} tokens hold no text; allow at least {FEWEST_TOKENS}")
    if chunking.overlap_tokens >= chunking.max_tokens:
        raise CheckpointError(
            f"an overlap of {chunking.overlap_tokens} tokens leaves nothing new in chunks of "
            f"{chunking.max_tokens}; make it smaller"
        )
    around = len(checkpoint.space.document_prompt.encode()) + LONGEST_PATH + len(_BETWEEN)
    limit = checkpoint.limits.tokens_per_input
    if chunking.max_tokens + around > limit:
        raise CheckpointError(
            f"chunks of {chunking.max_tokens} tokens, with up to {around} for prompt and headings, exceed the "
            f"{limit} tokens per input of {checkpoint.space.model}; allow at most {max(limit - around, 0)}"
        )
