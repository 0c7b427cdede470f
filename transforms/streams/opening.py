"""From what a user calls a stream to the stream itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tierloom.errors import MissingExtra, SourceError
from tierloom.stores.store import Store
from transforms.reading.listing import shown_path
from transforms.reading.records import Fields
from transforms.streams.growing_file import GrowingFile
from transforms.streams.standard_input import STANDARD_INPUT, StandardInput
from transforms.streams.stream import ChangeStream

_ACCEPTED: Final = (
    "a stream is a folder, a .jsonl file that grows, - for standard input, kafka://host:9092/topic or "
    "pubsub://project/subscription"
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_RECORDS: Final = (".jsonl", ".ndjson")


def never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to read a stream: its `fields`, which share of a watched folder's files may disappear at once, and for how
    many seconds of `patience` a broker out of reach is waited for.

    `say` is told what a user should know meanwhile; `stopping`, whether to go on waiting.
    """

    fields: Fields
    say: Callable[[str], None]
    delete_at_most: float = 0.2
    patience: float = 120.0
    stopping: Callable[[], bool] = never


def open_stream(source: str, options: StreamOptions) -> ChangeStream:
    """The stream that `source` names. Asks nothing of it yet.

    Raises `SourceError` for what is no stream, `MissingExtra` where its client is not installed.
    """
    if source == STANDARD_INPUT:
        return StandardInput(options.fields)
    scheme = _SCHEME.match(source)
    if scheme is None:
        return _open_local(source, options)
    if scheme[1] not in _OPENERS:
        raise SourceError(f"{source!r} has the scheme {scheme[1]!r}; {_ACCEPTED}")
    return _OPENERS[scheme[1]](source, options)


def refuse_own_output(source: str, store: Store) -> None:
    """Raises `SourceError` when the store lies in a folder that is watched: what is published would come as changes."""
    if not store.local or not Path(source).is_dir():
        return
    folder, root = Path(source).resolve(), Path(store.url).resolve()
    if root.is_relative_to(folder) and not any(part.startswith(".") for part in root.relative_to(folder).parts):
        raise SourceError(
            f"the store {store.url} lies in the folder {shown_path(source)!r} that is to be watched: what is published "
            "would be taken for changes; move one of them, or give the store's folder a name that begins with a dot"
        )


def _open_local(source: str, options: StreamOptions) -> ChangeStream:
    path = Path(source).absolute()
    if path.is_dir():
        return _open_folder(path, options)
    if not path.exists():
        raise SourceError(f"stream {shown_path(source)!r} does not exist; {_ACCEPTED}")
    if path.suffix.lower() not in _RECORDS:
        raise SourceError(f"stream {shown_path(source)!r} does not end in {' or '.join(_RECORDS)}; {_ACCEPTED}")
    return GrowingFile(path, options.fields)


def _open_folder(path: Path, options: StreamOptions) -> ChangeStream:
    try:
        # Optional: only who watches a folder needs the watcher.
        from transforms.streams.folder import FolderStream
    except ImportError as error:
        raise MissingExtra("stream", f"watching the folder {path}") from error
    return FolderStream(path, options.fields, options.delete_at_most)


def _open_kafka(source: str, options: StreamOptions) -> ChangeStream:
    try:
        # Optional: only who reads a topic needs its client.
        from transforms.streams.kafka import KafkaStream
        from transforms.streams.kafka_client import KafkaTopic
    except ImportError as error:
        raise MissingExtra("kafka", f"the stream {source}") from error
    return KafkaStream(KafkaTopic.of(source), options.fields, options.say, options.patience, options.stopping)


def _open_pubsub(source: str, options: StreamOptions) -> ChangeStream:
    try:
        # Optional: only who reads a subscription needs its client.
        from transforms.streams.pubsub import PubSubStream, Subscription
    except ImportError as error:
        raise MissingExtra("pubsub", f"the stream {source}") from error
    return PubSubStream(Subscription.of(source), options.fields, options.say, options.patience)


_OPENERS: Final[dict[str, Callable[[str, StreamOptions], ChangeStream]]] = {
    "kafka": _open_kafka,
    "pubsub": _open_pubsub,
}
