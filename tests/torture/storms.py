"""A bucket whose network refuses, times out, cuts and loses answers: everything must still come out right."""

from pathlib import Path
from typing import Final

from tests.embedders.endpoint import Endpoint
from tests.pipelines.command_line import declare, write_records
from tests.stores.faulty_network import Weather
from tests.torture.commands import Commands
from tests.torture.deeds import changes, first_events
from tests.torture.truth import WORD_BYTES, Event, Truth, after, head_losses
from tests.torture.world import BLOCK_CHUNKS

SHARE: Final = 0.08


def storm(store: str, folder: Path, endpoint: Endpoint, commands: Commands, seed: int) -> list[str]:
    """What went wrong when a new collection was made, changed, followed and compacted in bad weather."""
    commands.ok("init", store, "--model", declare(folder, endpoint), "--tiers", "8,16,16-binary", *_SIZES)
    weather = Weather(seed, SHARE)
    first, changed = _records(folder, "first.jsonl", first_events()), _records(folder, "changes.jsonl", changes())
    last = Event("d0", 99, ("00009900",))
    followed = _records(folder, "stream.jsonl", [last])
    steps: list[tuple[tuple[object, ...], list[Event]]] = [
        (("ingest", store, first), first_events()),
        (("ingest", store, changed), changes()),
        (("stream", store, followed, "--once"), [last]),
        (("compact", store), []),
    ]
    truth: Truth = {}
    problems = []
    for arguments, events in steps:
        truth = after(truth, events)
        ended = commands.run(*arguments, weather=weather)
        losses = head_losses(store, [truth])
        if ended.status:
            problems.append(f"seed {seed}: {arguments[0]} ended with {ended.status}: {ended.err[-1000:]}")
        problems += [f"seed {seed}: after {arguments[0]}: {note}" for note in losses.notes]
    if again := [text for text, times in endpoint.billed.items() if times > 1]:
        problems.append(f"seed {seed}: paid twice for {again[:5]}")
    return problems


_SIZES: Final = ("--chunk-tokens", WORD_BYTES, "--block-chunks", BLOCK_CHUNKS, "--shard-rows", 3 * BLOCK_CHUNKS)


def _records(folder: Path, name: str, events: list[Event]) -> Path:
    return write_records(folder / name, [event.record() for event in events])
