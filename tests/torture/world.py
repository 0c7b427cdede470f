"""A small collection with a model at a loopback endpoint, the truth that it must equal, and a way back."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipelines.exit_codes import ExitCode
from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import declare
from tests.torture.commands import Commands
from tests.torture.truth import WORD_BYTES, Event, Losses, Truth, after
from tierloom.manifest import Manifest
from tierloom.stores.opening import open_store
from tierloom.versions import head_version, read_head

# What a crash may cost a worker.
BLOCK_CHUNKS: Final = 8
BLOCK_TOKENS: Final = BLOCK_CHUNKS * WORD_BYTES


# The vectors of the endpoint carry no more in their first components than in others.
_NOISE: Final = "--untrained-prefixes"


class World:
    """`history` tells what each version that was published here holds; `saved` brings the store back to a moment."""

    def __init__(self, folder: Path, endpoint: Endpoint, commands: Commands) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.endpoint = endpoint
        self.commands = commands
        self.truth: Truth = {}
        self.history: dict[int, Truth] = {}
        sizes = ("--chunk-tokens", WORD_BYTES, "--block-chunks", BLOCK_CHUNKS, "--shard-rows", 3 * BLOCK_CHUNKS)
        commands.ok(
            "init", self.store, "--model", declare(folder, endpoint), "--tiers", "8,8-binary,16", _NOISE, *sizes
        )
        self.note_version()

    def write(self, name: str, events: Iterable[Event]) -> Path:
        """A JSONL file of these events; more of them if it is there."""
        path = self.folder / name
        with path.open("a") as file:
            file.writelines(json.dumps(event.record()) + "\n" for event in events)
        return path

    def ingest(self, name: str, events: Iterable[Event]) -> None:
        """Publish these events."""
        known = list(events)
        self.commands.ok("ingest", self.store, self.write(name, known))
        self.truth = after(self.truth, known)
        self.note_version()

    def declare_another(self, name: str) -> Path:
        """Another checkpoint, at the same endpoint: it puts its name before each word."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return declare(folder, self.endpoint, document_prompt=f"{name}: ")

    def reembedding(self, name: str) -> tuple[object, ...]:
        """The command that builds a generation of that checkpoint."""
        return ("reembed", self.store, "--model", self.declare_another(name), _NOISE)

    def reembed(self, name: str, words: int | None = None) -> None:
        """Build a generation, to its end or until so many `words` are paid for."""
        cap = () if words is None else ("--max-tokens", words * (WORD_BYTES + len(f"{name}: ")))
        ended = self.commands.run(*self.reembedding(name), *cap)
        assert ended.status == (ExitCode.CAPPED if cap else ExitCode.DONE), ended
        self.note_version()

    @property
    def head(self) -> Manifest:
        """The newest version."""
        return read_head(open_store(str(self.store)))

    def note_version(self) -> None:
        """The newest version holds the truth of this moment."""
        self.history[head_version(open_store(str(self.store)))] = self.truth

    def tiers(self) -> set[str]:
        """The names of the tiers there are."""
        return {tier.name for tier in self.head.collection.tiers}

    def save(self) -> None:
        """Remember this moment."""
        self._saved = self.folder / "saved"
        shutil.rmtree(self._saved, ignore_errors=True)
        shutil.copytree(self.store, self._saved)
        self._paid = self.endpoint.billed.copy()

    def restore(self) -> None:
        """Back to the moment that was saved."""
        shutil.rmtree(self.store)
        shutil.copytree(self._saved, self.store)
        self.endpoint.billed = self._paid.copy()

    def repaid(self) -> Losses:
        """What the endpoint billed for words that it had billed before, their prompts not counted."""
        return Losses(repaid=sum(number - 1 for number in self.endpoint.billed.values()) * WORD_BYTES)
