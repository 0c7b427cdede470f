"""The embedded model: wordllama, from the files inside its own wheel, without a network.

Its vector of a text is the mean of the vectors of its tokens. The library pads a batch to its longest text and
holds (texts, tokens, dimensions) float32 at once: gigabytes when one text is a megabyte. Here each text is
averaged by itself, which gives the same bits, in a tenth of the time.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tierloom.checkpoint import Checkpoint, Space
from tierloom.embedders.checking import check_inputs, check_vectors
from tierloom.embedders.embedder import Embedded, Rejection
from tierloom.embedders.packing import pack
from tierloom.errors import EmbedderRefused


@contextmanager
def _logging_kept() -> Iterator[None]:
    """`logging.basicConfig` does nothing while the root logger has a handler."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


with _logging_kept():  # wordllama turns on INFO logging for the whole process when it is imported
    import wordllama
    from wordllama import WordLlama

_FOLDER: Final = Path(wordllama.__file__).parent
# Texts are tokenized together up to this many; about 100 bytes of memory for each token.
_TEXTS_AT_ONCE: Final = 1024
_CHARACTERS_AT_ONCE: Final = 1 << 20
# Token vectors gathered at once: 16 MB at 256 dimensions.
_TOKENS_AT_ONCE: Final = 16384


class WordLlamaEmbedder:
    """Embeds in this process. Safe to use from several threads."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises `EmbedderRefused` when the installed wordllama is not the model of the checkpoint."""
        space = checkpoint.space
        _refuse_other_files(space)
        self._limit = checkpoint.limits.tokens_per_input
        model = WordLlama.load(space.model, cache_dir=_FOLDER, dim=space.dimensions, disable_download=True)
        self._table: NDArray[np.float32] = model.embedding
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`. `tokens` are those really counted."""
        rejected = check_inputs(inputs, token_bounds, self._limit)
        kept = [position for position in range(len(inputs)) if position not in rejected]
        vectors = np.zeros((len(inputs), self._table.shape[1]), np.float32)
        tokens = 0
        for part in pack([len(inputs[p]) for p in kept], _TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE):
            positions = kept[part.start : part.stop]
            tokens += self._fill(vectors, positions, [inputs[p] for p in positions])
        return Embedded(vectors, _find_bad(vectors, kept) | rejected, tokens)

    def close(self) -> None:
        """Nothing is held open."""

    def _fill(self, vectors: NDArray[np.float32], positions: list[int], texts: list[str]) -> int:
        """Write the vectors of `texts` into their rows; the tokens they have."""
        total = 0
        for position, encoding in zip(
            positions, self._tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True
        ):
            ids = np.asarray(encoding.ids, np.int32)
            if ids.size:
                vectors[position] = self._mean(ids)
            total += ids.size
        return total

    def _mean(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """The mean vector of tokens; an id beyond the table counts as its last row, as in the library."""
        total = np.zeros(self._table.shape[1], np.float32)
        for start in range(0, len(ids), _TOKENS_AT_ONCE):
            total += self._table.take(ids[start : start + _TOKENS_AT_ONCE], axis=0, mode="clip").sum(axis=0)
        mean: NDArray[np.float32] = total / np.float32(len(ids))
        return mean


def files_digest(space: Space) -> str:
    """16 hexadecimal digits of the sha256 of the weights and the tokenizer that this wordllama would load.

    Raises `EmbedderRefused` when its wheel holds no such model.
    """
    weights = _FOLDER / "weights" / f"{space.model}_{space.dimensions}.safetensors"
    tokenizer = _FOLDER / "tokenizers" / f"{space.model}_tokenizer_config.json"
    digest = hashlib.sha256()
    for path in (weights, tokenizer):
        if not path.is_file():
            raise EmbedderRefused(f"the installed wordllama holds no {path.name}; what it holds is 'wordllama'")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _refuse_other_files(space: Space) -> None:
    found = files_digest(space)
    if found != space.revision:
        raise EmbedderRefused(
            f"the installed wordllama holds revision {found} of {space.model}, not {space.revision}: "
            "install the version of wordllama that this collection was made with"
        )


def _find_bad(vectors: NDArray[np.float32], kept: list[int]) -> dict[int, Rejection]:
    return {kept[place]: rejection for place, rejection in check_vectors(vectors[kept]).items()}
