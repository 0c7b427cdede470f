"""A real Google Cloud Storage server on loopback: fake-gcs-server.

`gcs_bucket` is what a test asks for: a new, empty bucket, and an environment in which the client speaks to it.
"""

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

# Older ones ignore preconditions on resumable uploads.
MODULE: Final = "github.com/fsouza/fake-gcs-server@v1.56.1"
CACHE: Final = Path(__file__).parents[2] / ".cache" / "bin"


@dataclass(frozen=True, slots=True)
class GcsBucket:
    """A bucket of the server, reached over plain HTTP: what the store under test is compared with."""

    endpoint: str
    name: str

    @property
    def url(self) -> str:
        return f"gs://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        path = f"/upload/storage/v1/b/{self.name}/o?uploadType=media&name={quote(key, safe='')}"
        _request(self.endpoint + path, data)

    def get(self, key: str) -> bytes:
        return _request(f"{self.endpoint}/storage/v1/b/{self.name}/o/{quote(key, safe='')}?alt=media")

    def delete(self, key: str) -> None:
        url = f"{self.endpoint}/storage/v1/b/{self.name}/o/{quote(key, safe='')}"
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10):
            pass

    def keys(self) -> list[str]:
        listing = json.loads(_request(f"{self.endpoint}/storage/v1/b/{self.name}/o"))
        return [item["name"] for item in listing.get("items", [])]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the server, where that is needed, before the time of the first test runs."""
    needed = any("gcs_server" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        program()


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server. Skips where there is neither the program nor Go; in CI that is a failure."""
    if (found := program()) is None:
        reason = f"fake-gcs-server is not on PATH, and there is no Go to build {MODULE}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    log = tmp_path_factory.mktemp("gcs-server") / "stderr.log"
    with serving(found, log) as endpoint:
        yield endpoint


@contextlib.contextmanager
def serving(found: Path, log: Path) -> Iterator[str]:
    """The address of a server that runs until the end of the block."""
    process, endpoint = _start(found, log)
    try:
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=10)


def new_bucket(endpoint: str) -> GcsBucket:
    """An empty bucket of a running server."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    _request(f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": name}).encode())
    return GcsBucket(endpoint, name)


@pytest.fixture
def gcs_bucket(gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsBucket]:
    # Here, for it takes more than a second to load, and most runs of tests do without.
    from tierloom.stores import gcs_client

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server)
    gcs_client.client.cache_clear()
    yield new_bucket(gcs_server)
    gcs_client.client().close()
    gcs_client.client.cache_clear()


_numbers = iter(range(sys.maxsize))


@functools.cache
def program() -> Path | None:
    """The server, built if it must be; None where it cannot."""
    found = shutil.which("fake-gcs-server") or shutil.which("fake-gcs-server", path=str(CACHE))
    if found is None and (go := shutil.which("go")):
        subprocess.run([go, "install", MODULE], env={**os.environ, "GOBIN": str(CACHE)}, check=True)
        found = str(CACHE / "fake-gcs-server")
    return Path(found) if found else None


def _start(found: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    endpoint = f"http://{address}"
    options = f"-scheme http -host 127.0.0.1 -port {address.rpartition(':')[2]} -backend memory -log-level warn"
    reachable_at = ["-public-host", address, "-external-url", endpoint]
    with log.open("wb") as stderr:
        process = subprocess.Popen([str(found), *options.split(), *reachable_at], stdout=stderr, stderr=stderr)
    _await_health(process, endpoint, log)
    return process, endpoint


def _await_health(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    for _ in range(500):
        try:
            _request(f"{endpoint}/_internal/healthcheck")
            return
        except urllib.error.URLError:
            # A server that cannot start dies at once.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
                break
    process.kill()
    pytest.fail(f"fake-gcs-server did not start: {log.read_text()}")


def _request(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
        body: bytes = answer.read()
    return body
