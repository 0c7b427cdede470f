"""Blocks that wait for batches leave whole, as soon as they can, whatever else is waited for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.embedders.batch_server import BatchServer
from tests.embedders.endpoint import error, vector_of
from tests.transforms.runs import MAIN, drive, ingest_job, small_collection
from tierloom.canary_check import check_model
from tierloom.document import Chunk, Origin
from tierloom.embedders import batch_lane, gathering
from tierloom.embedders.batch_pace import Looks
from tierloom.errors import EmbedderRefused
from tierloom.post_processing import layer_norm
from tierloom.quantizer import to_unit_float16
from tierloom.stores.opening import open_store
from transforms.elements import Place, VectorBlock
from transforms.embed import EmbeddedBlock
from transforms.embed_by_batch import EmbedByBatchDoFn
from transforms.inline import InlineStep, aside
from transforms.job import Job
from transforms.progress import total_progress


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERLOOM_TEST_KEY", "a key")
    monkeypatch.setattr(batch_lane, "LOOKS", Looks(0.0, 1.0, 0.0))
    # Two requests of three, and their canaries.
    monkeypatch.setattr(gathering, "MAX_INPUTS", 8)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as served:
        yield served
        assert not served.violations


@pytest.fixture
def job(tmp_path: Path, server: BatchServer) -> Job:
    (tmp_path / "progress").mkdir()
    small_collection(str(tmp_path / "store"), server)
    server.calls.clear()
    server.billed_tokens = server.canary_tokens = 0
    return replace(
        ingest_job(str(tmp_path / "store")), lane="batch", progress=str(tmp_path / "progress"), concurrency=2
    )


def block_of(texts: Sequence[str], known: Sequence[int] = (), name: str = "") -> VectorBlock:
    """A block that has the vectors of the texts at `known` already."""
    vectors = np.zeros((len(texts), 16), np.float16)
    vectors[list(known)] = unit_of([texts[at] for at in known])
    return VectorBlock(
        place=Place(0, 0),
        digest=name or "-".join(texts).replace(" ", "_"),
        chunks=tuple(Chunk(text, 0, 1, "", text, "{}", text, len(text), Origin("a")) for text in texts),
        vectors=vectors,
        missing=np.setdiff1d(np.arange(len(texts)), list(known)),
        copied=len(known),
    )


def unit_of(texts: Sequence[str]) -> np.ndarray:
    return to_unit_float16(np.array([vector_of(text, 16) for text in texts], np.float32).reshape(-1, 16))


def assert_embedded(embedded: EmbeddedBlock, texts: Sequence[str]) -> None:
    assert [chunk.text for chunk in embedded.block.chunks] == list(texts)
    assert np.array_equal(embedded.block.vectors, unit_of(texts))
    assert not len(embedded.block.missing)


def test_blocks_come_back_whole(server: BatchServer, job: Job, tmp_path: Path) -> None:
    texts = [[f"text {block} {at}" for at in range(4)] for block in range(5)]
    blocks = [block_of(some, known=range(block)) for block, some in enumerate(texts)]
    out = drive(EmbedByBatchDoFn(job), blocks)
    by_first = {embedded.block.chunks[0].text: embedded for embedded in out[MAIN]}
    for block, some in enumerate(texts):
        assert_embedded(by_first[some[0]], some)
        assert by_first[some[0]].block.copied == block
    assert server.billed == {text: 1 for block, some in enumerate(texts) for text in some[block:]}
    assert sum(embedded.block.tokens for embedded in out[MAIN]) == server.billed_tokens
    totals = total_progress(tmp_path / "progress")
    assert (totals["done"], totals["copied"], totals["tokens"]) == (20, 10, server.billed_tokens)
    assert totals["batches"] == 0


def test_what_waits_for_nothing_leaves_at_once(server: BatchServer, job: Job) -> None:
    step, others = InlineStep(EmbedByBatchDoFn(job)), aside()
    outputs = step.bundle(iter([block_of(["here"], known=[0]), block_of(["new"])]), others=others)
    assert_embedded(next(outputs), ["here"])
    assert not server.calls
    assert_embedded(next(outputs), ["new"])
    assert not list(outputs)
    step.close()


def test_blocks_leave_while_others_wait(server: BatchServer, job: Job) -> None:
    taken: list[str] = []

    def elements() -> Iterator[VectorBlock]:
        for at in range(8):
            taken.append(f"text {at}")
            yield block_of([f"text {at} {part}" for part in range(3)])

    step, others = InlineStep(EmbedByBatchDoFn(job)), aside()
    outputs = step.bundle(elements(), others=others)
    first = next(outputs)
    # Two batches of two blocks are under way, and no more is gathered than fills another.
    assert len(taken) <= 7
    assert len([first, *outputs]) == 8
    step.close()


def test_the_same_block_twice_comes_back_twice(server: BatchServer, job: Job) -> None:
    block = block_of(["one", "two"])
    out = drive(EmbedByBatchDoFn(job), [block, block])
    for embedded in out[MAIN]:
        assert_embedded(embedded, ["one", "two"])
    assert len(out[MAIN]) == 2
    assert server.billed == {"one": 1, "two": 1}


def test_refused_chunks_become_letters(server: BatchServer, job: Job) -> None:
    server.fate = lambda texts: 400 if "bad" in texts else "answered"
    out = drive(EmbedByBatchDoFn(job), [block_of(["good", "bad", "fine"])])
    (embedded,), (letter,) = out[MAIN], out["letters"]
    assert_embedded(embedded, ["good", "fine"])
    assert (letter.stage, letter.reason, letter.chunk.text) == ("embed", "refused-by-model", "bad")


def test_vectors_are_post_processed(server: BatchServer, job: Job) -> None:
    space = msgspec.structs.replace(job.checkpoint.space, post_processing=("layer-norm", "unit-norm"))
    normed = replace(job, checkpoint=msgspec.structs.replace(job.checkpoint, space=space))
    check_model(open_store(job.store), normed.checkpoint)
    (embedded,) = drive(EmbedByBatchDoFn(normed), [block_of(["text"])])[MAIN]
    assert np.array_equal(embedded.block.vectors, to_unit_float16(layer_norm(vector_of("text", 16)[np.newaxis])))


def test_after_a_bundle_that_failed_comes_another(server: BatchServer, job: Job, tmp_path: Path) -> None:
    server.before = lambda call: error(401, "no such key") if call.is_("GET", "/batches/") else None
    step = InlineStep(EmbedByBatchDoFn(job))
    with pytest.raises(EmbedderRefused, match="no such key"):
        list(step.bundle([block_of(["text"])], others=aside()))
    server.before = lambda call: None
    (embedded,) = step.bundle([block_of(["text", "more"])], others=aside())
    assert_embedded(embedded, ["text", "more"])
    assert server.billed == {"text": 1, "more": 1}
    step.close()
    assert not list((tmp_path / "store" / ".scratch").iterdir())
