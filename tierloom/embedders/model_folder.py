"""A model that lies in a folder: where, and whether it is the one that a checkpoint names.

Its revision is a digest of its files, so that a collection made with it can be told from one made with other weights
wherever the folder lies.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from tierloom.checkpoint import Checkpoint
from tierloom.errors import EmbedderRefused

# A folder with models, by their names; for machines on which they lie elsewhere than where they were declared.
MODELS_VARIABLE: Final = "TIERLOOM_MODELS"
_LONGEST: Final = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
# What transformers writes where a tokenizer has no longest input is far beyond.
_NO_LIMIT: Final = 1 << 31


def files_digest(folder: Path) -> str:
    """16 hexadecimal digits of the sha256 of all files in the folder but hidden ones and README.md: their paths and
    their bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def find_folder(checkpoint: Checkpoint) -> Path | None:
    """The folder of the checkpoint's model; None where it names none, and is fetched or in its library's cache.

    Raises `EmbedderRefused` where the folder is not here, or holds another model than that of the checkpoint.
    """
    if checkpoint.endpoint.folder is None:
        return None
    elsewhere = os.environ.get(MODELS_VARIABLE)
    places = [Path(checkpoint.endpoint.folder), *([Path(elsewhere, checkpoint.space.model)] if elsewhere else [])]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise EmbedderRefused(
            f"the model {checkpoint.space.model} is not in {' nor in '.join(map(str, places))}; put it there, or name "
            f"in {MODELS_VARIABLE} the folder that holds it under its name"
        )
    revision = files_digest(found)
    if revision != checkpoint.space.revision:
        raise EmbedderRefused(
            f"{found} holds revision {revision} of {checkpoint.space.model}, not {checkpoint.space.revision}: "
            "bring back the files that this collection was made with"
        )
    return found


def longest_input(folder: Path) -> int | None:
    """How many tokens the model in the folder takes, by its own configuration; None where that says nothing."""
    stated = [_read(folder / name).get(member) for name, member in _LONGEST]
    limits = [int(limit) for limit in stated if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    return min(limits, default=None)


def tokenizer_file(folder: Path) -> Path | None:
    """The `tokenizer.json` of the model in the folder: at its top, or in the folder of its first module."""
    modules = _read(folder / "modules.json")
    first = modules[0].get("path", "") if isinstance(modules, list) and modules else ""
    places = (folder / "tokenizer.json", folder / str(first) / "tokenizer.json")
    return next((place for place in places if place.is_file()), None)


def _files(folder: Path) -> list[Path]:
    hidden = (path for path in folder.rglob("*") if path.is_file())
    return [
        path
        for path in hidden
        if path.name != "README.md" and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
