"""Known and declared checkpoints."""

from pathlib import Path

import pytest

from tierloom.checkpoint import Endpoint, Limits
from tierloom.declaring import UNSPECIFIED, declared_checkpoint, known_names
from tierloom.errors import CheckpointError

WHOLE = """
provider = "openai"
model = "nomic"
revision = "v1.5"
dimensions = 768
trained_prefixes = [256, 64, 768]
document_prompt = "search_document: "
query_prompt = "search_query: "
post_processing = ["layer-norm"]
tokenizer = "huggingface:vocabulary/tokenizer.json"
limits = { inputs_per_request = 64, tokens_per_request = 65536, tokens_per_input = 8192 }
endpoint = { base_url = "http://127.0.0.1:8080/v1", api_key_env = "LOCAL_KEY" }
"""
SMALLEST = 'provider = "openai"\nmodel = "m"\ndimensions = 8\n'


def declare(folder: Path, text: str) -> str:
    path = folder / "model.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "dimensions", "prefixes"),
    [
        ("wordllama", 256, (64, 128, 256)),
        ("text-embedding-3-small", 1536, (512, 1536)),
        ("text-embedding-3-large", 3072, (256, 1024, 3072)),
    ],
)
def test_known_checkpoints(name: str, dimensions: int, prefixes: tuple[int, ...]) -> None:
    space = declared_checkpoint(name).space
    assert (space.dimensions, space.trained_prefixes) == (dimensions, prefixes)


def test_every_known_checkpoint_has_its_own_fingerprint() -> None:
    assert len({declared_checkpoint(name).fingerprint for name in known_names()}) == len(known_names()) == 20


def test_openai_limits() -> None:
    limits = declared_checkpoint("text-embedding-3-small").limits
    assert limits == Limits(
        inputs_per_request=2048,
        tokens_per_request=300_000,
        tokens_per_input=8191,
        requests_per_minute=3000,
        tokens_per_minute=1_000_000,
    )


def test_a_whole_declaration(tmp_path: Path) -> None:
    (tmp_path / "vocabulary").mkdir()
    (tmp_path / "vocabulary" / "tokenizer.json").write_text("{}")
    checkpoint = declared_checkpoint(declare(tmp_path, WHOLE))
    space = checkpoint.space
    assert (space.model, space.revision, space.dimensions) == ("nomic", "v1.5", 768)
    assert space.trained_prefixes == (64, 256, 768)
    assert (space.document_prompt, space.query_prompt) == ("search_document: ", "search_query: ")
    assert checkpoint.tokenizer == f"huggingface:{tmp_path.resolve()}/vocabulary/tokenizer.json"
    assert checkpoint.limits == Limits(64, 65536, 8192)
    assert checkpoint.endpoint == Endpoint("http://127.0.0.1:8080/v1", "LOCAL_KEY")


def test_the_smallest_declaration(tmp_path: Path) -> None:
    checkpoint = declared_checkpoint(declare(tmp_path, SMALLEST))
    assert checkpoint.space.revision == UNSPECIFIED
    assert checkpoint.space.trained_prefixes == ()
    assert checkpoint.tokenizer == "utf8-bytes"
    assert checkpoint.limits == Limits()


def test_where_a_model_answers_is_no_part_of_its_identity(tmp_path: Path) -> None:
    path = declare(tmp_path, SMALLEST)
    here, there = declared_checkpoint(path), declared_checkpoint(path, "https://other/v1", "OTHER_KEY")
    assert there.endpoint == Endpoint("https://other/v1", "OTHER_KEY")
    assert here.fingerprint == there.fingerprint


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CheckpointError) as unknown:
        declared_checkpoint("text-embedding-4")
    for part in ("'text-embedding-4'", ".toml", *known_names()):
        assert part in str(unknown.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param(
            SMALLEST + "dimension = 8",
            ["'dimension' (did you mean dimensions?)", "trained_prefixes"],
            id="unknown member",
        ),
        pytest.param(
            SMALLEST + "limits = { inputs = 3 }",
            ["limits: ", "did you mean inputs_per_request?"],
            id="unknown limit",
        ),
        pytest.param(SMALLEST.replace("8", '"8"'), ["$.dimensions", "int", "str"], id="wrong type"),
        pytest.param(SMALLEST.replace("8", "0"), ["$.dimensions", ">= 1"], id="no dimensions"),
        pytest.param(SMALLEST.replace("dimensions = 8", ""), ["dimensions"], id="missing member"),
        pytest.param(
            SMALLEST.replace("openai", "cohere"),
            ["no provider 'cohere'", "openai", "sentence-transformers"],
            id="unknown provider",
        ),
        pytest.param(SMALLEST.replace('"m"', '" "'), ["model is empty"], id="empty model"),
        pytest.param(SMALLEST + "trained_prefixes = [4, 16]", ["[16]", "8"], id="prefix beyond"),
        pytest.param(SMALLEST + "trained_prefixes = [4, 4]", ["[4, 4]", "once"], id="prefix twice"),
        pytest.param(SMALLEST + 'tokenizer = "bpe"', ["'bpe'", "utf8-bytes"], id="unknown tokenizer"),
        pytest.param(SMALLEST + 'tokenizer = "tiktoken:"', ["tiktoken:<model>"], id="tokenizer without model"),
        pytest.param(SMALLEST + 'tokenizer = "huggingface:t.json"', ["t.json", "no file"], id="absent tokenizer"),
        pytest.param("provider = openai", ["line 1"], id="broken TOML"),
        pytest.param('a = "\ufeff"\n\x00', ["TOML"], id="no TOML"),
    ],
)
def test_a_bad_declaration_names_file_member_and_cure(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = declare(tmp_path, text)
    with pytest.raises(CheckpointError) as bad:
        declared_checkpoint(path)
    for part in (path, *parts):
        assert part in str(bad.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.toml: cannot be read"):
        declared_checkpoint(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b'model = "\xe9"')
    with pytest.raises(CheckpointError, match=r"latin\.toml"):
        declared_checkpoint(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://user:hush@host/v1",
        "https://hush@host/v1",
        "https://host/v1?key=hush",
        "https://host/v1#hush",
        "ftp://host/hush",
        "file:///hush",
        "host:80/hush",
        "//host/hush",
        "http:///hush",
        "http://host:99999/hush",
        "http://[host/hush",
        "http://host/hush hush",
        "",
    ],
)
def test_an_address_that_could_carry_a_secret_is_refused_unshown(tmp_path: Path, base_url: str) -> None:
    declared = SMALLEST + f'endpoint = {{ base_url = "{base_url}" }}'
    for model, argument in ((declare(tmp_path, declared), None), ("text-embedding-3-small", base_url)):
        with pytest.raises(CheckpointError, match="base_url") as refused:
            declared_checkpoint(model, argument)
        assert "hush" not in str(refused.value)


@pytest.mark.parametrize("base_url", ["http://localhost:11434/v1", "https://host/v1/", "http://[::1]:8080/v1"])
def test_a_plain_address_is_kept_as_it_is(base_url: str) -> None:
    assert declared_checkpoint("text-embedding-3-small", base_url).endpoint.base_url == base_url


def test_a_key_in_place_of_its_variable_is_refused_unshown() -> None:
    with pytest.raises(CheckpointError, match="name it, not the key") as refused:
        declared_checkpoint("text-embedding-3-small", api_key_env="sk-hush")
    assert "hush" not in str(refused.value)


def test_wordllama_has_no_endpoint() -> None:
    with pytest.raises(CheckpointError, match="at no address"):
        declared_checkpoint("wordllama", "http://localhost/v1")
