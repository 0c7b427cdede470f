"""What cannot work ends with exit status 1 and one line that names the value and the cure."""

import json
import resource
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error, items
from tests.pipelines.command_line import (
    assert_whole,
    declare,
    head_of,
    init,
    ok,
    run,
    run_apart,
    write_records,
)
from tierloom.sealed import canonical
from transforms.job import Job


@pytest.fixture
def store(tmp_path: Path, endpoint: Endpoint) -> Path:
    path = tmp_path / "store"
    init(path, declare(tmp_path, endpoint), "--block-chunks", 20)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_records(tmp_path / "r.jsonl", [{"id": "a", "sequence": 1, "text": "alpha"}])


def refused(*arguments: object, says: tuple[str, ...]) -> None:
    message = run(*arguments).error
    for part in says:
        assert part in message, message


_UPKEEP = ("history", "retention", "gc", "erase")


@pytest.mark.parametrize("command", ["ingest", "search", "show", "verify", "dead-letters", *_UPKEEP])
def test_a_folder_that_is_no_collection(tmp_path: Path, source: Path, command: str) -> None:
    further = {"ingest": (source,), "search": ("question",), "erase": ("id",)}.get(command, ())
    for store in (tmp_path / "absent", tmp_path):
        refused(command, store, *further, says=(str(store), "holds no collection", "tierloom init"))


@pytest.mark.parametrize("command", ["init", "ingest", "search", "show", "verify", *_UPKEEP])
def test_a_store_that_is_a_file(tmp_path: Path, source: Path, command: str) -> None:
    further: dict[str, tuple[object, ...]] = {"ingest": (source,), "search": ("question",), "erase": ("id",)}
    further["init"] = ("--model", "wordllama", "--tiers", "64")
    store = tmp_path / "file"
    store.write_text("")
    refused(command, store, *further.get(command, ()), says=(str(store), "choose another folder"))


def test_a_store_of_an_unknown_scheme(source: Path) -> None:
    refused("ingest", "s3://bucket/prefix", source, says=("'s3://bucket/prefix'", "gs://bucket/prefix"))


def test_a_collection_of_a_newer_format(store: Path, source: Path) -> None:
    manifest = store / "manifests" / "000000000000.json"
    members = json.loads(manifest.read_bytes()) | {"format": 2}
    manifest.write_bytes(canonical(members) + b"\n")
    for command in (("show", store), ("ingest", store, source), ("search", store, "question"), ("verify", store)):
        refused(*command, says=("000000000000.json", "format 2", "Upgrade"))


def test_a_store_that_holds_a_collection_already(store: Path) -> None:
    refused("init", store, "--model", "wordllama", "--tiers", "64", says=(str(store), "already", "another store"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "wordlama", "--tiers", "64"), ("'wordlama'", "wordllama", ".toml")),
        (("--model", "nowhere.toml", "--tiers", "64"), ("nowhere.toml",)),
        (("--model", "wordllama", "--tiers", "512"), ("512", "256")),
        (("--model", "wordllama", "--tiers", "100"), ("100", "64", "--untrained-prefixes")),
        (("--model", "wordllama", "--tiers", "64,64"), ("64",)),
        (("--model", "wordllama", "--tiers", "64", "--chunk-tokens", "4"), ("4 tokens", "at least 8")),
        (("--model", "wordllama", "--tiers", "64", "--chunk-overlap", "512"), ("512", "smaller")),
    ],
)
def test_what_init_refuses(tmp_path: Path, options: tuple[str, ...], says: tuple[str, ...]) -> None:
    refused("init", tmp_path / "store", *options, says=says)
    assert not (tmp_path / "store" / "manifests").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", "store"),
        ("init", "store", "--model", "wordllama", "--tiers", "small"),
        ("init", "store", "--model", "wordllama", "--tiers", "64", "--connectivity", "1"),
        ("ingest", "store"),
        ("ingest", "store", "source", "--concurrency", "0"),
        ("search", "store"),
        ("search", "store", "question", "--top", "0"),
        ("show", "store", "minus"),
        ("erase", "store"),
        ("gc", "store", "--grace", "soon"),
        ("history", "store", "--last", "0"),
        ("publish", "store"),
        ("show", "store", "--no-such-option"),
    ],
)
def test_a_command_that_is_called_wrongly_is_status_2(arguments: tuple[str, ...]) -> None:
    finished = run(*arguments)
    assert finished.status == 2
    assert "Usage: " in finished.err
    assert "Traceback" not in finished.err


def test_options_that_nobody_knows(store: Path, source: Path) -> None:
    refused("ingest", store, source, "--no-such-option", says=("--no-such-option", "--help"))
    refused("dead-letters", store, "--retry", "--no-such-option", says=("--no-such-option", "--help"))
    refused("dead-letters", store, "--retry", "more", says=("'more'",))


@pytest.mark.parametrize("further", ["--no-such-option", "more"])
def test_a_listing_of_letters_refuses_what_only_a_retry_takes(store: Path, further: str) -> None:
    finished = run("dead-letters", store, further)
    assert finished.status == 2
    assert repr(further) in finished.err


def test_a_beam_option_with_a_value_that_beam_refuses(store: Path, source: Path) -> None:
    finished = run("ingest", store, source, "--direct_num_workers=many")
    assert finished.status in (1, 2)
    assert "direct_num_workers" in finished.err
    assert "Traceback" not in finished.err


def test_a_runner_that_does_not_exist(store: Path, source: Path) -> None:
    refused("ingest", store, source, "--runner=NoSuchRunner", says=("NoSuchRunner",))


def test_options_without_a_source(store: Path) -> None:
    refused("ingest", store, "--direct_num_workers=1", says=("source",))


def test_sources_that_hold_nothing(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "picture.png").write_bytes(b"")
    for source in ("absent.txt", "*.md", "empty", "other", "other/picture.png"):
        refused("ingest", store, tmp_path / source, says=(source,))
    assert head_of(store).version == 0


def test_parquet_without_the_named_columns(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"key": ["a"], "body": ["alpha"]}), path)
    refused("ingest", store, path, says=(str(path), "'id'", "--id-field"))
    refused("ingest", store, path, "--id-field", "key", says=("'text'", "--text-field"))
    ok(run("ingest", store, path, "--id-field", "key", "--text-field", "body"))
    assert_whole(store)


def test_versions_and_tiers_that_do_not_exist(store: Path, source: Path) -> None:
    ok(run("ingest", store, source))
    refused("show", store, 7, says=("version 7", "newest is 1"))
    refused("verify", store, 7, says=("version 7",))
    refused("search", store, "question", "--version", 7, says=("version 7",))
    refused("search", store, "question", "--tier", 12, says=("12", "8, 16"))
    refused("search", store, "  ", says=("empty",))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(401, "no such key"), ("401", "no such key")),
        (error(404, "no such model"), ("404", "no such model", "test-model")),
        (error(429, "pay first", "insufficient_quota"), ("429", "pay first")),
        (Reply(200, b"<html>Please log in</html>", {"Content-Type": "text/html"}), ("text/html", "Please log in")),
        (answer(items(["x"], 8)), ("8", "16")),
    ],
    ids=["key", "model", "quota", "html", "dimensions"],
)
def test_an_endpoint_that_will_not_serve(
    endpoint: Endpoint, store: Path, source: Path, reply: Reply, says: tuple[str, ...]
) -> None:
    endpoint.script = lambda asked: reply
    refused("ingest", store, source, says=(endpoint.base_url, *says))
    assert head_of(store).version == 0
    refused("search", store, "question", says=says)
    endpoint.script = None
    ok(run("ingest", store, source))
    assert_whole(store)


def test_an_endpoint_that_is_down(tmp_path: Path, source: Path) -> None:
    with Endpoint(16) as gone:
        address = gone.base_url
    init(tmp_path / "store", declare(tmp_path, address))
    refused("ingest", tmp_path / "store", source, says=(address,))


def test_a_missing_api_key(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(tmp_path / "store", "text-embedding-3-small", tiers="512")
    refused("ingest", tmp_path / "store", source, says=("OPENAI_API_KEY",))
    refused("search", tmp_path / "store", "question", says=("OPENAI_API_KEY",))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-with\u2026dots")
    message = run("ingest", tmp_path / "store", source).error
    assert "OPENAI_API_KEY" in message
    assert "dots" not in message


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, store: Path, source: Path) -> None:
    blocked = "import sys; sys.modules['openai'] = None"
    finished = run_apart("ingest", store, source, before=blocked)
    assert finished.error == "the model test-model needs an optional dependency: pip install 'tierloom[openai]'"


# What is too large for the disk: a block, the merged shard, an index shard.
@pytest.mark.parametrize("room", [1_000, 9_000, 18_500])
def test_a_full_disk_ends_in_one_line_and_costs_nothing(
    tmp_path: Path, endpoint: Endpoint, store: Path, room: int
) -> None:
    texts = [{"id": f"d{n}", "sequence": 1, "text": f"{n} " * 400} for n in range(60)]
    source = write_records(tmp_path / "many.jsonl", texts)
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    full = limit + f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    finished = run_apart("ingest", store, source, before=full)
    assert "disk" in finished.error
    assert str(store) in finished.error
    assert "while running" not in finished.error
    assert head_of(store).version == 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    ok(run("ingest", store, source))
    assert_whole(store)


def test_an_error_of_our_own_making_is_not_hidden(store: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Job) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(Job, "schema", property(broken))
    finished = run("ingest", store, source)
    assert finished.status == 1
    assert "Traceback (most recent call last)" in finished.err
    assert "a mistake of ours" in finished.err


def test_a_manifest_that_was_edited_by_hand(store: Path, source: Path) -> None:
    manifest = store / "manifests" / "000000000000.json"
    members = json.loads(manifest.read_bytes()) | {"writer": "me"}
    manifest.write_bytes(canonical(members) + b"\n")
    refused("ingest", store, source, says=("000000000000.json", "sha256"))


def test_odd_records_are_no_error(tmp_path: Path, endpoint: Endpoint, store: Path) -> None:
    strange: list[dict[str, object]] = [
        {"id": "x" * 10_240, "text": "long id"},
        {"text": "no id"},
        {"id": 5.5, "text": "odd id"},
        {"id": "s", "text": "\ud800 surrogate"},
        {"id": "nul", "text": "a\0b"},
        {"id": "long", "text": "x" * 1_000_000},
        {"id": "lines", "text": "\n" * 10_000 + "at last"},
        {"id": "sequence", "text": "t", "sequence": "yesterday"},
    ]
    closing = ok(run("ingest", store, write_records(tmp_path / "odd.jsonl", strange), "--json")).json
    documents = closing["documents"]
    assert (documents["documents_in"], documents["live"], documents["dead_lettered"]) == (8, 3, 5)
    assert endpoint.violations == []
    assert_whole(store)


def test_requests_never_carry_what_the_checkpoint_does_not_say(endpoint: Endpoint, store: Path, source: Path) -> None:
    ok(run("ingest", store, source))
    asked: Asked = endpoint.asked[0]
    assert set(asked.body) == {"model", "input", "encoding_format"}
