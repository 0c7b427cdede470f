"""`tierloom stream` in a process of its own, and waiting for what it publishes."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.pipelines.command_line import ROOT, Finished, apart, head_of, live_texts
from tierloom.stores.opening import open_store
from tierloom.versions import read_manifest

# Pub/Sub gives what a killed client held to another one after up to a minute.
_PATIENCE_SECONDS = 100.0


@contextmanager
def following(store: Path, source: object, *options: object) -> Iterator[subprocess.Popen[str]]:
    """The stream, in a process group of its own, which is gone when the block ends."""
    command = apart(("stream", store, source, "--json", "--interval", 0, *options))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> Finished:
    """How a stream that was told to stop, or whose source ends, has ended."""
    out, err = process.communicate(timeout=_PATIENCE_SECONDS)
    return Finished(process.returncode, out, err)


def stopped(process: subprocess.Popen[str], by: signal.Signals = signal.SIGTERM) -> Finished:
    process.send_signal(by)
    return finished(process)


def wait_until(condition: Callable[[], object], what: Callable[[], object] = str) -> None:
    """Ask again until it is so; `what` tells what is there instead."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.05)


def wait_for_texts(store: Path, texts: Mapping[str, str]) -> None:
    """Until exactly these documents live, of one chunk each."""
    wait_until(lambda: texts_of(store) == texts, lambda: (texts_of(store), texts))


def texts_of(store: Path) -> dict[str, str]:
    """The texts of documents of one chunk."""
    return {document_id: text for (document_id, _), text in live_texts(store).items()}


def append(path: Path, *records: Mapping[str, Any]) -> None:
    """Add lines to a file that grows."""
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
        file.flush()
        os.fsync(file.fileno())


def commands_of(store: Path) -> list[str]:
    """What made each version, the oldest first."""
    opened = open_store(str(store))
    return [read_manifest(opened, version).run.command for version in range(head_of(store).version + 1)]
