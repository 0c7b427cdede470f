"""What the files of a sentence-transformers model say, and need not be declared: revision, tokenizer, limits."""

import re
from collections.abc import Set
from pathlib import Path
from typing import Final

import msgspec

from tierloom.checkpoint import Limits
from tierloom.declaration import UNSPECIFIED, Declaration
from tierloom.embedders.model_folder import files_digest, longest_input, tokenizer_file
from tierloom.errors import CheckpointError

# A request is a batch here, and its tokens are those of the padded texts: what a machine of some gigabytes can hold.
_INPUTS: Final = 256
_TOKENS: Final = 16_384
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def completed_by_folder(declaration: Declaration, said: Set[str], name: str, base: Path | None) -> Declaration:
    """The declaration, of sentence-transformers with what its folder says. `said` are the limits that were declared;
    `base` is what the folder is relative to.

    Raises `CheckpointError`: no such folder, files that are not those of the declared revision, or a model to be
    fetched by a revision that could move.
    """
    if declaration.provider != "sentence-transformers":
        return declaration
    if declaration.endpoint.folder is None:
        _refuse_moving_revision(declaration, name)
        return msgspec.structs.replace(declaration, limits=_limits(declaration.limits, said, None))
    folder = ((base or Path()) / Path(declaration.endpoint.folder).expanduser()).resolve()
    if not (folder / "modules.json").is_file():
        raise CheckpointError(
            f"{name}: endpoint: {folder} is no folder of a sentence-transformers model (it has no modules.json); "
            "name the one that SentenceTransformer.save has written"
        )
    longest = longest_input(folder)
    _refuse_longer(declaration.limits, said, longest, folder, name)
    tokenizer = declaration.tokenizer
    if tokenizer is None and (file := tokenizer_file(folder)) is not None:
        tokenizer = f"huggingface:{file}"
    return msgspec.structs.replace(
        declaration,
        revision=_revision(declaration, folder, name),
        tokenizer=tokenizer,
        limits=_limits(declaration.limits, said, longest),
        endpoint=msgspec.structs.replace(declaration.endpoint, folder=str(folder)),
    )


def _refuse_moving_revision(declaration: Declaration, name: str) -> None:
    if not _COMMIT.fullmatch(declaration.revision):
        raise CheckpointError(
            f"{name}: revision {declaration.revision!r} is no commit of {declaration.model}; write all 40 digits of "
            "one, for a branch may move, or name with endpoint = { folder = ... } a folder that holds the model"
        )


def _revision(declaration: Declaration, folder: Path, name: str) -> str:
    found = files_digest(folder)
    if declaration.revision not in (UNSPECIFIED, found):
        raise CheckpointError(
            f"{name}: {folder} holds revision {found}, not {declaration.revision}; leave revision out to take what is "
            "there"
        )
    return found


def _refuse_longer(limits: Limits, said: Set[str], longest: int | None, folder: Path, name: str) -> None:
    if longest is not None and "tokens_per_input" in said and limits.tokens_per_input > longest:
        raise CheckpointError(
            f"{name}: limits: tokens_per_input {limits.tokens_per_input} is more than the {longest} tokens that the "
            f"model in {folder} takes; make it {longest} at most"
        )


def _limits(limits: Limits, said: Set[str], longest: int | None) -> Limits:
    """What was said, and for the rest what fits a model in this process."""
    fitting = {"inputs_per_request": _INPUTS, "tokens_per_request": _TOKENS}
    if longest is not None:
        fitting["tokens_per_input"] = longest
    return msgspec.structs.replace(limits, **{m: v for m, v in fitting.items() if m not in said})
