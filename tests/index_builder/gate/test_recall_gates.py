from pathlib import Path

import msgspec
import pytest

from index_builder.gate.recall_gates import RecallGates
from tests.index_builder.upkeep.living import SECOND, Living
from tierloom.column_files import ColumnFiles
from tierloom.errors import BelowFloor
from tierloom.manifest import KEY_UNITS, Manifest
from tierloom.stores.local import LocalStore


@pytest.fixture
def living(tmp_path: Path) -> Living:
    living = Living(LocalStore(tmp_path / "store"))
    living.put({f"d{at}": 2 for at in range(15)})
    return living


def without_gates(manifest: Manifest) -> Manifest:
    bare = msgspec.structs.replace(manifest, gate=None)
    return msgspec.structs.replace(bare, other=bare.other and msgspec.structs.replace(bare.other, gate=None))


def test_each_generation_is_measured_by_its_own_tiers(living: Living) -> None:
    head = living.begin()
    measured = RecallGates(ColumnFiles(living.store)).measured(without_gates(head), without_gates(head))
    first, second = measured.generations
    assert first.gate
    assert second.gate
    assert [tier.tier for tier in first.gate.tiers] == ["8", "16-binary", "16"]
    assert [tier.tier for tier in second.gate.tiers] == ["4", "12"]
    assert first.gate.queries == second.gate.queries == 30


def test_one_that_is_being_built_is_measured_when_it_is_complete(living: Living) -> None:
    building = living.begin(reached=KEY_UNITS // 2)
    assert building.other
    assert building.other.gate is None
    gates = RecallGates(ColumnFiles(living.store))
    assert gates.measured(without_gates(building), building).of(SECOND.fingerprint).gate is None
    assert living.reach().of(SECOND.fingerprint).gate


def test_the_moment_it_is_complete_is_measured_whatever_was_said_before(living: Living) -> None:
    done = living.begin().of(SECOND.fingerprint)
    building = msgspec.structs.replace(done, reached=KEY_UNITS - 1)
    gates = RecallGates(ColumnFiles(living.store))
    assert gates.measured(done, done) == done
    measured = gates.measured(done, building).gate
    assert measured
    assert measured.seconds != (done.gate.seconds if done.gate else None)


def test_only_the_one_that_serves_is_refused(tmp_path: Path) -> None:
    """Four components of noise do not find a tenth of its chunks."""
    living = Living(LocalStore(tmp_path / "store"), tiers=(16,))
    living.put({f"d{at}": 100 for at in range(14)})
    head = living.begin(tiers=(4,))
    poor = head.of(SECOND.fingerprint)
    assert poor.gate
    assert poor.gate.tiers[0].safe_shortlist is None
    gates = RecallGates(ColumnFiles(living.store))
    with pytest.raises(BelowFloor, match="tier 4 misses"):
        gates.measured(without_gates(poor), without_gates(poor))
    measured = gates.measured(without_gates(poor), without_gates(poor), refuse=False)
    assert measured.checkpoints == poor.checkpoints
    assert all(generation.gate for generation in measured.generations)
