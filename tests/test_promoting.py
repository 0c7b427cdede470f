import getpass
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

import tierloom
from tests.measured import gate_of, measured_store, publish_measured
from tests.stores.rivals import rival_process, start
from tierloom import names
from tierloom.channel import Channel, read_channel
from tierloom.commit import commit
from tierloom.errors import ChannelMoved, Corrupt, InputError, Malformed, PromotionRefused, RevisionMismatch
from tierloom.lease import leases
from tierloom.moving import mover
from tierloom.promoting import promote
from tierloom.rolling_back import rollback
from tierloom.serving import Profile, Serving
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Revision
from tierloom.versions import read_manifest


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return measured_store(tmp_path / "store")


def channel(store: LocalStore, name: str = "prod") -> Channel:
    seen = read_channel(store, name)
    assert seen is not None
    return seen[0]


def moves(store: LocalStore) -> list[tuple[str, int | None, int]]:
    return [(move.action, move.previous, move.version) for move in channel(store).moves]


def retire(store: LocalStore, version: int) -> None:
    for listed in list(store.list(names.manifest(version))):
        assert store.remove(listed)


class TestPromoting:
    def test_a_version_is_what_the_channel_serves_from_then_on(self, store: LocalStore) -> None:
        moved = promote(store, 2, "prod", "looks good")
        assert channel(store) == moved.channel
        (move,) = moved.channel.moves
        assert move == moved.move
        assert (move.version, move.previous, move.action, move.message) == (2, None, "promote", "looks good")
        assert (move.by, move.forced, move.refused_because, moved.doubts) == (mover(), False, None, ())
        assert tierloom.open(store.root, channel="prod").manifest.version == 2

    def test_latest_is_the_newest_version(self, store: LocalStore) -> None:
        assert promote(store, "latest", "prod").channel.version == 4

    def test_what_it_serves_already_is_no_move(self, store: LocalStore) -> None:
        promote(store, 2, "prod")
        again = promote(store, 2, "prod", "again")
        assert (again.move, again.channel) == (None, channel(store))
        assert moves(store) == [("promote", None, 2)]

    def test_channels_are_moved_apart(self, store: LocalStore) -> None:
        promote(store, 2, "prod")
        promote(store, 3, "canary")
        assert (channel(store).version, channel(store, "canary").version) == (2, 3)

    def test_nothing_is_left_on_lease(self, store: LocalStore) -> None:
        promote(store, 2, "prod")
        rolled_back = promote(store, 3, "prod"), rollback(store, "prod")
        assert len(rolled_back) == 2
        assert list(leases(store)) == []

    @pytest.mark.parametrize(
        ("version", "name", "message", "said"),
        [
            (9, "prod", "", "no version 9; the newest is 4"),
            (3, "latest", "", "latest follows every publish by itself and is not moved by hand"),
            (3, "Prod", "", "'Prod' cannot be a channel"),
            (3, "../prod", "", "cannot be a channel"),
            (3, "prod", "x" * 501, "a message of 501 characters is too long"),
            (3, "prod", "two\nlines", "write it in one"),
            (3, "prod", "\udc80", "cannot be printed"),
        ],
    )
    def test_what_cannot_be_done_is_refused_by_name(
        self, store: LocalStore, version: int, name: str, message: str, said: str
    ) -> None:
        with pytest.raises(InputError, match=said):
            promote(store, version, name, message)
        assert read_channel(store, "prod") is None

    def test_a_retired_version_is_told(self, store: LocalStore) -> None:
        retire(store, 2)
        with pytest.raises(InputError, match=r"version 2 of .* was retired; there still are 0-1, 3-4"):
            promote(store, 2, "prod")


class TestTheGate:
    def refusal(self, store: LocalStore, version: int) -> str:
        """Why a version is refused; `force` promotes it all the same, and its history says why it should not."""
        with pytest.raises(PromotionRefused) as refused:
            promote(store, version, "prod")
        assert read_channel(store, "prod") is None
        moved = promote(store, version, "prod", force=True)
        assert moved.move is not None
        assert moved.move.forced
        assert moved.move.refused_because
        assert moved.move.refused_because in str(refused.value)
        assert channel(store).moves == (moved.move,)
        return str(refused.value)

    def test_a_tier_below_the_floor_is_named_with_what_it_lacks(self, store: LocalStore) -> None:
        version = publish_measured(store, gate=gate_of(store, {"4": None, "8": 50}))
        said = self.refusal(store, version)
        assert (
            "tier 4 reaches a recall of 0.910 (0.890 to 0.930) with a reranked shortlist of 1,000, "
            "and the floor is 0.95" in said
        )
        assert f"tierloom tiers drop {store.url} 4" in said
        assert "tier 8" not in said

    def test_every_tier_that_lacks_is_named(self, store: LocalStore) -> None:
        version = publish_measured(store, gate=gate_of(store, {"8": None}))
        said = self.refusal(store, version)
        assert "tier 4 was not measured" in said
        assert "tier 8 reaches a recall of" in said

    def test_a_version_measured_on_a_lower_floor_is_refused(self, store: LocalStore) -> None:
        publish_measured(store, floor=0.99)
        said = self.refusal(store, 4)
        assert "it was measured against a recall floor of 0.95, and the collection's is 0.99 now" in said
        assert f"tierloom gate {store.url} --floor 0.95" in said

    def test_a_version_measured_on_a_higher_floor_is_fit(self, store: LocalStore) -> None:
        version = publish_measured(store, gate=gate_of(store, {"4": 20, "8": 20}, floor=0.97))
        assert promote(store, version, "prod").channel.version == version

    def test_a_version_that_was_never_measured_is_refused_with_the_cure(self, store: LocalStore) -> None:
        commit(store, lambda head: msgspec.structs.replace(head, version=head.version + 1, gate=None))
        said = self.refusal(store, 5)
        assert (
            f"its tiers were never measured; publish a version that is (tierloom gate {store.url} --held-out)" in said
        )

    def test_an_empty_version_is_refused(self, store: LocalStore) -> None:
        assert "nothing is live in it" in self.refusal(store, 0)

    def test_force_is_noted_only_where_it_was_needed(self, store: LocalStore) -> None:
        moved = promote(store, 2, "prod", force=True)
        assert moved.move is not None
        assert (moved.move.forced, moved.move.refused_because) == (False, None)

    def test_a_shortlist_that_is_not_safe_is_doubted(self, store: LocalStore) -> None:
        profiles = {
            "short": Profile(tier="4", shortlist=20),
            "enough": Profile(tier="4", shortlist=50),
            "measured": Profile(tier="4"),
            "alone": Profile(tier="4", shortlist=20, rerank=False),
        }

        serving = Serving(profiles=profiles)
        commit(
            store,
            lambda head: msgspec.structs.replace(
                head,
                version=head.version + 1,
                collection=msgspec.structs.replace(head.collection, serving=serving),
            ),
        )
        (doubt,) = promote(store, 5, "prod").doubts
        assert doubt == (
            "profile short takes a shortlist of 20 from tier 4; the smallest that was measured to be safe is 50"
        )

    @pytest.mark.parametrize("damage", ["gone", "cut", "checkpoint"])
    @pytest.mark.parametrize("force", [False, True])
    def test_a_version_whose_objects_are_not_there_is_refused_even_by_force(
        self, store: LocalStore, damage: str, force: bool
    ) -> None:
        manifest = read_manifest(store, 2)
        shard = store.root / manifest.vector_shards[0].path
        checkpoint = store.root / names.checkpoint(manifest.collection.checkpoint)
        if damage == "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        else:
            (shard if damage == "gone" else checkpoint).unlink()
        path = names.checkpoint(manifest.collection.checkpoint) if damage == "checkpoint" else shard.name
        with pytest.raises(Corrupt, match=rf"version 2 cannot be served: .*{path}.*; see tierloom verify .* 2"):
            promote(store, 2, "prod", force=force)
        assert read_channel(store, "prod") is None
        assert list(leases(store)) == []


class TestRollingBack:
    @pytest.fixture(autouse=True)
    def _promoted(self, store: LocalStore) -> None:
        for version in (1, 2, 4):
            promote(store, version, "prod")

    def test_goes_to_what_was_served_before_and_then_further_back(self, store: LocalStore) -> None:
        assert rollback(store, "prod", "too slow").channel.version == 2
        assert channel(store).moves[-1].message == "too slow"
        assert rollback(store, "prod").channel.version == 1
        with pytest.raises(InputError, match="prod serves version 1, and its history knows of none before; promote"):
            rollback(store, "prod")
        assert moves(store)[-2:] == [("rollback", 4, 2), ("rollback", 2, 1)]

    def test_goes_further_back_at_once(self, store: LocalStore) -> None:
        assert rollback(store, "prod", to=1).channel.version == 1
        assert moves(store)[-1] == ("rollback", 4, 1)

    def test_what_was_rolled_back_is_not_served_again(self, store: LocalStore) -> None:
        rollback(store, "prod")
        promote(store, 3, "prod")
        assert rollback(store, "prod").channel.version == 2

    @pytest.mark.parametrize("to", [3, 9])
    def test_only_what_was_served_before_is_gone_back_to(self, store: LocalStore, to: int) -> None:
        with pytest.raises(InputError, match=f"prod did not serve version {to} before 4, but 2, 1; promote"):
            rollback(store, "prod", to=to)

    def test_what_is_served_is_not_gone_back_to(self, store: LocalStore) -> None:
        promote(store, 1, "prod")
        with pytest.raises(InputError, match="prod serves version 1 already; name one that it served before"):
            rollback(store, "prod", to=1)

    def test_is_not_gated(self, store: LocalStore) -> None:
        """It was fit when it was promoted: to lose time over it now helps nobody."""
        publish_measured(store, floor=0.99)
        assert rollback(store, "prod").channel.version == 2

    def test_a_retired_version_is_told_with_what_there_is(self, store: LocalStore) -> None:
        retire(store, 2)
        with pytest.raises(
            InputError,
            match=r"version 2, which prod served before 4, was retired; there still are 0-1, 3-4; .*--to 1\)",
        ):
            rollback(store, "prod")
        retire(store, 1)
        with pytest.raises(InputError, match=r"version 2, .* was retired; there still are 0, 3-4; promote"):
            rollback(store, "prod")
        assert channel(store).version == 4

    def test_a_version_whose_objects_are_gone_is_refused(self, store: LocalStore) -> None:
        (store.root / read_manifest(store, 2).vector_shards[0].path).unlink()
        with pytest.raises(Corrupt, match="version 2 cannot be served"):
            rollback(store, "prod")
        assert channel(store).version == 4

    def test_an_unknown_channel_is_told_with_those_there_are(self, store: LocalStore) -> None:
        with pytest.raises(InputError, match=r"no channel 'canary'; there are prod\. Make one with: tierloom promote"):
            rollback(store, "canary")

    def test_latest_is_not_rolled_back(self, store: LocalStore) -> None:
        with pytest.raises(InputError, match="latest follows every publish by itself"):
            rollback(store, "latest")

    def test_what_is_not_served_any_more_is_not_rolled_back(self, store: LocalStore) -> None:
        """Two people see the same bad version, and each rolls it back, one after the other."""
        rollback(store, "prod", serving=4)
        with pytest.raises(ChannelMoved, match=r"prod serves version 2 now \(rollback by .*nothing was rolled back"):
            rollback(store, "prod", serving=4)
        assert channel(store).version == 2


def before_swap(store: LocalStore, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]) -> None:
    """Do something, once, after a channel was read and before it is swapped."""
    swap = LocalStore.swap
    due = [deed]

    def swapping(self: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
        if name == names.channel("prod") and due:
            due.pop()()
        return swap(self, name, data, expected)

    monkeypatch.setattr(LocalStore, "swap", swapping)


class TestRaces:
    def test_who_loses_moves_on_from_where_the_other_has_put_it(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        promote(store, 1, "prod")
        before_swap(store, monkeypatch, lambda: promote(store, 2, "prod"))
        promote(store, 3, "prod")
        assert moves(store) == [("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3)]

    def test_who_loses_checks_anew(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def raised() -> None:
            publish_measured(store, floor=0.99)
            promote(store, 2, "prod", force=True)

        before_swap(store, monkeypatch, raised)
        with pytest.raises(PromotionRefused, match=r"the collection's is 0\.99 now"):
            promote(store, 3, "prod")
        assert channel(store).version == 2

    @pytest.mark.parametrize("meanwhile", [3, 1, None])
    def test_a_rollback_that_lost_rolls_nothing_back(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch, meanwhile: int | None
    ) -> None:
        for version in (1, 2):
            promote(store, version, "prod")
        other = (lambda: rollback(store, "prod")) if meanwhile is None else (lambda: promote(store, meanwhile, "prod"))
        before_swap(store, monkeypatch, other)
        now_serves = meanwhile or 1
        with pytest.raises(ChannelMoved, match=rf"prod serves version {now_serves} now \((promote|rollback) by .* at "):
            rollback(store, "prod")
        assert channel(store).version == now_serves
        assert len(moves(store)) == 3

    def test_a_move_whose_answer_was_lost_is_made_once(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others went on from it before it was known that it held."""
        swap = LocalStore.swap
        due = [3]

        def swapping(self: LocalStore, name: str, data: bytes, expected: Revision | None) -> Revision:
            held = swap(self, name, data, expected)
            if name == names.channel("prod") and due:
                promote(store, due.pop(), "prod")
                raise RevisionMismatch("changed by another writer")
            return held

        monkeypatch.setattr(LocalStore, "swap", swapping)
        promote(store, 2, "prod")
        assert moves(store) == [("promote", None, 2), ("promote", 2, 3)]

    def test_a_version_that_is_retired_while_it_is_promoted_is_told(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A mover that slept for longer than its lease."""
        before_swap(store, monkeypatch, lambda: retire(store, 2))
        with pytest.raises(InputError, match="version 2 was retired while prod was moved to it; promote another one"):
            promote(store, 2, "prod")

    def test_threads_lose_no_move(self, store: LocalStore) -> None:
        together = Barrier(4)

        def go(version: int) -> None:
            together.wait()
            promote(store, version, "prod", f"{version}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(go, (1, 2, 3, 4)))
        made = channel(store).moves
        assert sorted(move.message for move in made) == ["1", "2", "3", "4"]
        assert_chained(channel(store))

    def test_processes_lose_no_move(self, store: LocalStore, tmp_path: Path) -> None:
        with ExitStack() as stack:
            rivals: list[subprocess.Popen[str]] = []
            for at in range(3):
                folder = tmp_path / f"rival-{at}"
                folder.mkdir()
                rivals.append(stack.enter_context(rival_process(store, folder, "promote", f"rival {at}", "8")))
            start(rivals)
            assert [rival.wait(timeout=60) for rival in rivals] == [0, 0, 0]
        assert_chained(channel(store))
        made = [move.message for move in channel(store).moves]
        # Each names its moves; those that found the version served already made none.
        assert len(set(made)) == len(made)
        assert channel(store).serial == len(made) - 1


def assert_chained(channel: Channel) -> None:
    """Every move began where the one before it had ended."""
    assert channel.moves[0].previous is None
    assert all(before.version == after.previous for before, after in pairwise(channel.moves))


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        (lambda data: data.replace(b'"version":2', b'"version":3'), Corrupt, "its content has"),
        (lambda data: b"{}", Malformed, "has no member 'sha256'"),
        (lambda data: data[:-20], Malformed, "not valid JSON"),
        (lambda data: b"", Malformed, "not valid JSON"),
    ],
)
def test_a_channel_that_was_edited_by_hand_is_told_with_the_cure(
    store: LocalStore, damage: Callable[[bytes], bytes], error: type[Exception], said: str
) -> None:
    promote(store, 2, "prod")
    path = store.root / names.channel("prod")
    path.write_bytes(damage(path.read_bytes()))
    cure = "put it back as it was, or remove channels/prod.json from .* and promote a version anew"
    for deed in (partial(promote, store, 3), partial(rollback, store)):
        with pytest.raises(error, match=rf"channels/prod\.json: .*{said}.*; {cure}"):
            deed("prod")
    path.unlink()
    assert promote(store, 3, "prod").channel.version == 3


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert mover().split("@")[0].isdigit()
