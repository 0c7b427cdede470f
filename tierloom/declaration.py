"""What a TOML table may say of a model: its members, read strictly."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from tierloom.checkpoint import Dimensions, Endpoint, Limits, Price, Provider, RequestFields
from tierloom.errors import CheckpointError
from tierloom.spelling import nearest, unknown_member

UNSPECIFIED: Final = "unspecified"

# Members of requests are stored with the checkpoint.
_SECRET: Final = re.compile(r"api.?key|secret|passw|authoriz|bearer|credential", re.IGNORECASE)

# Members that are tables, and what each is.
_TABLES: Final[dict[str, type[msgspec.Struct]]] = {"limits": Limits, "endpoint": Endpoint, "price": Price}
# What says how a model is reached, and so is of one provider only.
_OF_A_PROVIDER: Final = ("endpoint", "document_fields", "query_fields", "price", "tokenizer")
# Those of `Endpoint` that say something to each provider.
_ENDPOINT_MEMBERS: Final[dict[Provider, frozenset[str]]] = {
    "openai": frozenset({"base_url", "api_key_env", "path", "inputs", "fields", "indexed"}),
    "sentence-transformers": frozenset({"folder", "device"}),
    "wordllama": frozenset(),
}


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members of a declaration; see `tierloom.declaring`."""

    provider: Provider
    model: str
    dimensions: Dimensions
    known: str | None = None
    revision: str = UNSPECIFIED
    trained_prefixes: tuple[Dimensions, ...] = ()
    document_prompt: str = ""
    query_prompt: str = ""
    document_fields: RequestFields = {}
    query_fields: RequestFields = {}
    post_processing: Annotated[tuple[Literal["layer-norm"], ...], msgspec.Meta(max_length=1)] = ()
    half_precision: Literal["float16", "bfloat16"] | None = None
    tokenizer: str | None = None
    limits: Limits = Limits()
    price: Price | None = None
    endpoint: Endpoint = Endpoint()


def completed(members: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """`members` with those of the known model that they name as `known`, where they do not say otherwise.

    Limits and endpoint are completed member by member. Behind another provider the known model is the same, and
    reached in another way. Raises `CheckpointError` where there is no such known model.
    """
    if (base := members.get("known")) is None:
        return dict(members)
    if not isinstance(base, str) or base not in known:
        raise CheckpointError(f"{name}: known: no known model {base!r}{nearest(str(base), known, 3)}")
    inherited = dict(known[base])
    if members.get("provider", inherited["provider"]) != inherited["provider"]:
        inherited = {member: held for member, held in inherited.items() if member not in _OF_A_PROVIDER}
        inherited["limits"] = {m: v for m, v in inherited.get("limits", {}).items() if m == "tokens_per_input"}
    merged = {**inherited, **members}
    for table in ("limits", "endpoint"):
        if table in inherited and isinstance(members.get(table), dict):
            merged[table] = {**inherited[table], **members[table]}
    return merged


def read_declaration(members: Mapping[str, Any], name: str) -> Declaration:
    """The declaration that `members` of the file `name` are.

    Raises `CheckpointError` that names what is wrong, and for a name that is not known the nearest one.
    """
    _refuse_unknown(members, name)
    try:
        declaration = msgspec.convert(_with_dates(members), Declaration, strict=True)
    except msgspec.ValidationError as error:
        fields = ", ".join(field.name for field in msgspec.structs.fields(Declaration))
        raise CheckpointError(f"{name}: {error}; the members of a checkpoint are {fields}") from error
    for problem in _problems(declaration):
        raise CheckpointError(f"{name}: {problem}")
    return declaration


def _refuse_unknown(members: Mapping[str, Any], name: str) -> None:
    if problem := unknown_member(members, Declaration):
        raise CheckpointError(f"{name}: {problem}")
    for table, kind in _TABLES.items():
        held = members.get(table)
        if isinstance(held, dict) and (problem := unknown_member(held, kind)):
            raise CheckpointError(f"{name}: {table}: {problem}")
    provider = members.get("provider")
    if isinstance(provider, str) and provider not in get_args(Provider):
        known = get_args(Provider)
        raise CheckpointError(
            f"{name}: no provider {provider!r}{nearest(provider, known)}; there are {', '.join(known)}, "
            "and any OpenAI-compatible endpoint is openai"
        )


def _with_dates(members: Mapping[str, Any]) -> Mapping[str, Any]:
    """TOML has dates of its own."""
    price = members.get("price")
    if not isinstance(price, dict) or type(price.get("as_of")) is not date:
        return members
    return {**members, "price": {**price, "as_of": price["as_of"].isoformat()}}


def _problems(declaration: Declaration) -> Iterator[str]:
    for member in ("model", "revision"):
        if not getattr(declaration, member).strip():
            yield f"{member} is empty; write what the model's provider calls it"
    yield from _prefix_problems(declaration)
    yield from _field_problems(declaration)
    yield from _provider_problems(declaration)
    if declaration.price is not None:
        yield from _price_problems(declaration.price)


def _prefix_problems(declaration: Declaration) -> Iterator[str]:
    prefixes = declaration.trained_prefixes
    if beyond := [d for d in prefixes if d > declaration.dimensions]:
        yield (
            f"trained_prefixes {beyond} lie beyond the native dimensions, {declaration.dimensions}; "
            "remove them or correct dimensions"
        )
    if len(set(prefixes)) != len(prefixes):
        yield f"trained_prefixes {list(prefixes)} names one twice; name each once"


def _field_problems(declaration: Declaration) -> Iterator[str]:
    """Each member of a request is said once, and can be written."""
    endpoint = declaration.endpoint
    tables = {
        "document_fields": declaration.document_fields,
        "query_fields": declaration.query_fields,
        "endpoint.fields": endpoint.fields,
    }
    for table, fields in tables.items():
        # In one role another model may be asked that shares the space.
        own = {endpoint.inputs} if table != "endpoint.fields" else {endpoint.inputs, "model"}
        if taken := sorted(own & set(fields)):
            yield f"{table}: {taken[0]} is what Tierloom itself writes into a request; leave it out"
        numbers = {field: held for field, held in fields.items() if isinstance(held, float)}
        if infinite := [field for field, held in numbers.items() if not math.isfinite(held)]:
            yield f"{table}: {infinite[0]} = {numbers[infinite[0]]} is no number that a request can hold"
        if secret := [field for field in fields if _SECRET.search(field)]:
            # Its value is not shown.
            yield f"{table}: {secret[0]} looks like a secret, and would be stored; name its variable as api_key_env"
        if twice := sorted(set(fields) & set(endpoint.fields)) if table != "endpoint.fields" else []:
            yield f"{table}: {twice[0]} is in endpoint.fields too; say it once"


def _provider_problems(declaration: Declaration) -> Iterator[str]:
    provider, plain = declaration.provider, Endpoint()
    said = {m for m in Endpoint.__struct_fields__ if getattr(declaration.endpoint, m) != getattr(plain, m)}
    if strange := sorted(said - _ENDPOINT_MEMBERS[provider]):
        has = " and ".join(sorted(_ENDPOINT_MEMBERS[provider])) or "no endpoint at all"
        yield f"endpoint: {provider} has no {strange[0]}, but {has}; leave it out"
    if provider != "openai" and (declaration.document_fields or declaration.query_fields):
        yield f"document_fields and query_fields are members of requests, and {provider} is sent none; leave them out"
    if provider != "sentence-transformers" and declaration.half_precision is not None:
        yield f"half_precision is for sentence-transformers; {provider} has none, leave it out"


def _price_problems(price: Price) -> Iterator[str]:
    for member in ("usd_per_million_tokens", "batch_usd_per_million_tokens"):
        if not math.isfinite(getattr(price, member) or 0.0):
            yield f"price: {member} = {getattr(price, member)} is no price; write dollars, such as 0.02"
    try:
        date.fromisoformat(price.as_of)
    except ValueError as error:
        yield f"price: as_of {price.as_of!r} is no day ({error}); write it like 2026-05-01"
    if not price.page.strip():
        yield "price: page is empty; name where the price stands"
