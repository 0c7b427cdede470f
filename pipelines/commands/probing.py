"""What `tierloom probe` works on: vectors of a collection, or of sources that a model embeds first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from index_builder.sampling import sample_live
from tierloom.checkpoint import Checkpoint
from tierloom.collection import Chunking
from tierloom.document import Document
from tierloom.embedders.embedder import Embedder
from tierloom.errors import InputError
from tierloom.model_input import model_input
from tierloom.object_files import ObjectFiles
from tierloom.post_processing import layer_norm
from tierloom.quantizer import to_unit_float16
from tierloom.stores.opening import open_store
from tierloom.versions import read_checkpoint, read_head

# Read from the sources for each chunk that is taken, so that a sample is not only of the first documents.
_READ_FOR_ONE: Final = 4


@dataclass(frozen=True, slots=True)
class Probed:
    """A checkpoint, `texts` of chunks as a model is sent them but for the prompt, and of a collection their unit
    vectors, float16 (n, D)."""

    checkpoint: Checkpoint
    texts: list[str]
    vectors: NDArray[np.float16] | None = None


def of_collection(store: str, sample: int, seed: int) -> Probed:
    """A sample of the newest version. Raises `InputError` when nothing is live."""
    opened = open_store(store)
    head = read_head(opened)
    rows = sample_live(head, ObjectFiles(opened), sample, seed)
    texts = [model_input("", heading, text) for heading, text in rows.texts()]
    return Probed(read_checkpoint(opened, head.collection.checkpoint), texts, rows.gather("vector"))


def of_sources(checkpoint: Checkpoint, sources: Sequence[str], chunk_tokens: int, sample: int, seed: int) -> Probed:
    """A sample of the chunks that an ingest of these sources would make. Raises `InputError` when there are none."""
    draw = np.random.default_rng(seed)
    chunks: dict[str, None] = {}
    for text in _chunk_texts(checkpoint, sources, chunk_tokens, draw):
        chunks[text] = None
        if len(chunks) >= _READ_FOR_ONE * sample:
            break
    if not chunks:
        raise InputError(f"no text was found in {', '.join(sources)}; name a source that has some")
    texts = list(chunks)
    return Probed(checkpoint, [texts[at] for at in draw.permutation(len(texts))[:sample]])


def _chunk_texts(
    checkpoint: Checkpoint, sources: Sequence[str], chunk_tokens: int, draw: np.random.Generator
) -> Iterator[str]:
    # Late: what reads and cuts documents brings Beam, which a probe of a collection does not need.
    from transforms.chunk import Chunker
    from transforms.read import read_split
    from transforms.reading.sources import plan_splits

    chunker = Chunker(checkpoint, Chunking(max_tokens=chunk_tokens))
    splits = plan_splits(sources).splits
    for at in draw.permutation(len(splits)):
        for document in read_split(splits[at]):
            if isinstance(document, Document):
                yield from (model_input("", chunk.heading, chunk.text) for chunk in chunker.cut(document))


def embedded(embedder: Embedder, inputs: Sequence[str], tokens: Sequence[int]) -> NDArray[np.float32]:
    """The vectors of inputs of so many `tokens`, float32 (n, D), as the embedder answers them; of one that is rejected
    zeros.

    Raises `EmbedderError`.
    """
    answer = embedder.embed(inputs, tokens)
    vectors = answer.vectors.copy()
    vectors[sorted(answer.rejected)] = 0
    return vectors


def stored_vectors(checkpoint: Checkpoint, raw: NDArray[np.float32]) -> NDArray[np.float16]:
    """What would be stored of vectors as a model answers them; those without a direction are left out."""
    normed = layer_norm(raw) if "layer-norm" in checkpoint.space.post_processing else raw
    return to_unit_float16(normed[normed.any(axis=1)])
