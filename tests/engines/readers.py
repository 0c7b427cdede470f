"""Readers in other languages: Node with its usearch from npm, and a program in Go.

`node_reader` and `go_reader` are what a test asks for: the first words of a command.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.engines.builds import CACHE, Build, begin_builds
from tierloom.shards.writer import sha256_of

FORMATS: Final = Path(__file__).parents[1] / "formats"
# The newest on npm. It reads what the Python package of the same minor version writes.
USEARCH: Final = "usearch@2.26.2"
NODE: Final = Build(
    CACHE / "node" / "node_modules" / "usearch" / "package.json",
    ("node", "npm"),
    ("npm", "install", "--prefix", str(CACHE / "node"), "--ignore-scripts", "--no-audit", "--no-fund", USEARCH),
)
# Named by its source: another one is built where that has changed.
GO: Final = Build(
    CACHE / "bin" / f"go_reader-{sha256_of(FORMATS / 'go_reader' / 'main.go')[:12]}",
    ("go",),
    ("go", "build", "-C", str(FORMATS / "go_reader"), "-o", "{product}", "."),
)


def pytest_collection_finish(session: pytest.Session) -> None:
    begin_builds(session, "node_reader", [NODE])
    begin_builds(session, "go_reader", [GO])


@pytest.fixture(scope="session")
def node_reader(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Skips without Node; in CI that is a failure. Node looks for packages beside the file that names them."""
    modules = NODE.path().parents[1]
    folder = tmp_path_factory.mktemp("node-reader")
    (folder / "node_modules").symlink_to(modules)
    reader = folder / "reader.js"
    reader.write_bytes((FORMATS / "reader.js").read_bytes())
    return ["node", str(reader)]


@pytest.fixture(scope="session")
def go_reader() -> list[str]:
    """Skips without Go; in CI that is a failure."""
    return [str(GO.path())]
