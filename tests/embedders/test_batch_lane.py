"""The lane of batches against a real server: whatever happens, each input has its vector or its rejection, and is paid
for once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.embedders.batch_server import BROKEN, Batch, BatchServer, Call, Fate
from tests.embedders.conftest import PLANTED, bounds, checkpoint_at, expected
from tests.embedders.endpoint import Reply, error, items
from tierloom import names
from tierloom.checkpoint import Limits
from tierloom.embedders import gathering
from tierloom.embedders.batch_lane import BatchLane
from tierloom.embedders.batch_lines import PROBE_ID
from tierloom.embedders.batch_records import BatchRecords
from tierloom.embedders.batch_troubles import SENDINGS
from tierloom.embedders.embedder import Embedded
from tierloom.embedders.gathering import PROBE_TOKENS, Wanted
from tierloom.embedders.retrying import Patience
from tierloom.embedders.submitted_batch import UnderWay
from tierloom.errors import (
    BatchCancelled,
    BatchLost,
    Corrupt,
    EmbedderRefused,
    EmbedderUnavailable,
    TierloomError,
    WaitInterrupted,
)
from tierloom.spending.account import Account
from tierloom.spending.terms import Caps, Spending
from tierloom.stores.local import LocalStore

TEXTS = [f"text {n}" for n in range(12)]
TOKENS = sum(bounds(TEXTS))
THREE = Limits(inputs_per_request=3)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as served:
        yield served
        served.run_out()
        assert not served.violations


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def affords(lane: BatchLane, account: Account, wanted: Iterable[Wanted]) -> bool:
    """Set aside what is due for what is wanted next."""
    return account.set_aside(lane.due(wanted))


class Worker:
    """One run that wants vectors; `slept` takes the seconds that it would have waited."""

    def __init__(
        self,
        server: BatchServer,
        store: LocalStore,
        limits: Limits = THREE,
        slept: list[float] | None = None,
        **members: Any,
    ) -> None:
        self.store = store
        sleep = (slept if slept is not None else []).append
        checkpoint = checkpoint_at(server.base_url, limits=limits)
        self.lane = BatchLane(checkpoint, store, sleep=sleep, patience=Patience(attempts=3), **members)

    def embed(self, texts: Sequence[str] = TEXTS, shard: str = "a", account: Account | None = None) -> Embedded:
        wanted = self.lane.to_send(texts, bounds(texts))
        while (standing := self.lane.standing(wanted)) != "settled":
            if standing == "open":
                assert account is None or affords(self.lane, account, wanted.values())
                self.lane.want(shard, wanted.values())
            if not self.lane.send():
                self.lane.wait()
            self.lane.check()
        embedded = self.lane.embed(texts, bounds(texts))
        self.store.create(names.vector_shard(shard), b"stored")
        self.lane.stored(shard)
        return embedded


@pytest.fixture
def work(server: BatchServer, store: LocalStore) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(**members: Any) -> Worker:
        workers.append(Worker(server, store, **members))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.lane.close()
    assert not list(store.scratch().iterdir())


Begin = Callable[..., Worker]


def assert_nothing_left(server: BatchServer, store: LocalStore) -> None:
    assert not server.files
    assert not list(store.list(names.BATCHES))


def once(then: Reply | None) -> Callable[[], Reply | None]:
    replies = iter([then])
    return lambda: next(replies, None)


def test_vectors_are_joined_whatever_their_order(server: BatchServer, store: LocalStore, work: Begin) -> None:
    embedded = work().embed()
    assert np.array_equal(embedded.vectors, expected(TEXTS))
    assert embedded.rejected == {}
    assert embedded.tokens == TOKENS == server.billed_tokens
    assert len(server.batches) == 1
    assert_nothing_left(server, store)


def test_what_no_model_may_be_sent_is_not_sent(server: BatchServer, work: Begin) -> None:
    worker = work()
    texts = ["fine", "", "\ud800", "x" * 9000]
    wanted = worker.lane.to_send(texts, [4, 0, 3, 9000])
    worker.lane.want("a", wanted.values())
    worker.lane.send()
    assert worker.lane.wait()
    embedded = worker.lane.embed(texts, [4, 0, 3, 9000])
    assert {at: rejection.reason for at, rejection in embedded.rejected.items()} == {
        1: "empty-input",
        2: "invalid-unicode",
        3: "too-many-tokens",
    }
    assert server.billed == {"fine": 1}


def test_the_same_text_is_paid_for_once(server: BatchServer, work: Begin) -> None:
    embedded = work().embed(["twin", "other", "twin"])
    assert np.array_equal(embedded.vectors, expected(["twin", "other", "twin"]))
    assert server.billed == {"twin": 1, "other": 1}


@pytest.mark.parametrize(("inputs", "size"), [(5, 200_000_000), (50_000, 5000), (7, 4700)])
def test_batches_stay_within_the_limits(
    server: BatchServer, store: LocalStore, work: Begin, monkeypatch: pytest.MonkeyPatch, inputs: int, size: int
) -> None:
    monkeypatch.setattr(gathering, "MAX_INPUTS", inputs)
    monkeypatch.setattr(gathering, "MAX_BYTES", size)
    uploaded: list[int] = []

    def measure(call: Call) -> None:
        if call.is_("POST", "/files"):
            _, content = list(server.files.values())[-1]
            uploaded.append(len(content))

    server.after = measure
    texts = [f"{n} " + "long " * 20 for n in range(23)]
    worker = work(at_once=1)
    assert np.array_equal(worker.embed(texts).vectors, expected(texts))
    assert len(server.batches) > 2
    assert all(sum(len(r["body"]["input"]) for r in batch.requests) <= inputs for batch in server.batches.values())
    assert all(length <= max(size - 4096, 600) for length in uploaded)
    assert set(server.billed.values()) == {1}
    assert_nothing_left(server, store)


def test_no_more_batches_are_under_way_than_may_be(
    server: BatchServer, work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_INPUTS", 3)
    told: list[UnderWay] = []
    work(at_once=2, watch=told.append).embed()
    assert max(under_way.batches for under_way in told) == 2
    assert max(under_way.requests for under_way in told) == 2
    assert all((under_way.since is not None) == bool(under_way.batches) for under_way in told)
    assert told[-1].batches == 0


def test_looks_are_ever_farther_apart(server: BatchServer, store: LocalStore) -> None:
    server.looks = 30
    slept: list[float] = []
    worker = Worker(server, store, slept=slept, clock=lambda: 1000.0 + sum(slept))
    worker.embed()
    worker.lane.close()
    assert slept == pytest.approx([min(5.0 * 1.3**n, 60.0) for n in range(30)])


def test_an_input_that_is_refused_costs_its_neighbours_nothing(
    server: BatchServer, store: LocalStore, work: Begin
) -> None:
    server.fate = lambda texts: 400 if "text 4" in texts else "answered"
    embedded = work().embed()
    assert {at: (r.reason, r.detail) for at, r in embedded.rejected.items()} == {
        4: ("refused-by-model", "HTTP 400: refused with 400")
    }
    assert np.array_equal(np.delete(embedded.vectors, 4, 0), np.delete(expected(TEXTS), 4, 0))
    assert server.billed == {text: 1 for text in TEXTS if text != "text 4"} | {gathering.PROBE: 1}
    assert embedded.tokens == server.billed_tokens
    assert len(server.batches) == 2
    assert_nothing_left(server, store)


def test_an_input_alone_is_believed_to_be_bad_where_others_have_vectors(server: BatchServer, work: Begin) -> None:
    server.fate = lambda texts: 422 if texts == ["text 4"] else "answered"
    embedded = work(limits=Limits(inputs_per_request=1)).embed()
    assert list(embedded.rejected) == [4]
    assert len(server.batches) == 1


def test_a_model_that_refuses_everything_is_to_blame_itself(server: BatchServer, work: Begin) -> None:
    server.fate = lambda texts: 400
    with pytest.raises(EmbedderRefused, match="asked for test-model: HTTP 400: refused with 400; so it answers even"):
        work().embed()
    assert server.billed_tokens == 0


def test_a_model_of_other_dimensions_is_refused(server: BatchServer, work: Begin) -> None:
    server.dimensions = 8
    with pytest.raises(EmbedderRefused, match="vectors of 8 dimensions, not 16; so it answers even the one word"):
        work().embed()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_job_that_is_refused_ends(server: BatchServer, work: Begin, status: int) -> None:
    server.fate = lambda texts: status if "text 4" in texts else "answered"
    with pytest.raises(EmbedderRefused, match=f"HTTP {status}"):
        work().embed()


def test_what_expired_is_sent_again_and_the_rest_is_kept(server: BatchServer, store: LocalStore, work: Begin) -> None:
    fates: dict[str, Iterator[Fate]] = {text: iter([]) for text in TEXTS}
    fates |= {"text 0": iter(["expired", "missing"]), "text 6": iter([429, 500])}
    server.fate = lambda texts: next((fate for text in texts for fate in fates.get(text, iter([]))), "answered")
    embedded = work().embed()
    assert np.array_equal(embedded.vectors, expected(TEXTS))
    assert embedded.tokens == server.billed_tokens
    assert [server.billed[text] for text in TEXTS] == [1] * len(TEXTS)
    assert_nothing_left(server, store)


def test_nothing_is_sent_for_ever(server: BatchServer, work: Begin) -> None:
    server.fate = lambda texts: "expired" if "text 4" in texts else "answered"
    with pytest.raises(EmbedderUnavailable, match=r"sent 5 times in batches, and no answer: batch_expired: This"):
        work().embed()
    assert len(server.batches) == SENDINGS
    server.fate = lambda texts: "answered"
    # Another run is another try.
    assert np.array_equal(work().embed().vectors, expected(TEXTS))
    assert [server.billed[text] for text in TEXTS] == [1] * len(TEXTS)


def test_an_input_that_fails_the_server_again_and_again_is_given_up(server: BatchServer, work: Begin) -> None:
    server.fate = lambda texts: 500 if "text 4" in texts else "answered"
    embedded = work().embed()
    assert [(at, r.reason) for at, r in embedded.rejected.items()] == [(4, "no-answer")]
    assert [server.billed[text] for text in TEXTS] == [int(text != "text 4") for text in TEXTS]


def test_vectors_that_may_not_be_stored_are_rejected(server: BatchServer, work: Begin) -> None:
    def spoil(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        bad = items(["text 4"], 16)[0]["embedding"]
        return [item | ({"embedding": [float("nan")] * 16} if item["embedding"] == bad else {}) for item in data]

    server.spoil = spoil
    embedded = work().embed()
    assert [(at, r.reason) for at, r in embedded.rejected.items()] == [(4, "not-finite")]
    assert server.billed == dict.fromkeys(TEXTS, 1)


def test_a_batch_that_is_not_begun_tells_why(server: BatchServer, store: LocalStore, work: Begin) -> None:
    server.queue_tokens = 0
    refused = server._refusal
    server._refusal = lambda batch: refused(batch) and {"code": "bad", "message": "no such model", "line": 3}  # type: ignore[method-assign]
    with pytest.raises(EmbedderRefused, match=r"batch batch_\d+ was refused: bad: no such model \(line 3\)"):
        work().embed()
    assert_nothing_left(server, store)


@pytest.mark.parametrize("room", [60, 150, 1000])
def test_an_account_with_a_small_queue_gets_through_it(
    server: BatchServer, store: LocalStore, work: Begin, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(gathering, "MAX_INPUTS", 40)
    server.queue_tokens = room
    texts = [f"text number {n}" for n in range(100)]
    worker = work(limits=Limits(inputs_per_request=3, tokens_per_request=60, tokens_per_input=60))
    assert np.array_equal(worker.embed(texts).vectors, expected(texts))
    assert server.billed == dict.fromkeys(texts, 1)
    assert_nothing_left(server, store)


def test_a_queue_that_never_empties_is_told(server: BatchServer, work: Begin) -> None:
    server.queue_tokens = 1
    with pytest.raises(EmbedderRefused, match="Enqueued token limit reached"):
        work().embed()


def test_a_cancelled_batch_stops_the_run_and_not_the_next(server: BatchServer, store: LocalStore, work: Begin) -> None:
    server.ending = lambda batch: "cancelled" if batch.id == "batch_2" else None
    server.fate = lambda texts: "missing" if "text 4" in texts and len(server.batches) == 1 else "answered"
    with pytest.raises(BatchCancelled, match=r"batch batch_2 was cancelled .* Run the same command again"):
        work().embed()
    assert np.array_equal(work().embed().vectors, expected(TEXTS))
    assert [server.billed[text] for text in TEXTS] == [1] * len(TEXTS)
    assert_nothing_left(server, store)


def submit_and_stop(work: Begin) -> None:
    """A run that submits its batch and does not live to see the end of it."""
    lane = work().lane
    lane.want("a", lane.to_send(TEXTS, bounds(TEXTS)).values())
    assert lane.send()


def test_a_batch_is_found_by_a_run_that_cuts_otherwise(server: BatchServer, store: LocalStore, work: Begin) -> None:
    submit_and_stop(work)
    second = work()
    for shard, texts in {"b": [*TEXTS[:4], "new"], "c": TEXTS[8:]}.items():
        assert np.array_equal(second.embed(texts, shard).vectors, expected(texts))
    assert server.billed == dict.fromkeys([*TEXTS, "new"], 1)
    # Nobody stored the vector shard that the first run had in mind: what is left may still be wanted.
    assert len(list(store.list(names.BATCHES))) == 1
    assert np.array_equal(work().embed(TEXTS, "a").vectors, expected(TEXTS))
    assert server.billed == dict.fromkeys([*TEXTS, "new"], 1)
    assert_nothing_left(server, store)


def test_a_wait_is_ended_by_ctrl_c(server: BatchServer, store: LocalStore) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    lane = BatchLane(checkpoint_at(server.base_url), store, sleep=interrupt)
    lane.want("a", lane.to_send(TEXTS, bounds(TEXTS)).values())
    lane.send()
    with pytest.raises(WaitInterrupted, match=r"under way and on record: 1\. Run the same command again"):
        lane.wait()
    lane.close()
    assert len(BatchRecords(store).every()) == 1


def test_another_model_has_other_batches(server: BatchServer, store: LocalStore, work: Begin) -> None:
    submit_and_stop(work)
    (record,) = BatchRecords(store).every().values()
    assert record.checkpoint == checkpoint_at(server.base_url).fingerprint
    lane = BatchLane(checkpoint_at(server.base_url, dimensions=8), store)
    assert lane.standing(lane.to_send(TEXTS, bounds(TEXTS))) == "open"
    lane.close()


@pytest.mark.parametrize("lost", ["batch", "answers"])
def test_what_the_provider_lost_is_not_paid_for_unasked(
    server: BatchServer, store: LocalStore, work: Begin, lost: str
) -> None:
    submit_and_stop(work)
    if lost == "batch":
        server.lose_everything()
    else:
        server.before = lambda call: error(404, "No such File object") if call.path.endswith("/content") else None
    (digest,) = BatchRecords(store).every()
    for _ in range(2):
        with pytest.raises(BatchLost, match=rf"batch_2, on record in batches/{digest}.json, .* --forget {digest}"):
            work().embed()
    assert server.made("POST", "/batches") == 1
    assert BatchRecords(store).forget(digest)
    server.before = lambda call: None
    assert np.array_equal(work().embed().vectors, expected(TEXTS))


def test_a_lost_batch_keeps_no_other_from_being_taken(
    server: BatchServer, work: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_INPUTS", 6)
    worker = work()
    lane = worker.lane
    halves = [lane.to_send(half, bounds(half)) for half in (TEXTS[:6], TEXTS[6:])]
    for shard, half in zip("ab", halves, strict=True):
        lane.want(shard, half.values())
        assert lane.send()
    del server.batches[next(iter(server.batches))]
    assert lane.wait()
    assert [lane.standing(half) for half in halves] == ["open", "settled"]
    assert np.array_equal(lane.embed(TEXTS[6:], bounds(TEXTS[6:])).vectors, expected(TEXTS[6:]))
    with pytest.raises(BatchLost):
        lane.check()


def test_an_edited_record_is_refused_by_name(store: LocalStore, work: Begin) -> None:
    submit_and_stop(work)
    (record,) = (store.root / "batches").iterdir()
    record.write_bytes(record.read_bytes().replace(b'"attempt":1', b'"attempt":2'))
    with pytest.raises(Corrupt, match=rf"batches/{record.name}: states sha256"):
        work()


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (error(429, "no money", "insufficient_quota"), EmbedderRefused, "HTTP 429: no money"),
        (error(401, "no such key"), EmbedderRefused, "HTTP 401: no such key"),
        (error(404, "not found"), EmbedderRefused, "is there a Batch API"),
        (error(400, "not a batch file"), EmbedderRefused, "HTTP 400: not a batch file"),
        (error(503, "overloaded"), EmbedderUnavailable, "HTTP 503: overloaded; run the same command again"),
        (BROKEN, EmbedderUnavailable, "disconnected"),
    ],
)
@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_what_cannot_be_submitted_is_told(
    server: BatchServer, work: Begin, path: str, reply: Reply, kind: type[TierloomError], said: str
) -> None:
    server.before = lambda call: reply if call.is_("POST", path) else None
    with pytest.raises(kind, match=said):
        work().embed()
    assert server.billed_tokens == 0


def test_what_was_only_planned_is_looked_for_with_patience(server: BatchServer, store: LocalStore, work: Begin) -> None:
    server.before = lambda call: error(404, "not found") if call.is_("POST", "/batches") else None
    with pytest.raises(EmbedderRefused, match="is there a Batch API"):
        work().embed()
    server.before = lambda call: error(404, "not found")
    with pytest.raises(EmbedderRefused, match="is there a Batch API"):
        work().embed()
    replies = iter([error(503, "?"), None, BROKEN, None, error(404, "gone"), error(503, "?")])
    server.before = lambda call: next(replies, None) if not call.is_("POST", "/") else None
    assert np.array_equal(work().embed().vectors, expected(TEXTS))
    assert next(replies, "asked for all of them") == "asked for all of them"
    assert server.billed == dict.fromkeys(TEXTS, 1)


@pytest.mark.parametrize("reply", [BROKEN, error(500, "?"), error(503, "?")])
def test_a_submission_without_an_answer_is_not_repeated(
    server: BatchServer, store: LocalStore, work: Begin, reply: Reply
) -> None:
    # Of many batches of the account, in pages.
    server.page = 2
    server.queue_tokens = None
    others = [Batch(f"other_{n}", "file", f"other {n}", 0 if n < 5 else 1 << 40, []) for n in range(9)]
    server.batches = {batch.id: batch for batch in others}
    answer = once(reply)
    server.after = lambda call: answer() if call.is_("POST", "/batches") else None
    assert np.array_equal(work().embed().vectors, expected(TEXTS))
    server.run_out()
    assert server.made("POST", "/batches") == 1
    assert server.billed == dict.fromkeys(TEXTS, 1)
    assert_nothing_left(server, store)


def test_an_upload_without_an_answer_leaves_nothing_behind(server: BatchServer, store: LocalStore, work: Begin) -> None:
    answer = once(BROKEN)
    server.after = lambda call: answer() if call.is_("POST", "/files") else None
    work().embed()
    assert server.made("POST", "/files") == 2
    assert_nothing_left(server, store)


def test_a_download_that_breaks_is_repeated(server: BatchServer, work: Begin) -> None:
    answer = once(BROKEN)
    server.before = lambda call: answer() if call.path.endswith("/content") else None
    assert np.array_equal(work().embed().vectors, expected(TEXTS))
    assert server.billed == dict.fromkeys(TEXTS, 1)


def test_a_short_outage_ends_no_wait(server: BatchServer, work: Begin) -> None:
    replies = iter([error(503, "?"), BROKEN])
    server.before = lambda call: next(replies, None) if call.is_("GET", "/batches/") else None
    assert np.array_equal(work().embed().vectors, expected(TEXTS))


def test_a_batch_is_paid_for_before_anything_is_sent(server: BatchServer, store: LocalStore, work: Begin) -> None:
    lane = work(account=Account(Spending(Caps(tokens=TOKENS - 1)))).lane
    wanted = lane.to_send(TEXTS, bounds(TEXTS))
    lane.want("a", wanted.values())
    assert lane.send()
    assert not server.calls
    assert lane.standing(wanted) == "open"
    assert_nothing_left(server, store)


def test_the_bill_takes_the_place_of_the_bound(server: BatchServer, work: Begin) -> None:
    """Whatever becomes of requests: those that failed or expired are free, and sent again they are paid for again."""
    fates: dict[str, Iterator[Fate]] = {"text 0": iter(["expired", "missing"]), "text 6": iter([429, 500])}
    server.fate = lambda texts: next((fate for text in texts for fate in fates.get(text, iter([]))), "answered")
    account = Account(Spending(Caps(tokens=10 * TOKENS)))
    worker = work(account=account)
    embedded = worker.embed(account=account)
    assert embedded.tokens == server.billed_tokens == account.spent().tokens
    assert account._set_aside == 0


def test_what_is_on_record_costs_nothing_again(server: BatchServer, work: Begin) -> None:
    submit_and_stop(work)
    lane = work().lane
    wanted = lane.to_send([*TEXTS, "another", "more"], [*bounds(TEXTS), 7, 4])
    every = list(wanted.values())
    assert lane.due(every) == len("another") + len("more")
    assert lane.due(every[: len(TEXTS)]) == 0
    lane.want("a", every[:-1])
    assert lane.due(every) == len("more")


def test_answers_that_nobody_can_use_stay_counted(server: BatchServer, work: Begin) -> None:
    """They may have been billed, and here they were."""
    spoilt = iter([True])
    server.spoil = lambda data: data[:-1] if next(spoilt, False) else data
    account = Account(Spending(Caps(tokens=10 * TOKENS)))
    worker = work(account=account)
    worker.embed(account=account)
    assert TOKENS < server.billed_tokens <= account.spent().tokens <= server.billed_tokens + 2 * PROBE_TOKENS


def test_a_model_that_bills_more_than_its_bounds_is_believed(server: BatchServer, work: Begin) -> None:
    account = Account(Spending(Caps(tokens=950)))
    worker = work(account=account)
    halves = [tokens // 2 for tokens in bounds(TEXTS)]
    lane = worker.lane
    wanted = lane.to_send(TEXTS, halves)
    assert affords(lane, account, wanted.values())
    lane.want("a", wanted.values())
    others = lane.to_send(["x" * 900], [450])
    assert lane.send()
    assert affords(lane, account, others.values())
    assert lane.wait()
    lane.want("b", others.values())
    # What was set aside before the first bill is too little by it, and is given back.
    assert lane.send()
    assert lane.standing(others) == "open"
    assert not affords(lane, account, others.values())
    assert server.billed_tokens == TOKENS
    assert account.spent().tokens <= TOKENS + 2


def test_the_key_is_in_no_message(server: BatchServer, work: Begin) -> None:
    server.refusing = lambda texts: f"bad key {PLANTED}"
    server.fate = lambda texts: 400 if "text 4" in texts else "answered"
    (rejection,) = work().embed().rejected.values()
    assert rejection.detail == "HTTP 400: bad key [redacted]"
    server.before = lambda call: error(401, f"no such key: {PLANTED}")
    with pytest.raises(EmbedderRefused, match=r"no such key: \[redacted\]"):
        work().embed(["another"], "b")


def test_every_later_sending_has_a_probe(server: BatchServer, work: Begin) -> None:
    fates: Iterator[Fate] = iter(["expired"])
    server.fate = lambda texts: next(fates, "answered")
    work().embed()
    first, second = server.batches.values()
    assert PROBE_ID not in [request["custom_id"] for request in first.requests]
    assert PROBE_ID in [request["custom_id"] for request in second.requests]
