"""The gate measures what a reader would find, version after version, and lets nothing through that lost its quality."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import tierloom
from index_builder.build import IndexTask, build_index_shard
from index_builder.gate.recall_gate import RecallGate, put
from index_builder.gate.refusing import refuse_below_floor, refuse_other_models
from index_builder.gate.sample import Sample, given_sample
from tests.index_builder.gate.measuring import mean_recall
from tests.index_builder.upkeep.living import Living
from tests.small_shards import SCHEMA, Row, make_collection, random_rows, store_rows, store_shard
from tierloom.column_files import ColumnFiles
from tierloom.commit import commit
from tierloom.document import document_key
from tierloom.errors import BelowFloor, Corrupt, NotMatryoshka, VerificationError
from tierloom.gate import TOP, Advantage, Estimate, Gate, PrefixProbe, Verdict
from tierloom.manifest import Manifest, VectorShard
from tierloom.quantizer import quantize, to_unit_float16
from tierloom.shards.writer import Rows
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store
from tierloom.versions import read_head


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def front_loaded(count: int, seed: int = 1) -> NDArray[np.float16]:
    """Unit vectors (count, 32) whose first components carry most."""
    draw = np.random.default_rng(seed).standard_normal((count, 32)) * np.arange(1, 33) ** -1.0
    return to_unit_float16(draw.astype(np.float32))


def rows_of(vectors: NDArray[np.float16], prefix: NDArray[np.int8] | None = None, seed: int = 0) -> Rows:
    """Rows of one document each."""
    drawn = random_rows(len(vectors), seed=seed)
    ids = sorted(drawn.document_id.to_pylist(), key=document_key)
    return replace(
        drawn,
        document_id=pa.array(ids),
        key=np.array([document_key(name) for name in ids], np.uint64),
        ordinal=np.full(len(ids), seed, np.int32),
        vector=vectors,
        prefix=quantize(vectors, SCHEMA.prefix_dimensions) if prefix is None else prefix,
    )


def published(store: LocalStore, shards: list[VectorShard], floor: float = 0.0) -> Manifest:
    """A version of these shards, with one index shard a tier; not measured."""

    def change(head: Manifest) -> Manifest:
        collection = msgspec.structs.replace(head.collection, recall_floor=floor)
        return msgspec.structs.replace(
            head,
            version=head.version + 1,
            collection=collection,
            vector_shards=tuple(shards),
            index_shards=tuple(build_index_shard(IndexTask(tier, tuple(shards)), store) for tier in collection.tiers),
        )

    return commit(store, change)


def gate_of(store: LocalStore, manifest: Manifest) -> Gate:
    measured = RecallGate(ColumnFiles(store)).measured(manifest, manifest, refuse=False).gate
    assert measured is not None
    return measured


def sample_of(store: LocalStore, gate: Gate) -> Sample:
    return Sample.from_bytes(store.read(gate.sample.path), gate.sample.path)


@pytest.mark.parametrize("count", [12, 60, 300])
def test_the_figures_are_those_of_a_search(store: LocalStore, count: int) -> None:
    make_collection(store)
    half = count // 2
    vectors = front_loaded(count)
    shards = [store_rows(store, rows_of(part, seed=at)) for at, part in enumerate((vectors[:half], vectors[half:]))]
    gate = gate_of(store, published(store, shards))
    with tierloom.open(store.url) as snapshot:
        sample = sample_of(store, gate)
        assert gate.queries == len(sample) == min(200, count)
        for tier in gate.tiers:
            alone = mean_recall(snapshot, sample, tier.tier, TOP, rerank=False)
            assert tier.alone.recall.mean == pytest.approx(alone, abs=1e-6)
            for one in tier.reranked:
                by_hand = mean_recall(snapshot, sample, tier.tier, one.shortlist)
                assert one.quality.recall.mean == pytest.approx(by_hand, abs=1e-6)


def test_graphs_are_asked_as_a_reader_asks_them(store: LocalStore) -> None:
    make_collection(store, tiers=(4, "16-binary", 16))
    gate = gate_of(store, published(store, [store_rows(store, rows_of(front_loaded(6000)))]))
    with tierloom.open(store.url) as snapshot:
        sample = sample_of(store, gate)
        for tier in gate.tiers:
            for shortlist in (100, 1000):
                measured = tier.at(shortlist)
                assert measured is not None
                # A reader asks for one more here, to make up for the query itself.
                by_hand = mean_recall(snapshot, sample, tier.tier, shortlist)
                assert measured.recall.mean == pytest.approx(by_hand, abs=0.01)


def test_the_safe_shortlist_is_the_smallest_above_the_floor(store: LocalStore) -> None:
    make_collection(store)
    gate = gate_of(store, published(store, [store_rows(store, rows_of(front_loaded(3000)))], floor=0.9))
    for tier in gate.tiers:
        safe = [one.shortlist for one in tier.reranked if one.quality.recall.low >= 0.9]
        assert tier.safe_shortlist == min(safe)
    assert [tier.safe_shortlist for tier in gate.tiers] == sorted(
        (tier.safe_shortlist or 0 for tier in gate.tiers), reverse=True
    )


def test_a_shortlist_of_all_there_is_is_safe(store: LocalStore) -> None:
    make_collection(store)
    gate = gate_of(store, published(store, [store_rows(store, rows_of(front_loaded(15)))], floor=1.0))
    assert [tier.safe_shortlist for tier in gate.tiers] == [20, 20, 20]


def rotated(vectors: NDArray[np.float16]) -> NDArray[np.float16]:
    rotation, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((32, 32)))
    return to_unit_float16((vectors.astype(np.float32) @ rotation).astype(np.float32))


def wrong_codes() -> dict[str, tuple[NDArray[np.float16], NDArray[np.int8]]]:
    vectors = front_loaded(3000)
    wide = vectors.astype(np.float32)
    other = front_loaded(3000, seed=2)
    return {
        "a random rotation": (rotated(vectors), quantize(rotated(vectors), 16)),
        "the last columns": (vectors, quantize(vectors[:, ::-1], 16)),
        "codes of another model": (vectors, quantize(other, 16)),
        "codes of other rows": (vectors, np.roll(quantize(vectors, 16), 1, axis=0)),
        "values that wrapped around": (vectors, np.rint(wide[:, :16] * 1000).astype(np.int64).astype(np.int8)),
    }


@pytest.mark.parametrize("name", wrong_codes())
def test_a_tier_that_is_not_what_it_should_be_is_refused(store: LocalStore, name: str) -> None:
    make_collection(store, tiers=(4,)) if name == "a random rotation" else make_collection(store)
    vectors, codes = wrong_codes()[name]
    manifest = published(store, [store_rows(store, rows_of(vectors, codes))], floor=0.95)
    with pytest.raises((BelowFloor, NotMatryoshka)):
        RecallGate(ColumnFiles(store)).measured(manifest, manifest)
    measured = RecallGate(ColumnFiles(store)).measured(manifest, manifest, refuse=False).gate
    assert measured is not None
    with pytest.raises(BelowFloor, match=r"tier 4 misses its recall floor.*--connectivity"):
        refuse_below_floor(measured)


def test_a_model_that_does_not_front_load_is_refused(store: LocalStore) -> None:
    make_collection(store, tiers=(8, 16))
    isotropic = to_unit_float16(np.random.default_rng(4).standard_normal((3000, 32)).astype(np.float32))
    manifest = published(store, [store_rows(store, rows_of(isotropic))])
    with pytest.raises(NotMatryoshka, match=r"first 8 dimensions find .*tierloom probe"):
        RecallGate(ColumnFiles(store)).measured(manifest, manifest)
    accepted = msgspec.structs.replace(manifest.collection, untrained_prefixes=True)
    manifest = msgspec.structs.replace(manifest, collection=accepted)
    gate = RecallGate(ColumnFiles(store)).measured(manifest, manifest).gate
    assert gate is not None
    assert [probe.verdict for probe in gate.probes] == ["refused", "refused"]


def probe(dimensions: int, verdict: Verdict) -> PrefixProbe:
    some = Estimate(0.5, 0.4, 0.6)
    return PrefixProbe(dimensions, some, some, some, Advantage(0.0, -0.1, 0.1), verdict)


@pytest.mark.parametrize(
    ("verdicts", "is_refused"),
    [
        (("refused", "undecided"), True),
        (("refused", "refused"), True),
        (("refused", "matryoshka"), False),
        (("undecided", "undecided"), False),
    ],
)
def test_one_good_size_speaks_for_a_model(
    store: LocalStore, verdicts: tuple[Verdict, Verdict], is_refused: bool
) -> None:
    head = make_collection(store, tiers=(8, 16))
    made = gate_of(store, published(store, [store_rows(store, rows_of(front_loaded(20)))]))
    gate = msgspec.structs.replace(made, probes=tuple(map(probe, (8, 16), verdicts)))
    with pytest.raises(NotMatryoshka) if is_refused else nullcontext():
        refuse_other_models(gate.probes, head.collection)


def test_a_model_that_front_loads_is_probed_once(store: LocalStore) -> None:
    make_collection(store, tiers=(8, 16))
    manifest = published(store, [store_rows(store, rows_of(front_loaded(3000)))])
    gate = RecallGate(ColumnFiles(store))
    measured = gate.measured(manifest, manifest)
    assert measured.gate is not None
    assert [probe.verdict for probe in measured.gate.probes] == ["matryoshka", "matryoshka"]
    lower = msgspec.structs.replace(measured.collection, recall_floor=0.1)
    again = gate.measured(msgspec.structs.replace(measured, collection=lower), measured)
    assert again.gate is not None
    assert again.gate.probes == measured.gate.probes


def test_vectors_of_other_than_unit_length_are_refused(store: LocalStore) -> None:
    make_collection(store)
    vectors = front_loaded(50)
    long = (vectors.astype(np.float32) * np.float32(1.2)).astype(np.float16)
    manifest = published(store, [store_rows(store, rows_of(long, quantize(vectors, 16)))])
    with pytest.raises(VerificationError, match=r"50 of 50 sampled vectors have not unit length, but 1\.2"):
        RecallGate(ColumnFiles(store)).measured(manifest, manifest)


def test_what_is_as_it_was_is_not_measured_again(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path))
    first = living.put({"a": 3, "b": 2})
    gate = RecallGate(ColumnFiles(living.store))
    measured = gate.measured(first, first)
    assert gate.measured(measured, measured) is measured
    floor = msgspec.structs.replace(measured, collection=msgspec.structs.replace(first.collection, recall_floor=0.5))
    again = gate.measured(floor, measured).gate
    assert again is not None
    assert again.floor == 0.5


def grown(living: Living, measured: Manifest) -> Manifest:
    """The next version, that takes over the measurement of the one before."""
    return msgspec.structs.replace(living.put({"c": 2}), gate=measured.gate)


def damage(store: Store, name: str) -> None:
    path = Path(store.url) / name
    path.write_bytes(path.read_bytes()[::-1])


def test_damaged_measurements_are_made_anew(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path))
    first = living.put({"a": 5, "b": 5})
    measured = RecallGate(ColumnFiles(living.store)).measured(first, first)
    assert measured.gate is not None
    damage(living.store, measured.gate.sample.path)
    again = RecallGate(ColumnFiles(living.store)).measured(grown(living, measured), measured).gate
    assert again is not None
    assert again.queries == 12
    assert again.sample != measured.gate.sample


def test_damaged_queries_of_the_owner_are_asked_for(tmp_path: Path) -> None:
    living = Living(LocalStore(tmp_path))
    first = living.put({"a": 5, "b": 5})
    stored = put(given_sample(np.eye(32, dtype=np.float32)[:3], [[], [], []]).to_bytes(), living.store)
    given = Gate(floor=0.0, source="given", queries=0, seed=0, tiers=(), sample=stored)
    measured = RecallGate(ColumnFiles(living.store)).measured(msgspec.structs.replace(first, gate=given), first)
    damage(living.store, stored.path)
    with pytest.raises(Corrupt, match="--queries FILE"):
        RecallGate(ColumnFiles(living.store)).measured(grown(living, measured), measured)


def test_nothing_is_said_of_an_empty_collection(store: LocalStore) -> None:
    head = make_collection(store)
    assert RecallGate(ColumnFiles(store)).measured(head, head).gate is None


def judged_manifest(store: LocalStore, relevant: list[list[str]], queries: NDArray[np.float32]) -> Manifest:
    shard = store_shard(store, [Row(f"doc {at}", vector=tuple(np.eye(32)[at % 32])) for at in range(40)])
    manifest = published(store, [shard])
    sample = given_sample(queries, [[document_key(name) for name in names] for names in relevant])
    gate = RecallGate(ColumnFiles(store))
    stored = put(sample.to_bytes(), store)
    given = Gate(floor=0.0, source="given", queries=0, seed=0, tiers=(), sample=stored)
    return gate.measured(msgspec.structs.replace(manifest, gate=given), manifest)


def test_relevant_documents_are_counted(store: LocalStore) -> None:
    make_collection(store)
    eye = np.eye(32, dtype=np.float32)
    manifest = judged_manifest(store, [["doc 0", "doc 32"], ["doc 5"], ["nowhere"], []], eye[[0, 1, 2, 3]])
    assert manifest.gate is not None
    assert manifest.gate.exact is not None
    ndcg, hit_rate = manifest.gate.exact.ndcg, manifest.gate.exact.hit_rate
    assert ndcg is not None
    assert hit_rate is not None
    # The first query finds both of its documents at the top; of the others nothing relevant points the same way.
    assert hit_rate.mean >= 1 / 3
    assert ndcg.mean >= 1 / 3


def test_below_the_floor_is_said_with_the_cure(store: LocalStore) -> None:
    make_collection(store)
    gate = gate_of(store, published(store, [store_rows(store, rows_of(rotated(front_loaded(3000))))], floor=0.999))
    with pytest.raises(BelowFloor) as raised:
        refuse_below_floor(gate)
    said = str(raised.value)
    assert "tier 4 misses" in said
    assert "0.999" in said
    assert "200 held-out chunks" in said
    assert read_head(store).version == 1
