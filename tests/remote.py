"""A store that stands for a bucket: objects lie in a folder, but whoever uses it cannot tell."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tierloom.stores.local import LocalStore
from tierloom.stores.store import Listed, Revision


@dataclass
class Traffic:
    """What was asked of a store: ranges as (name, offset, length), and the names of objects fetched whole."""

    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(length for _, _, length in self.ranges)


class RemoteStore:
    """A `LocalStore` that is asked for ranges, and that refuses to hand out whole vector shards."""

    local = False

    def __init__(self, folder: Path) -> None:
        self.files = LocalStore(folder)
        self.traffic = Traffic()
        self._counting = threading.Lock()

    @property
    def url(self) -> str:
        return f"remote:{self.files.url}"

    def create(self, name: str, data: bytes) -> None:
        self.files.create(name, data)

    def create_from_file(self, name: str, path: Path) -> None:
        self.files.create_from_file(name, path)

    def read(self, name: str) -> bytes:
        self._refuse_shards(name)
        return self.files.read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        with self._counting:
            self.traffic.ranges.append((name, offset, length))
        return self.files.read_range(name, offset, length)

    def size(self, name: str) -> int | None:
        return self.files.size(name)

    def read_revision(self, name: str) -> tuple[bytes, Revision] | None:
        return self.files.read_revision(name)

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        return self.files.swap(name, data, expected)

    def renew(self, name: str) -> bool:
        return self.files.renew(name)

    def remove(self, listed: Listed) -> bool:
        return self.files.remove(listed)

    def list(self, prefix: str) -> Iterator[Listed]:
        return self.files.list(prefix)

    def scratch(self) -> Path:
        return self.files.scratch()

    def fetch(self, name: str, folder: Path) -> Path:
        self._refuse_shards(name)
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(self.files.read(name))
        self.traffic.whole.append(name)
        return copy

    def _refuse_shards(self, name: str) -> None:
        assert not name.startswith("shards/"), f"{name} was asked for whole"
