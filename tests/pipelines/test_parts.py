"""How large the next part of a re-embedding is."""

from pathlib import Path

import msgspec
import pytest

from pipelines.reembedding import next_ranges
from tests.made_versions import CHECKPOINT, Step, store_other, store_versions
from tierloom.collection import Sizes
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.spending.terms import Lane
from tierloom.stores.local import LocalStore

SIZES = Sizes(block_chunks=1000, vector_shard_rows=10_000, index_shard_rows=40_000)
CHUNKS = 1_000_000


def generations(folder: Path, built: int) -> tuple[Manifest, Manifest]:
    """One that is built of so many chunks, and the one whose texts it is built of."""
    store = LocalStore(folder)
    head = store_versions(store, [Step(groups=[[CHUNKS]])], sizes=SIZES)
    other = msgspec.structs.replace(CHECKPOINT, space=msgspec.structs.replace(CHECKPOINT.space, revision="2"))
    reached = built * KEY_UNITS // CHUNKS // (KEY_UNITS >> 12) * (KEY_UNITS >> 12)
    both = store_other(store, head, Step(groups=[[built]] if built else []), other, reached=reached)
    return both.of(other.fingerprint), head


@pytest.mark.parametrize(
    ("lane", "built", "expected"),
    [
        ("requests", 0, 4096),
        ("requests", 6000, 6000),
        ("requests", 500_000, 10_000),
        ("batch", 0, 4096),
        ("batch", 30_000, 30_000),
        ("batch", 500_000, 80_000),
        ("batch", 990_000, 10_000),
    ],
)
def test_a_part_is_as_large_as_what_is_built_up_to_what_its_lane_allows(
    tmp_path: Path, lane: Lane, built: int, expected: int
) -> None:
    generation, source = generations(tmp_path, built)
    ranges = next_ranges(generation, source, lane)
    keys = ranges[-1].stop - ranges[0].start
    assert ranges[0].start == generation.reached
    assert keys * CHUNKS / KEY_UNITS == pytest.approx(expected, rel=0.15)
    # Cut at the same places by either lane, so that what one has paid for the other finds.
    assert {len(keys) for keys in ranges} == {len(next_ranges(generation, source, "requests")[0])}
