"""A folder whose files come, change, move and go, while the stream that watches it is killed again and again."""

import os
import random
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import assert_whole, declare, head_of, init, ok, run
from tests.pipelines.streaming.following import following, stopped, texts_of, wait_for_texts, wait_until

BLOCK = 8


class Folder:
    """A folder, and somebody who is busy in it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self._random = random.Random(seed)
        self._written = 0
        root.mkdir()

    def texts(self) -> dict[str, str]:
        """What a collection should hold: the documents of the files that are there."""
        files = self.root.rglob("*.txt")
        return {f"{self.root.name}/{path.relative_to(self.root).as_posix()}": path.read_text() for path in files}

    def work(self, times: int) -> None:
        for _ in range(times):
            self._random.choice([self._write, self._write, self._write, self._rename, self._remove])()

    def _write(self) -> None:
        self._written += 1
        path = self.root / f"{self._random.randrange(4)}" / f"{self._random.randrange(12)}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text {self._written}")

    def _rename(self) -> None:
        if files := sorted(self.root.rglob("*.txt")):
            self._written += 1
            self._random.choice(files).rename(self.root / f"moved {self._written}.txt")

    def _remove(self) -> None:
        files = sorted(self.root.rglob("*.txt"))
        if len(files) > 5:
            self._random.choice(files).unlink()


@pytest.mark.parametrize("seed", [1])
def test_whatever_happens_what_lies_in_the_folder_lives(tmp_path: Path, endpoint: Endpoint, seed: int) -> None:
    store, folder = tmp_path / "store", Folder(tmp_path / "docs", seed)
    init(store, declare(tmp_path, endpoint), "--block-chunks", BLOCK)
    folder.work(40)
    for _ in range(3):
        published = partial(_is_newer, store, head_of(store).version)
        with following(store, folder.root, "--delete-at-most", 100) as process:
            wait_until(published)
            folder.work(20)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=30)
        folder.work(10)
    with following(store, folder.root, "--delete-at-most", 100) as process:
        wait_for_texts(store, folder.texts())
        folder.work(30)
        wait_for_texts(store, folder.texts())
        assert stopped(process).status == 0
    assert_whole(store)
    assert texts_of(store) == folder.texts()


def test_a_folder_from_its_beginning(tmp_path: Path, endpoint: Endpoint) -> None:
    store, root = tmp_path / "store", tmp_path / "docs"
    init(store, declare(tmp_path, endpoint))
    root.mkdir()
    for name in ("kept", "older", "gone"):
        (root / f"{name}.txt").write_text(name)
    ok(run("stream", store, root, "--once"))
    billed = endpoint.billed_tokens - endpoint.canary_tokens
    (root / "older.txt").write_text("older, put back")
    os.utime(root / "older.txt", (1, 1))
    (root / "gone.txt").unlink()
    ok(run("stream", store, root, "--once", "--from-beginning", "--delete-at-most", 50))
    assert texts_of(store) == {"docs/kept.txt": "kept", "docs/older.txt": "older, put back"}
    assert endpoint.billed_tokens - endpoint.canary_tokens - billed < billed
    assert_whole(store)


def _is_newer(store: Path, version: int) -> bool:
    return head_of(store).version > version
