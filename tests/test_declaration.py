"""What a declaration may say beyond the model itself: request members, price, rates, a known model to begin with."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierloom.checkpoint import Endpoint, Limits, Price
from tierloom.declaration import Declaration
from tierloom.declaring import declared_checkpoint, known_names
from tierloom.errors import CheckpointError
from tierloom.spelling import nearest

WHOLE = """
provider = "openai"
model = "voyage-code-3"
dimensions = 2048
trained_prefixes = [256, 512, 1024, 2048]
document_fields = { input_type = "document", output_dimension = 2048 }
query_fields = { input_type = "query", output_dimension = 2048 }
limits = { inputs_per_request = 1000, tokens_per_request = 120_000, requests_per_minute = 2000 }
price = { usd_per_million_tokens = 0.18, as_of = 2026-05-01, page = "https://docs.voyageai.com/docs/pricing" }
endpoint = { base_url = "https://api.voyageai.com/v1", api_key_env = "VOYAGE_API_KEY", fields = { truncation = false } }
"""
SMALLEST = 'provider = "openai"\nmodel = "m"\ndimensions = 8\n'
PRICE = 'price = {{ usd_per_million_tokens = {}, as_of = {}, page = "https://host/" }}\n'


def declare(folder: Path, text: str) -> str:
    path = folder / "model.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refused(folder: Path, text: str) -> str:
    path = declare(folder, text)
    with pytest.raises(CheckpointError) as bad:
        declared_checkpoint(path)
    assert str(bad.value).startswith(f"{path}: ")
    return str(bad.value)


def test_a_model_with_fields_price_and_rates_takes_ten_lines(tmp_path: Path) -> None:
    assert len(WHOLE.strip().splitlines()) <= 10
    checkpoint = declared_checkpoint(declare(tmp_path, WHOLE))
    assert checkpoint.space.document_fields == {"input_type": "document", "output_dimension": 2048}
    assert checkpoint.space.query_fields == {"input_type": "query", "output_dimension": 2048}
    assert checkpoint.limits == Limits(1000, 120_000, requests_per_minute=2000)
    assert checkpoint.price == Price(0.18, "2026-05-01", "https://docs.voyageai.com/docs/pricing")
    assert checkpoint.endpoint == Endpoint(
        "https://api.voyageai.com/v1", "VOYAGE_API_KEY", fields={"truncation": False}
    )


def test_fields_are_part_of_the_identity_and_price_and_rates_are_not(tmp_path: Path) -> None:
    plain = declared_checkpoint(declare(tmp_path, SMALLEST))
    asked = declared_checkpoint(declare(tmp_path, SMALLEST + 'query_fields = { task = "query" }'))
    priced = declared_checkpoint(
        declare(tmp_path, SMALLEST + PRICE.format(1, "2026-05-01") + "limits = { tokens_per_minute = 9 }")
    )
    assert asked.fingerprint != plain.fingerprint == priced.fingerprint
    assert type(asked).from_bytes(asked.to_bytes(), asked.fingerprint) == asked
    assert type(priced).from_bytes(priced.to_bytes(), priced.fingerprint) == priced


def test_a_day_may_be_written_as_toml_or_as_text(tmp_path: Path) -> None:
    first, second = (
        declared_checkpoint(declare(tmp_path, SMALLEST + PRICE.format(0, day))).price
        for day in ("2026-02-28", '"2026-02-28"')
    )
    assert first == second == Price(0.0, "2026-02-28", "https://host/")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dimensons = 8", ["no member 'dimensons'", "did you mean dimensions?"]),
        ("document_feilds = { task = 'x' }", ["did you mean document_fields?"]),
        ("limits = { request_per_minute = 3 }", ["limits: ", "did you mean requests_per_minute?"]),
        ("limits = { tokens_per_minute = 0 }", ["$.limits.tokens_per_minute", ">= 1"]),
        ("endpoint = { base_ulr = 'http://h/v1' }", ["endpoint: ", "did you mean base_url?"]),
        ("endpoint = { path = 'embeddings' }", ["endpoint: path", "/embeddings"]),
        ("endpoint = { device = 'cuda' }", ["endpoint: openai has no device", "base_url"]),
        (
            "price = { usd_per_milion_tokens = 1, as_of = 2026-01-01, page = 'p' }",
            ["did you mean usd_per_million_tokens?"],
        ),
        ("price = { usd_per_million_tokens = 1 }", ["$.price", "as_of"]),
        (PRICE.format("-0.1", "2026-05-01"), ["$.price.usd_per_million_tokens", ">= 0"]),
        (PRICE.format("nan", "2026-05-01"), ["$.price.usd_per_million_tokens", ">= 0"]),
        (PRICE.format("inf", "2026-05-01"), ["price: usd_per_million_tokens = inf"]),
        (PRICE.format('"cheap"', "2026-05-01"), ["$.price.usd_per_million_tokens", "float"]),
        (PRICE.format(1, '"2026-02-30"'), ["price: as_of '2026-02-30' is no day", "2026-05-01"]),
        (PRICE.format(1, '"May 2026"'), ["$.price.as_of"]),
        (PRICE.format(1, "2026-05-01T10:00:00"), ["$.price.as_of"]),
        ("price = { usd_per_million_tokens = 1, as_of = 2026-01-01, page = ' ' }", ["price: page is empty"]),
        ("document_fields = { input = 'x' }", ["document_fields: input is what Tierloom itself writes"]),
        ("endpoint = { fields = { model = 'x' } }", ["endpoint.fields: model is what Tierloom itself writes"]),
        ("endpoint = { inputs = 'texts', fields = { texts = 'x' } }", ["endpoint.fields: texts"]),
        ("document_fields = { encoding_format = 'float' }", ["encoding_format is in endpoint.fields too"]),
        ("query_fields = { scale = inf }", ["query_fields: scale = inf"]),
        ("query_fields = { nested = { a = 1 } }", ["$.query_fields"]),
        ("half_precision = 'float16'", ["half_precision is for sentence-transformers"]),
        ("known = 'voyage3.5'", ["no known model 'voyage3.5'", "voyage-3.5"]),
        ("known = 3", ["no known model 3"]),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(tmp_path: Path, text: str, parts: list[str]) -> None:
    said = refused(tmp_path, SMALLEST + text)
    for part in parts:
        assert part in said


def test_a_provider_that_is_misspelt_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path, SMALLEST.replace("openai", "sentence_transformers"))
    assert "did you mean sentence-transformers?" in said


@pytest.mark.parametrize("name", ["api_key", "apikey", "X-Api-Key", "client_secret", "Authorization", "password"])
def test_a_secret_among_the_members_of_requests_is_refused_unshown(tmp_path: Path, name: str) -> None:
    for table in ("document_fields", "endpoint"):
        fields = f'{{ "{name}" = "hush" }}'
        said = refused(
            tmp_path, SMALLEST + f"{table} = " + (fields if table != "endpoint" else f"{{ fields = {fields} }}")
        )
        assert name in said
        assert "api_key_env" in said
        assert "hush" not in said


def test_wordllama_has_neither_fields_nor_endpoint(tmp_path: Path) -> None:
    local = SMALLEST.replace("openai", "wordllama")
    assert "wordllama is sent none" in refused(tmp_path, local + "query_fields = { task = 'query' }")
    assert "no endpoint at all" in refused(tmp_path, local + "endpoint = { base_url = 'http://h/v1' }")


def test_a_known_model_is_the_beginning_of_another(tmp_path: Path) -> None:
    known = declared_checkpoint("voyage-3.5")
    text = (
        'known = "voyage-3.5"\nlimits = { requests_per_minute = 6000 }\nendpoint = { base_url = "https://proxy/v1" }\n'
    )
    mine = declared_checkpoint(declare(tmp_path, text))
    assert mine.fingerprint == known.fingerprint
    assert mine.price == known.price
    assert mine.limits == msgspec.structs.replace(known.limits, requests_per_minute=6000)
    assert mine.endpoint == msgspec.structs.replace(known.endpoint, base_url="https://proxy/v1")
    other = declared_checkpoint(declare(tmp_path, text + 'document_fields = { input_type = "document" }\n'))
    assert other.space.document_fields == {"input_type": "document"}


def test_a_known_model_in_this_process_keeps_what_is_its_own(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = f'known = "mxbai-embed-large-v1"\nprovider = "sentence-transformers"\nrevision = "{commit}"\n'
    mine, known = declared_checkpoint(declare(tmp_path, text)), declared_checkpoint("mxbai-embed-large-v1")
    assert mine.space == msgspec.structs.replace(known.space, provider="sentence-transformers", revision=commit)
    assert mine.limits.tokens_per_input == known.limits.tokens_per_input
    # A batch in memory is not a request.
    assert mine.limits.inputs_per_request == 256
    assert mine.endpoint == Endpoint()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("text-embeding-3-small", "text-embedding-3-small"),
        ("Voyage-3.5", "voyage-3.5"),
        ("nomic", "nomic-embed-text-v1.5"),
        ("qwen3-embedding", "qwen3-embedding-0.6b"),
        ("wordlama", "wordllama"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest(said: str, meant: str) -> None:
    with pytest.raises(CheckpointError) as unknown:
        declared_checkpoint(said)
    named = str(unknown.value).partition("(did you mean ")[2].partition("?)")[0]
    assert meant in named.split(" or ")


MEMBERS = [field.name for field in msgspec.structs.fields(Declaration)]


@given(st.sampled_from([*MEMBERS, *known_names()]), st.data())
def test_a_name_with_one_slip_is_always_found(name: str, data: st.DataObject) -> None:
    """A letter that is missing, doubled or another one. Names of four letters and less can turn into one another."""
    known = MEMBERS if name in MEMBERS else list(known_names())
    at = data.draw(st.integers(1, len(name) - 1))
    slip = data.draw(
        st.sampled_from([name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], f"{name[:at]}#{name[at + 1 :]}"])
    )
    if slip in known:
        return
    assert name in nearest(slip, known, 3)


def test_what_is_like_nothing_is_answered_with_nothing() -> None:
    assert nearest("zzzzzz", known_names()) == nearest("", known_names()) == ""
