"""Declaring a checkpoint: by the name of a known one, or in a TOML file of about ten lines.

    provider = "openai"                       # any OpenAI-compatible endpoint
    model = "nomic-embed-text-v1.5"           # as the endpoint calls it
    revision = "v1.5"
    dimensions = 768                          # native: what the endpoint answers
    trained_prefixes = [64, 128, 256, 512, 768]
    document_prompt = "search_document: "
    query_prompt = "search_query: "
    post_processing = ["layer-norm"]          # before the cut; unit norm always follows, and is not named
    tokenizer = "huggingface:tokenizer.json"  # relative to this file
    limits = { inputs_per_request = 64, tokens_per_request = 65536, tokens_per_input = 8192 }
    endpoint = { base_url = "http://127.0.0.1:8080/v1", api_key_env = "LOCAL_KEY" }

Only `provider`, `model` and `dimensions` must be there; with `known = "voyage-3.5"` all that is not said is as that
known model has it. docs/models.md has the others.
"""

import re
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tierloom.checkpoint import Checkpoint, Endpoint, Space
from tierloom.declaration import UNSPECIFIED, Declaration, completed, read_declaration
from tierloom.declaring_folder import completed_by_folder
from tierloom.errors import CheckpointError
from tierloom.spelling import nearest

__all__ = ["UNSPECIFIED", "declared_checkpoint", "known_declarations", "known_names"]

_TOKENIZER = re.compile(r"wordllama|utf8-bytes|tiktoken:[\w.-]+|huggingface:.+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")


def declared_checkpoint(model: str, base_url: str | None = None, api_key_env: str | None = None) -> Checkpoint:
    """The checkpoint that `model` names: a known one, or a path that ends in `.toml`.

    `base_url` and `api_key_env` take the place of what the declaration says of its endpoint.

    Raises `CheckpointError`: an unknown name (the known ones are listed, the nearest first), an unreadable or badly
    written file (with the member at fault), or an address that could carry a secret into the store.
    """
    if model in known_names():
        return _checkpoint(known_declarations()[model], model, None, base_url, api_key_env)
    if not model.endswith(".toml"):
        raise CheckpointError(
            f"unknown model {model!r}{nearest(model, known_names(), 3)}; known are {', '.join(known_names())}. "
            "Declare another one in a file that ends in .toml (provider, model, dimensions, trained_prefixes, ...) "
            "and name its path"
        )
    path = Path(model)
    return _checkpoint(_read(path), model, path.resolve().parent, base_url, api_key_env)


def known_names() -> tuple[str, ...]:
    """The models that need no declaration."""
    return tuple(known_declarations())


@cache
def known_declarations() -> dict[str, dict[str, Any]]:
    """The tables of `known_checkpoints.toml`."""
    return tomllib.loads((resources.files("tierloom") / "known_checkpoints.toml").read_text(encoding="utf-8"))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid TOML: {error}") from error


def _checkpoint(
    members: dict[str, Any], name: str, folder: Path | None, base_url: str | None, api_key_env: str | None
) -> Checkpoint:
    whole = completed(members, known_declarations(), name)
    declaration = completed_by_folder(read_declaration(whole, name), frozenset(whole.get("limits", ())), name, folder)
    return Checkpoint(
        space=_space(declaration),
        tokenizer=_tokenizer(declaration.tokenizer or "utf8-bytes", name, folder),
        limits=declaration.limits,
        endpoint=_endpoint(declaration, name, base_url, api_key_env),
        price=declaration.price,
    )


def _space(declaration: Declaration) -> Space:
    return Space(
        provider=declaration.provider,
        model=declaration.model,
        revision=declaration.revision,
        dimensions=declaration.dimensions,
        trained_prefixes=tuple(sorted(declaration.trained_prefixes)),
        document_prompt=declaration.document_prompt,
        query_prompt=declaration.query_prompt,
        document_fields=declaration.document_fields,
        query_fields=declaration.query_fields,
        post_processing=(*declaration.post_processing, "unit-norm"),
        half_precision=declaration.half_precision,
    )


def _tokenizer(spec: str, name: str, folder: Path | None) -> str:
    """`spec` with its path made absolute, taken from where the declaration lies."""
    if not _TOKENIZER.fullmatch(spec):
        raise CheckpointError(
            f"{name}: tokenizer {spec!r} is none; write wordllama, tiktoken:<model>, "
            "huggingface:<path of a tokenizer.json>, or utf8-bytes if you do not know it"
        )
    kind, _, location = spec.partition(":")
    if kind != "huggingface":
        return spec
    path = ((folder or Path()) / Path(location).expanduser()).resolve()
    if not path.is_file():
        raise CheckpointError(f"{name}: tokenizer: there is no file {path}; correct the path after huggingface:")
    return f"huggingface:{path}"


def _endpoint(declaration: Declaration, name: str, base_url: str | None, api_key_env: str | None) -> Endpoint:
    stated = declaration.endpoint
    given = msgspec.structs.replace(
        stated,
        base_url=base_url if base_url is not None else stated.base_url,
        api_key_env=api_key_env if api_key_env is not None else stated.api_key_env,
    )
    if given != stated and declaration.provider != "openai":
        raise CheckpointError(
            f"{name}: {declaration.provider} runs in this process and is asked at no address; leave the address and "
            "its key out"
        )
    if given.base_url is not None:
        _refuse_unsafe_address(given.base_url, name)
    if not _VARIABLE.fullmatch(given.api_key_env):
        # Not shown: it may well be the key itself.
        raise CheckpointError(f"{name}: api_key_env is no name of an environment variable; name it, not the key")
    if not _PATH.fullmatch(given.path):
        # Nor is this: a key can be a part of a query.
        raise CheckpointError(f"{name}: endpoint: path is none below an address; write it like /embeddings")
    return given


def _refuse_unsafe_address(base_url: str, name: str) -> None:
    """An address is stored and printed, so it must not carry a secret. None of these messages shows it."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise CheckpointError(f"{name}: base_url is no http or https address; write it like https://host:port/v1")
    if "@" in parts.netloc or "?" in base_url or "#" in base_url:
        raise CheckpointError(
            f"{name}: base_url carries user info, a query or a fragment, and would be stored with them; "
            "put the key into an environment variable and name that with api_key_env"
        )
    if any(character.isspace() or not character.isprintable() for character in base_url):
        raise CheckpointError(f"{name}: base_url holds a space or a control character; remove it")
