"""wordllama behind an OpenAI-compatible endpoint, as another checkpoint: with prompts, and with a bill."""

import base64
import threading
from collections import Counter
from pathlib import Path
from typing import Final

import wordllama
from tokenizers import Tokenizer

from tests.embedders.endpoint import Asked, Endpoint, Reply, answer
from tests.pipelines.command_line import KEY_VARIABLE
from tests.pipelines.test_killed import Killer
from tierloom.canaries import canary_texts
from tierloom.declaring import declared_checkpoint
from tierloom.embedders.opening import open_embedder

DOCUMENT: Final = "passage: "
QUERY: Final = "question: "
_TOKENIZER: Final = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"


# They come before a run and with each request.
_CANARIES: Final = frozenset(DOCUMENT + text for text in canary_texts())


class ServedWordllama:
    """The script of an endpoint. `billed` counts each text that was asked for, of documents alone; `killer` sees each
    request for documents before it is answered."""

    def __init__(self) -> None:
        self._model = open_embedder(declared_checkpoint("wordllama"))
        self._tokenizer = Tokenizer.from_file(str(_TOKENIZER))
        self._tokenizer.no_padding()
        self._lock = threading.Lock()
        self.billed: Counter[str] = Counter()
        self.killer: Killer | None = None

    def __call__(self, asked: Asked) -> Reply:
        is_of_documents = asked.inputs[0].startswith(DOCUMENT)
        with self._lock:
            if is_of_documents:
                self.billed.update(text for text in asked.inputs if text not in _CANARIES)
            vectors = self._model.embed(asked.inputs, [1] * len(asked.inputs)).vectors
        if self.killer and is_of_documents:
            self.killer(asked)
        rows = enumerate(vectors.astype("<f4"))
        data = [{"index": at, "embedding": base64.b64encode(row.tobytes()).decode()} for at, row in rows]
        return answer(data, self.tokens_of(asked.inputs))

    def tokens_of(self, texts: list[str]) -> int:
        """As the model's own tokenizer counts them."""
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return sum(len(encoding.ids) for encoding in encodings)

    @property
    def tokens(self) -> int:
        """What was billed for documents, over all."""
        return sum(self.tokens_of([text]) * times for text, times in self.billed.items())

    def declare(self, folder: Path, endpoint: Endpoint) -> Path:
        path = folder / "served.toml"
        path.write_text(
            'provider = "openai"\nmodel = "served-wordllama"\ndimensions = 256\ntrained_prefixes = [64, 128, 256]\n'
            f'document_prompt = "{DOCUMENT}"\nquery_prompt = "{QUERY}"\ntokenizer = "wordllama"\n'
            "limits = { inputs_per_request = 64 }\n"
            f'endpoint = {{ base_url = "{endpoint.base_url}", api_key_env = "{KEY_VARIABLE}" }}\n'
        )
        return path
