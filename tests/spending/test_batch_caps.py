"""The promise, by batches: no run ever passes its cap, whatever becomes of its requests, in however many workers."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.running import make_job
from tests.embedders.batch_server import Batch, BatchServer, Fate
from tests.transforms.runs import small_collection
from tierloom import names
from tierloom.document import Chunk, Origin
from tierloom.embedders import batch_lane, gathering
from tierloom.embedders.batch_pace import Looks
from tierloom.errors import EmbedderError
from tierloom.spending.terms import Allowance, Caps
from tierloom.stores.opening import open_store
from transforms.elements import ChunkBlock, Place, VectorBlock
from transforms.embed_by_batch import EmbedByBatchDoFn
from transforms.inline import InlineStep, aside
from transforms.job import Job
from transforms.reading.records import Fields


class Unruly:
    """What becomes of requests and batches on a bad day, by lot."""

    def __init__(self, server: BatchServer, seed: int) -> None:
        self._drawn = random.Random(seed)
        self._badness = self._drawn.choice([0.0, 0.1, 0.4])
        server.fate, server.ending, server.spoil = self.fate, self.ending, self.spoil
        server.queue_tokens = self._drawn.choice([None, None, 900])

    def fate(self, _: list[str]) -> Fate:
        unlucky = self._drawn.random() < self._badness
        return self._drawn.choice(["expired", "missing", 429, 500, 400]) if unlucky else "answered"

    def ending(self, _: Batch) -> str | None:
        return "cancelled" if self._drawn.random() < self._badness / 20 else None

    def spoil(self, data: list[dict[str, object]]) -> list[dict[str, object]]:
        """An answer that was billed, and that nobody can use."""
        return data[1:] if self._drawn.random() < self._badness / 5 else data


def blocks_of(seed: int) -> list[VectorBlock]:
    """Blocks of documents, some of which go on in the next block."""
    drawn, chunks = random.Random(seed), list[Chunk]()
    for document in range(drawn.randint(1, 12)):
        name = f"{seed}-{document}"
        for ordinal in range(drawn.choice([1, 1, 2, 9])):
            # Some texts are those of others.
            text = f"{drawn.choice([name, str(seed % 10)])} {ordinal} " + "x" * drawn.choice([0, 5, 60])
            bound = round(len(text) * drawn.choice([1.0, 1.0, 2.5]))
            chunks.append(Chunk(name, ordinal, 1, "", text, "{}", text, bound, Origin("a")))
    size = drawn.choice([3, 8, 50])
    return [block_of(chunks[at : at + size], at) for at in range(0, len(chunks), size)]


def block_of(chunks: Sequence[Chunk], at: int) -> VectorBlock:
    plain = ChunkBlock(Place(0, at), tuple(chunks))
    missing = np.arange(len(chunks))
    return VectorBlock(
        plain.place, plain.digest("c", 16), plain.chunks, np.zeros((len(chunks), 16), np.float16), missing, 0
    )


def work(job: Job, blocks: Sequence[VectorBlock]) -> None:
    """One worker of a run: its own lane, its own account, the shared folder."""
    step, store = InlineStep(EmbedByBatchDoFn(job)), open_store(job.store)
    try:
        for embedded in step.bundle(blocks, others=aside()):
            store.create(names.vector_shard(embedded.block.digest), b"stored")
    except EmbedderError:
        pass
    finally:
        step.close()


def billed_in_run(server: BatchServer, job: Job, seed: int) -> int:
    """A run of one to three workers, that goes on after them until every batch is done: the tokens billed."""
    drawn = random.Random(seed)
    before = server.billed_tokens
    workers = drawn.choice([1, 2, 3])
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, job, blocks_of(10 * seed + at)) for at in range(workers)]:
            done.result()
    server.run_out()
    return server.billed_tokens - before


def assert_never_passed(folder: Path, seeds: range) -> None:
    """Two runs in a row over the same store, each with a cap of its own."""
    close = 0
    for seed in seeds:
        drawn = random.Random(seed)
        with BatchServer(seed=seed) as server:
            store = str(folder / str(seed))
            small_collection(store, server)
            Unruly(server, seed)
            for number in range(2):
                cap = drawn.choice([1, 50, 700, 3000])
                allowance = Allowance(Caps(tokens=cap), folder=str(folder / f"{seed}-{number}"))
                job = replace(make_job(store, "ingest", Fields(), allowance=allowance, lane="batch"), concurrency=2)
                billed = billed_in_run(server, job, seed)
                assert billed <= cap, f"seed {seed}: {billed} tokens were billed under a cap of {cap}"
                close += billed > cap / 2
            assert not server.violations
    # The caps were in reach, or nothing would be shown.
    assert close >= len(seeds) / 10


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "sk-of-nobody")
    monkeypatch.setattr(batch_lane, "LOOKS", Looks(0.0, 1.0, 0.0))
    monkeypatch.setattr(gathering, "MAX_INPUTS", 6)


def test_a_cap_is_never_passed(tmp_path: Path) -> None:
    assert_never_passed(tmp_path, range(12))


@pytest.mark.slow
def test_a_cap_is_never_passed_in_more_runs(tmp_path: Path) -> None:
    assert_never_passed(tmp_path, range(40, 70))


@pytest.mark.long
@pytest.mark.parametrize("quarter", range(4))
def test_a_cap_is_never_passed_in_hundreds_of_runs(tmp_path: Path, quarter: int) -> None:
    assert_never_passed(tmp_path, range(1000 + 75 * quarter, 1075 + 75 * quarter))
