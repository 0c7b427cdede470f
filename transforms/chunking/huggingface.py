"""Tokenizers of the `tokenizers` library, from files that are here."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

from tierloom.errors import CheckpointError, MissingExtra


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """A tokenizer that neither cuts nor pads; `special_tokens` if its model puts tokens of its own around a text."""

    tokenizer: Tokenizer
    special_tokens: bool

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens that the model sees of each text."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=self.special_tokens)
        return [len(encoding) for encoding in encodings]


def load_tokenizer(path: str) -> LoadedTokenizer:
    """The tokenizer in a `tokenizer.json`. Raises `CheckpointError`."""
    return LoadedTokenizer(_load(Path(path)), special_tokens=True)


def wordllama_tokenizer() -> LoadedTokenizer:
    """The tokenizer inside the wordllama package, which embeds without special tokens. Raises `MissingExtra`."""
    # Found, not imported: importing wordllama configures logging and loads an HTTP client.
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("local", "the wordllama model")
    folder = Path(spec.submodule_search_locations[0])
    return LoadedTokenizer(_load(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"), special_tokens=False)


def _load(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"tokenizer file {path}: {error}; name a tokenizer.json that is there") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
