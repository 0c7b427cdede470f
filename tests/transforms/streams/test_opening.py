"""What a user calls a stream."""

import subprocess
import sys
from pathlib import Path

import pytest

from tierloom.errors import SourceError
from tierloom.stores.opening import open_store
from transforms.reading.records import Fields
from transforms.streams.folder import FolderStream
from transforms.streams.growing_file import GrowingFile
from transforms.streams.kafka import KafkaStream
from transforms.streams.opening import StreamOptions, open_stream, refuse_own_output
from transforms.streams.pubsub import PubSubStream
from transforms.streams.standard_input import StandardInput
from transforms.streams.stream import ChangeStream

OPTIONS = StreamOptions(Fields(), say=lambda said: None)


def test_every_kind_of_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "changes.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    kinds: dict[str, tuple[type[ChangeStream], str]] = {
        "docs": (FolderStream, f"{tmp_path}/docs"),
        "docs/": (FolderStream, f"{tmp_path}/docs"),
        "changes.jsonl": (GrowingFile, f"{tmp_path}/changes.jsonl"),
        "-": (StandardInput, "-"),
        "kafka://host:9092/topic?group=a": (KafkaStream, "kafka://host:9092/topic"),
        "pubsub://project/changes": (PubSubStream, "pubsub://project/changes"),
    }
    with (tmp_path / "changes.jsonl").open() as given:
        # What pytest puts in its place has no descriptor.
        monkeypatch.setattr("sys.stdin", given)
        for source, (kind, name) in kinds.items():
            stream = open_stream(source, OPTIONS)
            assert (type(stream), stream.source) == (kind, name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "stream 'nothing' does not exist; a stream is a folder, a .jsonl file"),
        ("text.md", "stream 'text.md' does not end in .jsonl or .ndjson"),
        ("gs://bucket/docs", "'gs://bucket/docs' has the scheme 'gs'; a stream is a folder"),
        ("kafka://host", "kafka://host is no topic"),
        ("pubsub://project", "'pubsub://project' is no subscription"),
    ],
)
def test_what_is_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
    (tmp_path / "text.md").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError) as raised:
        open_stream(source, OPTIONS)
    assert message in str(raised.value)


def test_a_store_in_the_watched_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "docs")
    for folder in ("docs", "link"):
        for store in ("docs", "docs/store", "link/deep/store"):
            with pytest.raises(SourceError, match="would be taken for changes; move one of them"):
                refuse_own_output(str(tmp_path / folder), open_store(str(tmp_path / store)))
    for store in ("store", "docs/.store", "docs-store"):
        refuse_own_output(str(tmp_path / "docs"), open_store(str(tmp_path / store)))
    refuse_own_output("kafka://host/topic", open_store(str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "client", "extra"),
    [
        (".", "watchfiles", "stream"),
        ("kafka://h/t", "confluent_kafka", "kafka"),
        ("pubsub://p/s", "google.cloud.pubsub_v1", "pubsub"),
    ],
)
def test_a_client_that_is_not_installed(source: str, client: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{client!r}] = None\n"
        "from tierloom.errors import MissingExtra\n"
        "from transforms.reading.records import Fields\n"
        "from transforms.streams.opening import StreamOptions, open_stream\n"
        f"try: open_stream({source!r}, StreamOptions(Fields(), print))\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert f"pip install 'tierloom[{extra}]'" in done.stdout
