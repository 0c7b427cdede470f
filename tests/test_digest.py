import pytest

from tests.small_shards import collection_of
from tierloom.digest import bytes_digest, digest_of


def test_a_digest_never_changes() -> None:
    """Names in stores are made of it: another value here makes every finished shard be paid for again."""
    assert digest_of("block", "a", 1, [("b", 2)]) == "a08da74c74cc13f6e82634e5e49c54fce0361f85"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", "b"), (["a", "b"],)),
        ((1,), ("1",)),
        ((None,), ("",)),
        (("a",), ("a", "")),
        (([],), ()),
        ((True,), (1,)),
    ],
)
def test_other_inputs_have_another_digest(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert digest_of("kind", *one) != digest_of("kind", *other)


def test_kinds_are_kept_apart() -> None:
    assert digest_of("merge", "a") != digest_of("index", "a")
    assert digest_of("a", "b") != digest_of("b", "a")


def test_structs_count_by_their_content() -> None:
    assert digest_of("tiers", collection_of().tiers) == digest_of("tiers", collection_of().tiers)
    assert digest_of("tiers", collection_of(tiers=(4,)).tiers) != digest_of("tiers", collection_of(tiers=(8,)).tiers)


def test_the_digest_of_bytes_is_their_sha256() -> None:
    assert bytes_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
