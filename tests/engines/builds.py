"""Programs that tests build or fetch once, and keep in `.cache/`.

All that a run of tests needs are begun together when its tests are known, and waited for by whoever uses one.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import pytest

CACHE: Final = Path(__file__).parents[2] / ".cache"

_executor: Final = ThreadPoolExecutor(thread_name_prefix="builds")
_begun: Final[dict[str, "Future[None]"]] = {}


@dataclass(frozen=True)
class Build:
    """`command` (with "{product}" for where to) makes `product`, if all of `tools` are there."""

    product: Path
    tools: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.product.exists()

    def begin(self) -> None:
        """Build in the background what is not there yet."""
        if not self.finished and not self._missing():
            _begun.setdefault(str(self.product), _executor.submit(self._build))

    def path(self) -> Path:
        """The product. Skips where it can not be made; in CI that is a failure."""
        self.begin()
        if str(self.product) in _begun:
            _begun[str(self.product)].result()
        elif not self.finished:
            refuse(f"no {' and no '.join(self._missing())} on PATH to make {self.product.name}")
        return self.product

    def _missing(self) -> list[str]:
        return [tool for tool in self.tools if shutil.which(tool) is None]

    def _build(self) -> None:
        self.product.parent.mkdir(parents=True, exist_ok=True)
        # Another run of the tests may be building the same; and Maven's own cache is not made for two at once.
        name = "maven" if "mvn" in self.tools else self.product.name
        with (CACHE / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.finished:
                command = [part.format(product=self.product) for part in self.command]
                subprocess.run(command, env={**os.environ, **self.environment}, check=True, stdout=subprocess.DEVNULL)
            if not self.finished:
                raise FileNotFoundError(f"{self.command[0]} ended well, but did not make {self.product}")


def go_program(module: str) -> Build:
    """A program that Go's module proxy has the source of."""
    folder = CACHE / "bin"
    name = module.partition("@")[0].rpartition("/")[2]
    return Build(folder / name, ("go",), ("go", "install", module), {"GOBIN": str(folder)})


def java_classpath(build: Build, engine: str) -> str:
    """The jars that Maven lists in a product, for `java -cp`. Skips without Java; in CI that is a failure."""
    jars = build.path().read_text()
    if not all(Path(jar).exists() for jar in jars.split(os.pathsep)):
        # Maven's own cache was emptied since.
        build.product.unlink()
        jars = build.path().read_text()
    if shutil.which("java") is None:
        refuse(f"no java on PATH to run {engine}")
    return jars


def refuse(reason: str) -> NoReturn:
    """Skip a test whose engine is not to be had. In CI it is."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def begin_builds(session: pytest.Session, fixture: str, builds: Iterable[Build]) -> None:
    """Begin what the tests of this session need that ask for `fixture`."""
    needed = any(fixture in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        for build in builds:
            build.begin()
