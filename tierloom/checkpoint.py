"""The checkpoint: the identity of an embedding space, and how its model is reached.

Two vectors may be compared only under one `fingerprint`: the hash of everything that shapes a vector.
Limits, endpoint and price are kept with it, but shape no vector and so are not part of the identity.
"""

import hashlib
from typing import Annotated, Any, Final, Literal

import msgspec

from tierloom import names
from tierloom.errors import CheckpointMismatch
from tierloom.sealed import canonical, seal, unseal

FORMAT: Final = 1

Positive = Annotated[int, msgspec.Meta(ge=1)]
MAX_DIMENSIONS: Final = 65536
Dimensions = Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)]
Provider = Literal["wordllama", "openai", "sentence-transformers"]
# What is embedded: the two may differ in prompt and request.
Role = Literal["documents", "queries"]
RequestFields = dict[str, str | int | float | bool | list[str]]
_FIRST_MEMBERS: Final = frozenset(
    {
        "provider",
        "model",
        "revision",
        "dimensions",
        "trained_prefixes",
        "document_prompt",
        "query_prompt",
        "post_processing",
    }
)
Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What shapes a vector.

    `trained_prefixes` are the prefix dimensions the model was trained to serve (MRL, arXiv:2205.13147).
    `document_fields` and `query_fields` are further members of the requests for each role, such as a task; a member
    `model` takes the place of `model`, for models that share a space.
    `post_processing` lists the steps between the model's answer and the stored vector, in order; unit norm is always
    the last one (`tierloom.post_processing`). `half_precision` is what a model in this process computes with, in place
    of float32.
    """

    provider: Provider
    model: str
    revision: str
    dimensions: Dimensions
    trained_prefixes: tuple[Dimensions, ...]
    document_prompt: str = ""
    query_prompt: str = ""
    document_fields: RequestFields = {}
    query_fields: RequestFields = {}
    post_processing: tuple[Literal["layer-norm", "unit-norm"], ...] = ("unit-norm",)
    half_precision: Literal["float16", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        if self.post_processing not in (("unit-norm",), ("layer-norm", "unit-norm")):
            raise ValueError(
                f"post_processing {list(self.post_processing)} is neither unit-norm nor layer-norm and that"
            )

    @property
    def in_process(self) -> bool:
        """Whether the model runs in this process: asking it costs time, and no money."""
        return self.provider != "openai"

    def fields(self, role: Role) -> RequestFields:
        """The further members of a request in this role."""
        return self.document_fields if role == "documents" else self.query_fields

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is the hash of: the members of the first spaces, and of later ones those that are not
        empty, so that a new member leaves alone the fingerprints of all models that do without it."""
        members: dict[str, Any] = msgspec.to_builtins(self)
        return {name: held for name, held in members.items() if held or name in _FIRST_MEMBERS}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one request may hold, and how much an account may ask for in a minute, if that is known. Tokens are those of
    the checkpoint's tokenizer."""

    inputs_per_request: Positive = 2048
    tokens_per_request: Positive = 300_000
    tokens_per_input: Positive = 8191
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost on the day `as_of` (RFC 3339 full-date), as `page` says; None where there is no Batch
    API."""

    usd_per_million_tokens: Dollars
    as_of: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}\Z")]
    page: str
    batch_usd_per_million_tokens: Dollars | None = None


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how the model answers. The key itself is never stored: only the name of the variable that holds it.

    Texts are posted to `path` below the address, as the member `inputs`, beside the members of `fields`, which are of
    every request and say how vectors are written. Where answers are not `indexed`, vectors are in the order of the
    texts. A model in this process is read from `folder`, if it is not to be fetched, and runs on `device`, or where its
    library thinks best.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    path: str = "/embeddings"
    inputs: str = "input"
    fields: RequestFields = msgspec.field(default_factory=lambda: {"encoding_format": "base64"})
    indexed: bool = True
    folder: str | None = None
    device: str | None = None


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An embedding space with the tokenizer, limits, endpoint and price of the model that fills it.

    `tokenizer` is `tiktoken:<model>`, `wordllama`, `huggingface:<path of a tokenizer.json>` or `utf8-bytes`
    (one token per byte: an upper bound for every byte-level vocabulary).
    """

    space: Space
    tokenizer: str = "utf8-bytes"
    limits: Limits = Limits()
    endpoint: Endpoint = Endpoint()
    price: Price | None = None
    format: Literal[1] = FORMAT

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the sha256 of the space's identity."""
        return hashlib.sha256(canonical(self.space.identity)).hexdigest()[:32]

    def to_bytes(self) -> bytes:
        return seal(self)

    @classmethod
    def from_bytes(cls, data: bytes, fingerprint: str) -> "Checkpoint":
        """The checkpoint stored under `fingerprint`. Raises `CheckpointMismatch` if it is another one."""
        name = names.checkpoint(fingerprint)
        checkpoint = unseal(data, cls, name, FORMAT)
        if checkpoint.fingerprint != fingerprint:
            raise CheckpointMismatch(
                f"{name} holds checkpoint {checkpoint.fingerprint} "
                f"({checkpoint.space.provider} {checkpoint.space.model})"
            )
        return checkpoint
