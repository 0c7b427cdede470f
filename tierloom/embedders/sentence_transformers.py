"""A model of the sentence-transformers library, in this process, on the device of choice.

Texts are embedded with others of about their length, so that little is computed for padding. The library cuts a text
that is too long without a word; here it is rejected. Code that comes with a model is not run (the library keeps to that
from its version 6 on), and a model in a folder is loaded without a network.
"""

import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import sentence_transformers
import tokenizers
import torch
from numpy.typing import NDArray

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.checking import check_inputs, check_vectors
from tierloom.embedders.embedder import Embedded
from tierloom.embedders.model_folder import find_folder
from tierloom.embedders.packing import pack_by_length
from tierloom.errors import EmbedderRefused

# Takes the place of the declared device, which other machines may not have.
DEVICE_VARIABLE: Final = "TIERLOOM_DEVICE"
_HALVES: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class SentenceTransformersEmbedder:
    """Embeds in this process. Safe to use from several threads: one batch is under way at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises `EmbedderRefused`: the model cannot be loaded, is not that of the checkpoint, or the device is not
        here."""
        self._checkpoint = checkpoint
        self._model = _loaded(checkpoint)
        self._tokens = _TokenCount(self._model, checkpoint.space.model)
        self._longest = min(checkpoint.limits.tokens_per_input, self._tokens.longest or sys.maxsize)
        # Its tokenizer keeps how it cuts and pads, and its device has room for one batch.
        self._one_at_a_time = threading.Lock()

    def embed(self, inputs: Sequence[str], token_bounds: Sequence[int]) -> Embedded:
        """See `Embedder.embed`. `token_bounds` are not needed: `tokens` are those really counted."""
        rejected = check_inputs(inputs, [0] * len(inputs), self._longest)
        sound = [position for position in range(len(inputs)) if position not in rejected]
        counts = dict(zip(sound, self._tokens.of([inputs[p] for p in sound]), strict=True))
        beyond = check_inputs([inputs[p] for p in sound], list(counts.values()), self._longest)
        rejected |= {sound[place]: rejection for place, rejection in beyond.items()}
        kept = [position for position in sound if position not in rejected]
        vectors = np.zeros((len(inputs), self._checkpoint.space.dimensions), np.float32)
        limits = self._checkpoint.limits
        for places in pack_by_length([counts[p] for p in kept], limits.inputs_per_request, limits.tokens_per_request):
            batch = [kept[place] for place in places]
            vectors[batch] = self._encoded([inputs[p] for p in batch])
        bad = {kept[place]: rejection for place, rejection in check_vectors(vectors[kept]).items()}
        return Embedded(vectors, bad | rejected, sum(counts[p] for p in kept))

    def close(self) -> None:
        """Nothing is held open."""

    def _encoded(self, texts: list[str]) -> NDArray[np.float32]:
        try:
            with self._one_at_a_time:
                # An empty prompt: those of the checkpoint are in the texts, and the model's own would come on top.
                found = self._model.encode(texts, prompt="", batch_size=len(texts), show_progress_bar=False)
        except torch.OutOfMemoryError as error:
            raise EmbedderRefused(
                f"{self._model.device} has no memory for {len(texts)} texts at once: make tokens_per_request "
                f"({self._checkpoint.limits.tokens_per_request}) in limits smaller"
            ) from error
        vectors: NDArray[np.float32] = np.asarray(found, np.float32)
        return vectors


class _TokenCount:
    """The tokens that a model sees of a text, were it not cut. `longest` is where the model cuts, or None."""

    def __init__(self, model: Any, name: str) -> None:
        own = getattr(model, "tokenizer", None)
        # Transformers' own wraps one of the library beneath; a static embedding has that one itself.
        fast = own if isinstance(own, tokenizers.Tokenizer) else getattr(own, "backend_tokenizer", None)
        if not isinstance(fast, tokenizers.Tokenizer):
            raise EmbedderRefused(f"{name} has no fast tokenizer (tokenizer.json), by which its texts can be counted")
        self._special = fast is not own
        limits = [getattr(model, "max_seq_length", None), (fast.truncation or {}).get("max_length")]
        # That of a model without one is infinite.
        self.longest = min((int(limit) for limit in limits if limit and limit < sys.maxsize), default=None)
        # A copy, for the model turns cutting and padding on and off in its own.
        self._tokenizer = tokenizers.Tokenizer.from_str(fast.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def of(self, texts: list[str]) -> list[int]:
        return [len(one) for one in self._tokenizer.encode_batch_fast(texts, add_special_tokens=self._special)]


def _loaded(checkpoint: Checkpoint) -> Any:
    space = checkpoint.space
    folder = find_folder(checkpoint)
    device = os.environ.get(DEVICE_VARIABLE) or checkpoint.endpoint.device
    try:
        model = sentence_transformers.SentenceTransformer(
            str(folder or space.model),
            device=device,
            trust_remote_code=False,
            revision=None if folder else space.revision,
            local_files_only=folder is not None,
        )
    except Exception as error:  # the libraries below raise of all kinds
        where = f" on device {device} (another one: {DEVICE_VARIABLE})" if device else ""
        raise EmbedderRefused(f"{folder or space.model} cannot be loaded{where}: {_first_line(error)}") from error
    dimensions = model.get_embedding_dimension()
    if dimensions != space.dimensions:
        raise EmbedderRefused(f"{folder or space.model} has {dimensions} dimensions, not {space.dimensions}")
    return model.to(dtype=_HALVES[space.half_precision]) if space.half_precision else model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
