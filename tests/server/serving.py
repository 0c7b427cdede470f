"""A server as it is run: `tierloom serve` in a process of its own, on a free port of loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import httpx2
import msgspec

from tests.small_shards import CHECKPOINT, Row, make_collection, publish, store_shard
from tierloom.channel import move_channel, read_channel
from tierloom.checkpoint import Checkpoint, Endpoint
from tierloom.commit import commit
from tierloom.manifest import Manifest
from tierloom.serving import Profile, Serving
from tierloom.shards.schema import ShardSchema
from tierloom.stores.local import LocalStore

ROOT: Final = Path(__file__).parents[2]
KEY_VARIABLE: Final = "TIERLOOM_TEST_KEY"
DIMENSIONS: Final = CHECKPOINT.space.dimensions
SCHEMA: Final = ShardSchema(CHECKPOINT.fingerprint, DIMENSIONS, 16)
DECLARED: Final = Serving(
    profiles={"quick": Profile("4", rerank=False, top=3), "thorough": Profile("16", shortlist=40, top=5)},
    routes={"autocomplete": "quick"},
    default="thorough",
)


@dataclass(frozen=True, slots=True)
class Server:
    """`client` speaks to it; `log` is its standard error."""

    url: str
    client: httpx2.Client
    process: subprocess.Popen[str]
    log: Path

    def search(self, **question: Any) -> Any:
        """The answer to a question that has one."""
        response = self.client.post("/v1/search", json=question)
        assert response.status_code == 200, response.text
        return response.json()

    def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels, as they are written."""
        lines = self.client.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def log_lines(self, logger: str | None = None) -> list[dict[str, Any]]:
        """What one logger said; by default what the command itself did."""
        lines = [json.loads(line) for line in self.logged().splitlines()]
        return [line for line in lines if line.get("logger") == logger]

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def serving(
    store: LocalStore, *options: object, channel: str = "prod", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server that is ready."""
    with started(store, *options, channel=channel, environment=environment) as server:
        while server.client.get("/readyz").status_code != 200:
            assert server.process.poll() is None, server.logged()
        yield server


@contextmanager
def started(
    store: LocalStore, *options: object, channel: str = "prod", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server that listens, and opens its collection."""
    command = [sys.executable, "-m", "pipelines", "serve", str(store.root), "--port", "0", "--channel", channel]
    with (
        NamedTemporaryFile() as log,
        subprocess.Popen(
            [*command, *map(str, options)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("listening on "), Path(log.name).read_text(encoding="utf-8")
            url = said.removeprefix("listening on ").strip()
            with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield Server(url, client, process, Path(log.name))
        finally:
            process.kill()


def point(store: LocalStore, version: int, channel: str = "prod") -> None:
    move_channel(store, channel, version, read_channel(store, channel))


def declare(store: LocalStore, serving: Serving = DECLARED) -> Manifest:
    """A version that is served so."""

    def change(head: Manifest) -> Manifest:
        collection = msgspec.structs.replace(head.collection, serving=serving)
        return msgspec.structs.replace(head, version=head.version + 1, parent=head.digest(), collection=collection)

    return commit(store, change)


def collection(root: Path, rows: list[Row], checkpoint: Checkpoint = CHECKPOINT) -> LocalStore:
    """One published version with these rows, whose profiles are `DECLARED`; `prod` points at it."""
    store = LocalStore(root)
    make_collection(store, checkpoint)
    schema = ShardSchema(checkpoint.fingerprint, checkpoint.space.dimensions, 16)
    publish(store, [[store_shard(store, rows, schema)]])
    point(store, declare(store).version)
    return store


def endpoint_checkpoint(base_url: str) -> Checkpoint:
    """`CHECKPOINT`, whose model answers there."""
    return msgspec.structs.replace(CHECKPOINT, endpoint=Endpoint(base_url, KEY_VARIABLE))
