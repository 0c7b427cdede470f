import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.small_shards import CHECKPOINT, collection_of, first_manifest
from tierloom.errors import CheckpointMismatch, Corrupt, FormatTooNew, Malformed, TierloomError
from tierloom.manifest import (
    Aliases,
    Cursor,
    DeadLetters,
    Deletes,
    DocumentCounts,
    Footer,
    Generation,
    IndexParameters,
    IndexShard,
    LedgerPart,
    Manifest,
    Retention,
    RunRecord,
    VectorShard,
    common_checkpoint,
)
from tierloom.manifest_checks import checked_manifest
from tierloom.sealed import canonical

_SHA = "ab" * 32
_OTHER = "0" * 32


def vector_shard(path: str, rows: int, dead: int = 0, checkpoint: str = CHECKPOINT.fingerprint) -> VectorShard:
    deletes = Deletes(path=f"deletes/{dead}.roaring", bytes=8, sha256=_SHA, rows=dead) if dead else None
    return VectorShard(
        path=path,
        bytes=9,
        sha256=_SHA,
        rows=rows,
        checkpoint=checkpoint,
        footer=Footer(bytes=8, sha256=_SHA),
        deletes=deletes,
    )


def index_shard(tier: int, paths: tuple[str, ...], codes: int, pairs: int = 0) -> IndexShard:
    name = f"indexes/{tier}/{len(paths)}-{codes}"
    aliases = Aliases(path=f"{name}.aliases", bytes=16 * pairs, sha256=_SHA, pairs=pairs) if pairs else None
    return IndexShard(
        path=f"{name}.usearch",
        bytes=10,
        sha256=_SHA,
        tier=str(tier),
        codes=codes,
        checkpoint=CHECKPOINT.fingerprint,
        vector_shards=paths,
        parameters=IndexParameters(
            dimensions=tier, metric="cos", connectivity=16, expansion_add=128, expansion_search=128, usearch="2.26.6"
        ),
        aliases=aliases,
    )


WHOLE = Manifest(
    version=12,
    created="2026-01-01T00:00:00Z",
    parent=_SHA,
    writer="tierloom 0",
    collection=collection_of(tiers=(4, 8)),
    run=RunRecord(run="r", command="ingest", documents=DocumentCounts(documents_in=3, live=2, dead_lettered=1)),
    vector_shards=(vector_shard("shards/a.parquet", 5, dead=2), vector_shard("shards/b.parquet", 3)),
    index_shards=(
        index_shard(4, ("shards/a.parquet", "shards/b.parquet"), codes=6, pairs=2),
        index_shard(8, ("shards/b.parquet",), codes=3),
        index_shard(8, ("shards/a.parquet",), codes=5),
    ),
    dead_letters=(DeadLetters(path="dead-letters/r/0.jsonl", bytes=4, sha256=_SHA, letters=1),),
    documents=DocumentCounts(documents_in=3, live=2, dead_lettered=1),
    tombstones=(LedgerPart(path="tombstones/t.parquet", bytes=4, sha256=_SHA, entries=3, noted_until=7),),
    files=(LedgerPart(path="files/f.parquet", bytes=4, sha256=_SHA, entries=1, noted_until=7),),
    cursors=(
        Cursor(source="kafka://host:9092/topic", positions={"0": 41}, holder="here", moved="2026-01-01T00:00:00Z"),
    ),
    retention=Retention(deletions_seconds=60, versions=3, versions_seconds=0),
)

OTHER = msgspec.structs.replace(
    WHOLE,
    other=Generation(
        collection=msgspec.structs.replace(collection_of(tiers=(8,)), checkpoint="e" * 32),
        run=RunRecord(run="r", command="ingest"),
        dead_letters=(DeadLetters(path="dead-letters/r/1.jsonl", bytes=4, sha256=_SHA, letters=1),),
        reached=1 << 31,
    ),
)


def changed(change: Callable[[dict[str, Any]], None], manifest: Manifest = WHOLE) -> bytes:
    """The manifest with one change, under a whole seal."""
    members = json.loads(manifest.to_bytes())
    del members["sha256"]
    change(members)
    members["sha256"] = hashlib.sha256(canonical(members)).hexdigest()
    return canonical(members) + b"\n"


def put(value: Any, *place: str | int) -> Callable[[dict[str, Any]], None]:
    """A change: this value at this place."""

    def change(members: Any) -> None:
        for step in place[:-1]:
            members = members[step]
        members[place[-1]] = value

    return change


def test_a_manifest_comes_back_byte_for_byte() -> None:
    data = WHOLE.to_bytes()
    assert checked_manifest(data, 12) == WHOLE
    assert checked_manifest(data, 12).to_bytes() == data


def test_what_a_manifest_says_of_itself() -> None:
    assert WHOLE.live_chunks == 6
    assert WHOLE.documents.adds_up
    assert not DocumentCounts(documents_in=1).adds_up
    assert [shard.codes for shard in WHOLE.index_shards_of("8")] == [3, 5]
    assert sorted(stored.path for stored in WHOLE.objects()) == [
        "dead-letters/r/0.jsonl",
        "deletes/2.roaring",
        "files/f.parquet",
        "indexes/4/2-6.aliases",
        "indexes/4/2-6.usearch",
        "indexes/8/1-3.usearch",
        "indexes/8/1-5.usearch",
        "shards/a.parquet",
        "shards/b.parquet",
        "tombstones/t.parquet",
    ]


def test_a_version_is_seen_as_each_of_its_generations_has_it() -> None:
    second = OTHER.of(OTHER.other.checkpoint) if OTHER.other else OTHER
    assert OTHER.generations == (OTHER, second)
    assert OTHER.checkpoints == (OTHER.checkpoint, second.checkpoint)
    assert (second.version, second.tombstones, second.vector_shards) == (12, WHOLE.tombstones, ())
    assert second.of(OTHER.checkpoint) == OTHER
    assert OTHER.of(None) == OTHER.of(OTHER.checkpoint) == OTHER
    assert not second.is_complete
    assert OTHER.is_complete
    assert set(OTHER.objects()) == set(second.objects())
    with pytest.raises(CheckpointMismatch, match=f"nothing of checkpoint {'f' * 32}; it has"):
        OTHER.of("f" * 32)
    with pytest.raises(Malformed, match="both generations are of checkpoint"):
        checked_manifest(msgspec.structs.replace(OTHER, other=WHOLE.own).to_bytes(), 12)


def test_a_generation_takes_the_place_of_its_own_wherever_that_is() -> None:
    assert OTHER.other
    for generation in OTHER.generations:
        changed = msgspec.structs.replace(generation.own, documents=DocumentCounts(documents_in=7, deleted=7))
        put = OTHER.with_generation(changed)
        assert put.checkpoints == OTHER.checkpoints
        assert put.of(generation.checkpoint).own == changed
        (untouched,) = set(OTHER.checkpoints) - {generation.checkpoint}
        assert put.of(untouched).own == OTHER.of(untouched).own
        assert put.with_generation(generation) == OTHER
    alone = msgspec.structs.replace(OTHER, other=None)
    assert alone.with_generation(msgspec.structs.replace(WHOLE.own, gate=None)).other is None
    with pytest.raises(CheckpointMismatch, match="version 12 has nothing of checkpoint"):
        alone.with_generation(OTHER.other)


def test_every_flipped_bit_is_refused() -> None:
    data = first_manifest(collection_of(tiers=(4,))).to_bytes()
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(TierloomError, match=r"manifests/000000000000\.json"):
            checked_manifest(bytes(flipped), 0)


def test_every_flipped_byte_of_a_full_manifest_is_refused() -> None:
    data = WHOLE.to_bytes()
    for at in range(len(data)):
        with pytest.raises(TierloomError, match=r"manifests/000000000012\.json"):
            checked_manifest(data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :], 12)


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("surprise",), 1, "surprise"),
        (("collection", "surprise"), 1, "surprise"),
        (("vector_shards", 0, "surprise"), 1, "surprise"),
        (("version",), "12", r"\$\.version"),
        (("version",), -1, r"\$\.version"),
        (("version",), 2**53 + 1, r"\$\.version"),
        (("version",), 13, "states version 13"),
        (("vector_shards",), {}, r"\$\.vector_shards"),
        (("vector_shards", 0, "rows"), 0, r"\$\.vector_shards\[0\]\.rows"),
        (("vector_shards", 0, "rows"), 2**32 + 1, r"\$\.vector_shards\[0\]\.rows"),
        (("vector_shards", 0, "rows"), 10**30, r"\$\.vector_shards\[0\]\.rows"),
        (("vector_shards", 0, "bytes"), -1, r"\$\.vector_shards\[0\]\.bytes"),
        (("vector_shards", 0, "sha256"), "AB" * 32, r"\$\.vector_shards\[0\]\.sha256"),
        (("vector_shards", 0, "sha256"), _SHA + "\n", r"\$\.vector_shards\[0\]\.sha256"),
        (("vector_shards", 1, "checkpoint"), "x", r"\$\.vector_shards\[1\]\.checkpoint"),
        (("index_shards", 0, "parameters", "metric"), "ip", r"\$\.index_shards\[0\]\.parameters\.metric"),
        (("index_shards", 0, "parameters", "dimensions"), 0, r"parameters\.dimensions"),
        (("index_shards", 0, "vector_shards", 0), None, r"\$\.index_shards\[0\]\.vector_shards\[0\]"),
        (("collection", "tiers"), [], r"\$\.collection\.tiers"),
        (("collection", "tiers", 0, "name"), "../x", r"\$\.collection\.tiers\[0\]\.name"),
        (("collection", "tiers", 0, "name"), "4\n", r"\$\.collection\.tiers\[0\]\.name"),
        (("tombstones", 0, "entries"), 0, r"\$\.tombstones\[0\]\.entries"),
        (("cursors", 0, "positions"), {"0": "x"}, r"\$\.cursors\[0\]\.positions"),
        (("retention", "versions"), 0, r"\$\.retention\.versions"),
        (("parent",), "ab", r"\$\.parent"),
        (("format",), 0, r"\$\.format"),
        (("created",), None, r"\$\.created"),
    ],
)
def test_a_member_that_cannot_be_is_named(place: tuple[str | int, ...], value: Any, named: str) -> None:
    with pytest.raises(Malformed, match=named) as refused:
        checked_manifest(changed(put(value, *place)), 12)
    assert "manifests/000000000012.json" in str(refused.value)


_UNSAFE = [
    "/etc/passwd",
    "../other/shards/a.parquet",
    "shards/../../a.parquet",
    "shards/./a.parquet",
    "gs://bucket/shards/a.parquet",
    "file:///etc/passwd",
    "http://169.254.169.254/latest",
    "shards//a.parquet",
    "shards/a.parquet/",
    "shards/.hidden",
    "shards\\a.parquet",
    "shards/a\x00.parquet",
    "shards/a.parquet\n",
    "shards/é.parquet",
    "C:/a",
    "~/a",
    "",
    "a" * 201,
]
_PATHS: list[tuple[str | int, ...]] = [
    ("vector_shards", 0, "path"),
    ("vector_shards", 0, "deletes", "path"),
    ("index_shards", 0, "path"),
    ("index_shards", 0, "aliases", "path"),
    ("dead_letters", 0, "path"),
    ("tombstones", 0, "path"),
    ("files", 0, "path"),
]


@pytest.mark.parametrize("place", _PATHS)
@pytest.mark.parametrize("path", _UNSAFE)
def test_a_path_that_leaves_the_store_is_refused_by_name(place: tuple[str | int, ...], path: str) -> None:
    with pytest.raises(Malformed) as refused:
        checked_manifest(changed(put(path, *place)), 12)
    assert f"path {path!r} is not a plain relative name" in str(refused.value)


def test_a_version_without_a_parent_is_refused() -> None:
    with pytest.raises(Malformed, match="states parent None"):
        checked_manifest(changed(put(None, "parent")), 12)


def test_a_cursor_is_found_by_its_source() -> None:
    assert WHOLE.cursor_of("kafka://host:9092/topic") == WHOLE.cursors[0]
    assert WHOLE.cursor_of("kafka://host:9092/other") is None


@pytest.mark.parametrize("place", [("vector_shards", 1), ("index_shards", 2)])
def test_a_shard_of_another_checkpoint_is_refused_by_name(place: tuple[str | int, ...]) -> None:
    with pytest.raises(CheckpointMismatch, match=_OTHER) as refused:
        checked_manifest(changed(put(_OTHER, *place, "checkpoint")), 12)
    assert json.loads(WHOLE.to_bytes())[place[0]][place[1]]["path"] in str(refused.value)


def _drop(place: str, at: int) -> Callable[[dict[str, Any]], None]:
    def change(members: dict[str, Any]) -> None:
        del members[place][at]

    return change


def _repeat(place: str, at: int) -> Callable[[dict[str, Any]], None]:
    def change(members: dict[str, Any]) -> None:
        members[place].append(members[place][at])

    return change


def _twice_everywhere(members: dict[str, Any]) -> None:
    """A vector shard named twice, and indexed twice in every tier: consistent, and every chunk doubled."""
    members["vector_shards"].append(members["vector_shards"][1])
    for index in members["index_shards"][:2]:
        index["vector_shards"].append("shards/b.parquet")
        index["codes"] += 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop("index_shards", 2), r"tier 8 does not cover .*shards/a\.parquet"),
        (_drop("index_shards", 0), "tier 4 does not cover"),
        (_drop("vector_shards", 0), r"does not cover .*shards/a\.parquet"),
        (_repeat("index_shards", 1), r"tier 8 does not cover .*shards/b\.parquet"),
        (_repeat("vector_shards", 1), r"shards/b\.parquet.* more than once"),
        (_twice_everywhere, r"shards/b\.parquet.* more than once"),
        (put(["shards/c.parquet"], "index_shards", 1, "vector_shards"), r"shards/c\.parquet"),
        (put(6, "vector_shards", 0, "deletes", "rows"), "5 rows, of which 6 dead"),
        (put(5, "index_shards", 0, "codes"), r"indexes/4/2-6\.usearch holds 7 rows, its vector shards 8"),
        (put(None, "index_shards", 0, "aliases"), "holds 6 rows, its vector shards 8"),
        (put("16", "index_shards", 1, "tier"), "'16'"),
        (put(4, "index_shards", 1, "parameters", "dimensions"), "4 dimensions by cos in tier '8'"),
        (put("hamming", "index_shards", 1, "parameters", "metric"), "8 dimensions by hamming in tier '8'"),
        (put("binary", "collection", "tiers", 1, "kind"), "8 dimensions by cos in tier '8'"),
        (put("binary", "collection", "tiers", 0, "kind"), r"binary tiers \['4'\] are no multiple of 8"),
        (put("4", "collection", "tiers", 1, "name"), r"names the tiers \['4'\] more than once"),
    ],
)
def test_shards_that_do_not_fit_each_other_are_refused(change: Callable[[dict[str, Any]], None], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        checked_manifest(changed(change), 12)


def test_a_manifest_stored_under_another_number_is_refused() -> None:
    with pytest.raises(Malformed, match=r"000000000013\.json: states version 12"):
        checked_manifest(WHOLE.to_bytes(), 13)


def test_a_newer_format_is_refused_with_the_cure() -> None:
    with pytest.raises(FormatTooNew, match="Upgrade"):
        checked_manifest(changed(put(2, "format")), 12)


def test_content_changed_without_its_seal_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="states sha256"):
        checked_manifest(WHOLE.to_bytes().replace(b'"rows":5', b'"rows":6'), 12)


def test_two_checkpoints_have_nothing_in_common() -> None:
    shards = [vector_shard("shards/a.parquet", 1), vector_shard("shards/b.parquet", 1)]
    assert common_checkpoint(shards) == CHECKPOINT.fingerprint
    with pytest.raises(CheckpointMismatch, match=r"shards/b\.parquet"):
        common_checkpoint([shards[0], msgspec.structs.replace(shards[1], checkpoint=_OTHER)])
