"""sentence-transformers with torch, of a lock of its own: gigabytes, most of them for GPUs, that no other test needs.

`sentence_transformers` is what a test asks for: the library, importable in this process for the rest of it.
"""

import hashlib
import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from tests.engines.builds import CACHE, Build, begin_builds

_LOCK: Final = Path(__file__).with_suffix(".lock")
_NAME: Final = f"sentence-transformers-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:8]}"
# uv takes half a minute, where pip takes three. What it has not finished is not there.
_INSTALL: Final = f"""
set -e
rm -rf "{{product}}.uv" "{{product}}.part"
"{sys.executable}" -m pip install --quiet --disable-pip-version-check --target "{{product}}.uv" uv
PYTHONPATH="{{product}}.uv" "{sys.executable}" -m uv pip install --quiet --no-cache --no-deps --require-hashes \\
    --python "{sys.executable}" --target "{{product}}.part" -r "{_LOCK}"
mv "{{product}}.part" "{{product}}"
rm -r "{{product}}.uv"
"""
_BUILD: Final = Build(CACHE / _NAME, ("sh", sys.executable), ("sh", "-c", _INSTALL))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch it, where it is needed, before the time of the first test runs."""
    begin_builds(session, "sentence_transformers", [_BUILD])


@pytest.fixture(scope="session")
def sentence_transformers() -> ModuleType:
    """The library. It comes last on the path: what the project itself has is found first."""
    sys.path.append(str(_BUILD.path()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("sentence_transformers")
