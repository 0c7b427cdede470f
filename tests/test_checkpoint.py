from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.small_shards import CHECKPOINT
from tierloom.checkpoint import Checkpoint, Endpoint, Limits, Space
from tierloom.errors import CheckpointMismatch, Corrupt, Malformed, TierloomError


def test_a_checkpoint_comes_back_byte_for_byte() -> None:
    data = CHECKPOINT.to_bytes()
    assert Checkpoint.from_bytes(data, CHECKPOINT.fingerprint) == CHECKPOINT
    assert Checkpoint.from_bytes(data, CHECKPOINT.fingerprint).to_bytes() == data


def test_the_fingerprint_never_changes() -> None:
    """It is stored in every shard: another value here orphans every collection there is."""
    space = Space(provider="wordllama", model="m", revision="r", dimensions=256, trained_prefixes=(64, 128))
    assert Checkpoint(space).fingerprint == "d077a131a78118c85ecadf0be1b8858e"


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "wordllama"},
        {"model": "other"},
        {"revision": "2"},
        {"dimensions": 64},
        {"trained_prefixes": (4, 8)},
        {"document_prompt": "passage: "},
        {"query_prompt": "query: "},
        {"post_processing": ("layer-norm", "unit-norm")},
    ],
)
def test_whatever_shapes_a_vector_changes_the_fingerprint(changes: dict[str, Any]) -> None:
    other = Checkpoint(msgspec.structs.replace(CHECKPOINT.space, **changes))
    assert other.fingerprint != CHECKPOINT.fingerprint


def test_a_prompt_for_documents_is_not_one_for_queries() -> None:
    first, second = (
        Checkpoint(msgspec.structs.replace(CHECKPOINT.space, **{member: "x"}))
        for member in ("document_prompt", "query_prompt")
    )
    assert first.fingerprint != second.fingerprint


def test_what_shapes_no_vector_leaves_the_fingerprint_alone() -> None:
    other = Checkpoint(CHECKPOINT.space, "wordllama", Limits(1, 2, 3), Endpoint("http://localhost", "KEY"))
    assert other.fingerprint == CHECKPOINT.fingerprint


def test_the_checkpoint_of_another_space_is_refused() -> None:
    other = Checkpoint(msgspec.structs.replace(CHECKPOINT.space, model="other-model"))
    with pytest.raises(CheckpointMismatch, match="other-model") as refused:
        Checkpoint.from_bytes(other.to_bytes(), CHECKPOINT.fingerprint)
    assert CHECKPOINT.fingerprint in str(refused.value)
    assert other.fingerprint in str(refused.value)


def test_every_flipped_bit_is_refused() -> None:
    data = CHECKPOINT.to_bytes()
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(TierloomError, match=CHECKPOINT.fingerprint):
            Checkpoint.from_bytes(bytes(flipped), CHECKPOINT.fingerprint)


@pytest.mark.parametrize("replace", [lambda data: data[:-2], lambda data: b"", lambda data: data + data])
def test_damaged_bytes_are_refused(replace: Callable[[bytes], bytes]) -> None:
    with pytest.raises((Malformed, Corrupt), match=CHECKPOINT.fingerprint):
        Checkpoint.from_bytes(replace(CHECKPOINT.to_bytes()), CHECKPOINT.fingerprint)
