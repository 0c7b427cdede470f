"""Requests that carry a canary: a model that changes is noticed at once, and whatever else happens is as without."""

import json
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.embedders.conftest import bounds, checkpoint_at, expected
from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error, is_canary, items
from tierloom.canaries import LONGEST_TEXT, canary_texts, kept_canaries
from tierloom.canary_check import CanaryCheck, check_model
from tierloom.checkpoint import Checkpoint, Limits
from tierloom.embedders.embedder import Embedded
from tierloom.embedders.openai_compatible import PROBE, OpenAICompatibleEmbedder
from tierloom.embedders.retrying import Patience
from tierloom.errors import EmbedderRefused, InputError, ModelChanged
from tierloom.stores.local import LocalStore

TEXTS = [f"text number {i}" for i in range(12)]
# A canary takes no more tokens than this.
LONGEST = LONGEST_TEXT


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


class Opened:
    """An embedder with the canaries of its checkpoint, recorded at the endpoint; what came before is forgotten."""

    def __init__(self, endpoint: Endpoint, store: LocalStore) -> None:
        self._endpoint = endpoint
        self._store = store
        self._open: list[OpenAICompatibleEmbedder] = []

    def __call__(self, limits: Limits | None = None, concurrency: int = 4) -> OpenAICompatibleEmbedder:
        checkpoint = checkpoint_at(self._endpoint.base_url, limits=limits)
        check_model(self._store, checkpoint)
        self._endpoint.asked.clear()
        self._endpoint.billed_tokens = self._endpoint.canary_tokens = self._endpoint.requests = 0
        embedder = OpenAICompatibleEmbedder(
            checkpoint,
            concurrency,
            Patience(),
            connect_seconds=20.0,
            sleep=lambda _: None,
            canaries=lambda: kept_canaries(self._store, checkpoint),
        )
        self._open.append(embedder)
        return embedder

    def close(self) -> None:
        for embedder in self._open:
            embedder.close()


@pytest.fixture
def opened(endpoint: Endpoint, store: LocalStore) -> Iterator[Opened]:
    opener = Opened(endpoint, store)
    yield opener
    opener.close()


def embed(embedder: OpenAICompatibleEmbedder, texts: list[str] = TEXTS) -> Embedded:
    return embedder.embed(texts, bounds(texts))


def assert_right(embedded: Embedded, texts: list[str] = TEXTS) -> None:
    assert embedded.rejected == {}
    assert np.array_equal(embedded.vectors, expected(texts))


def test_every_request_carries_one_canary_and_all_is_billed(endpoint: Endpoint, opened: Opened) -> None:
    embedded = embed(opened(Limits(inputs_per_request=5)))
    assert_right(embedded)
    assert [len(asked.documents) for asked in endpoint.asked] == [4, 4, 4]
    assert all(len(asked.inputs) == 5 and is_canary(asked.inputs[-1]) for asked in endpoint.asked)
    assert len({asked.inputs[-1] for asked in endpoint.asked}) == 3
    assert embedded.tokens == endpoint.billed_tokens
    assert endpoint.billed_tokens - endpoint.canary_tokens == sum(bounds(TEXTS))


def test_the_canaries_take_turns(endpoint: Endpoint, opened: Opened) -> None:
    embedder = opened()
    for _ in range(2 * len(canary_texts())):
        embed(embedder, ["one"])
    assert Counter(asked.inputs[-1] for asked in endpoint.asked) == dict.fromkeys(canary_texts(), 2)


@pytest.mark.parametrize("tokens", [2 * LONGEST, 2 * LONGEST + 1, 200, 1000])
@pytest.mark.parametrize("inputs", [1, 2, 3, 2048])
def test_requests_stay_within_the_limits(endpoint: Endpoint, opened: Opened, inputs: int, tokens: int) -> None:
    endpoint.inputs_per_request, endpoint.tokens_per_request = inputs, tokens
    texts = ["x" * length for length in (1, 40, 60, 2 * LONGEST, LONGEST, 3, 90)]
    embedded = embed(opened(Limits(inputs_per_request=inputs, tokens_per_request=tokens)), texts)
    assert_right(embedded, texts)
    assert endpoint.violations == []
    # What could carry none is followed by one.
    assert is_canary(endpoint.asked[-1].inputs[-1]) or all(is_canary(asked.inputs[-1]) for asked in endpoint.asked)


def test_one_input_a_request_costs_one_canary_a_call(endpoint: Endpoint, opened: Opened) -> None:
    embedder = opened(Limits(inputs_per_request=1))
    assert_right(embed(embedder))
    assert len(endpoint.asked) == len(TEXTS) + 1
    endpoint.revision = "2"
    with pytest.raises(ModelChanged):
        embed(embedder)


def test_nothing_is_asked_or_read_for_nothing(endpoint: Endpoint, opened: Opened, store: LocalStore) -> None:
    embedder = opened()
    for path in store.root.rglob("*.canaries.json"):
        path.unlink()
    assert embed(embedder, []).tokens == 0
    assert list(embed(embedder, [""]).rejected) == [0]
    assert endpoint.requests == 0
    with pytest.raises(InputError, match="keeps no canaries"):
        embed(embedder)
    assert endpoint.requests == 0


def cut_and_padded(asked: Asked) -> Reply:
    data = items(asked.inputs, 16)
    for item, short in zip(data, items(asked.inputs, 4), strict=True):
        item["embedding"] = [*_numbers(short), *[0.0] * 12]
    return answer(data)


def reversed_dimensions(asked: Asked) -> Reply:
    data = items(asked.inputs, 16)
    for item in data:
        item["embedding"] = _numbers(item)[::-1]
    return answer(data)


def another_prompt(asked: Asked) -> Reply:
    return answer(items([f"query: {text}" for text in asked.inputs], 16))


def another_revision(asked: Asked) -> Reply:
    return answer(items([f"v2 {text}" for text in asked.inputs], 16))


def without_a_direction(asked: Asked) -> Reply:
    """Of canaries alone: whatever the probe says, vectors beside them cannot be trusted."""
    data = items(asked.inputs, 16)
    for item, text in zip(data, asked.inputs, strict=True):
        if is_canary(text):
            item["embedding"] = [0.0] * 16
    return answer(data)


def _numbers(item: dict[str, Any]) -> list[float]:
    return list(map(float, np.frombuffer(b64decode(item["embedding"]), "<f4")))


@pytest.mark.parametrize(
    "script", [cut_and_padded, reversed_dimensions, another_prompt, another_revision, without_a_direction]
)
def test_another_model_is_noticed_by_the_next_request(
    endpoint: Endpoint, opened: Opened, script: Callable[[Asked], Reply]
) -> None:
    embedder = opened()
    assert_right(embed(embedder))
    endpoint.script = script
    with pytest.raises(ModelChanged, match=r"test-model"):
        embed(embedder)
    # Where the canary had no vector it was asked for again, as any answer that is none.
    assert len(endpoint.asked) <= 1 + (Patience().brief_attempts if script is without_a_direction else 1)
    asked = len(endpoint.asked)
    endpoint.script = None
    # It is over: nothing is asked any more, by nobody.
    with pytest.raises(ModelChanged):
        embed(embedder)
    assert len(endpoint.asked) == asked


def test_the_error_says_which_model_and_what_to_do(endpoint: Endpoint, opened: Opened) -> None:
    embedder = opened()
    endpoint.revision = "2"
    with pytest.raises(ModelChanged) as raised:
        embed(embedder)
    message = str(raised.value)
    canary = endpoint.asked[-1].inputs[-1]
    for said in (
        "test-model",
        endpoint.base_url,
        "cosine ",
        repr(canary),
        "0.99",
        "tierloom reembed",
        "Bring that model",
    ):
        assert said in message
    assert "\n" not in message


def test_every_thread_is_told_that_the_model_changed(endpoint: Endpoint, opened: Opened) -> None:
    """Whatever was answered before is right, and of what comes after nothing is handed out."""
    embedder, lock, outcomes = opened(Limits(inputs_per_request=3), concurrency=4), threading.Lock(), []

    def change(asked: Asked) -> None:
        if asked.number == 20:
            endpoint.revision = "2"

    endpoint.script = change

    def work(block: int) -> None:
        texts = [f"{block} {text}" for text in TEXTS]
        try:
            found = embed(embedder, texts)
        except ModelChanged:
            return
        with lock:
            outcomes.append((texts, found))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(40)))
    assert 0 < len(outcomes) <= 3
    for texts, found in outcomes:
        assert_right(found, texts)


def test_a_bad_input_is_found_and_a_canary_never_is_one(endpoint: Endpoint, opened: Opened) -> None:
    endpoint.script = lambda asked: error(400, "no") if TEXTS[7] in asked.inputs else None
    embedded = embed(opened())
    assert {at: found.reason for at, found in embedded.rejected.items()} == {7: "refused-by-model"}
    others = [at for at in range(len(TEXTS)) if at != 7]
    assert np.array_equal(embedded.vectors[others], expected([TEXTS[at] for at in others]))
    assert embedded.tokens == endpoint.billed_tokens
    assert all(is_canary(asked.inputs[-1]) or asked.inputs == [PROBE] for asked in endpoint.asked)


def test_inputs_without_a_vector_beside_a_sound_canary_are_theirs_alone(endpoint: Endpoint, opened: Opened) -> None:
    def spoil(asked: Asked) -> Reply | None:
        data = items(asked.inputs, 16)
        for item, text in zip(data, asked.inputs, strict=True):
            if text in TEXTS:
                item["embedding"] = [None] * 16
        return answer(data, 7)

    endpoint.script = spoil
    embedded = embed(opened())
    assert {found.reason for found in embedded.rejected.values()} == {"not-finite"}
    assert len(embedded.rejected) == len(TEXTS)


def test_one_answer_without_the_canary_is_asked_for_again(endpoint: Endpoint, opened: Opened) -> None:
    embedder = opened()
    first = endpoint.requests
    endpoint.script = lambda asked: without_a_direction(asked) if asked.number == first else None
    assert_right(embed(embedder))
    assert len(endpoint.asked) == 2
    assert endpoint.asked[0].inputs[-1] != endpoint.asked[1].inputs[-1]


def test_a_request_that_fails_is_sent_again_with_a_canary(endpoint: Endpoint, opened: Opened) -> None:
    embedder = opened()
    endpoint.script = lambda asked: error(503, "busy") if asked.number < 3 else None
    assert_right(embed(embedder))
    assert [is_canary(asked.inputs[-1]) for asked in endpoint.asked] == [True] * 4


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_a_noisy_endpoint_is_the_same_model(endpoint: Endpoint, opened: Opened, noise: float) -> None:
    endpoint.noise = noise
    embedder = opened()
    for _ in range(200):
        assert embed(embedder, ["one"]).rejected == {}


class TestTheCheck:
    """What runs do first, and `tierloom canary`."""

    @staticmethod
    def check(endpoint: Endpoint, store: LocalStore, record: bool = True) -> CanaryCheck:
        return check_model(store, checkpoint_of(endpoint), record=record)

    def test_the_first_one_records_and_the_others_compare(self, endpoint: Endpoint, store: LocalStore) -> None:
        first = self.check(endpoint, store)
        assert (first.recorded, first.state, first.tokens) == (True, "same", endpoint.billed_tokens)
        kept = (store.root / f"checkpoints/{checkpoint_of(endpoint).fingerprint}.canaries.json").read_bytes()
        second = self.check(endpoint, store)
        assert (second.recorded, second.state, second.minimum, second.median) == (False, "same", 1.0, 1.0)
        assert first.tokens + second.tokens == endpoint.canary_tokens == endpoint.billed_tokens
        endpoint.revision = "2"
        third = self.check(endpoint, store)
        assert third.state == "changed"
        assert (store.root / f"checkpoints/{checkpoint_of(endpoint).fingerprint}.canaries.json").read_bytes() == kept

    def test_without_leave_nothing_is_recorded_or_asked(self, endpoint: Endpoint, store: LocalStore) -> None:
        with pytest.raises(InputError, match="--record"):
            self.check(endpoint, store, record=False)
        assert endpoint.requests == 0
        assert list(store.list("")) == []

    def test_one_that_is_refused_now_is_another_model(self, endpoint: Endpoint, store: LocalStore) -> None:
        self.check(endpoint, store)
        endpoint.script = lambda asked: error(400, "no poultry") if "one apple a day" in asked.inputs else None
        check = self.check(endpoint, store)
        assert check.worst(1) == [("one apple a day", -1.0)]
        with pytest.raises(ModelChanged, match=r"no poultry.*'one apple a day'"):
            check.refuse_changed()

    def test_one_that_was_always_refused_is_left_out(self, endpoint: Endpoint, store: LocalStore) -> None:
        endpoint.script = lambda asked: error(400, "no poultry") if "one apple a day" in asked.inputs else None
        assert len(self.check(endpoint, store).canaries.texts) == 63
        assert self.check(endpoint, store).state == "same"

    def test_a_model_that_takes_hardly_any_is_refused(self, endpoint: Endpoint, store: LocalStore) -> None:
        few = canary_texts()[:20]
        endpoint.script = lambda asked: error(400, "no") if set(asked.inputs) - {*few, PROBE} else None
        with pytest.raises(EmbedderRefused, match="vectors for 20 of 64 plain short texts"):
            self.check(endpoint, store)
        assert list(store.list("")) == []

    def test_two_that_record_at_the_same_time_agree(self, endpoint: Endpoint, store: LocalStore) -> None:
        both = threading.Barrier(2)

        def together(asked: Asked) -> None:
            if asked.number < 2:
                both.wait(20)

        endpoint.script = together
        # Or equal answers would be one and the same object.
        endpoint.noise = 1e-5
        with ThreadPoolExecutor(2) as pool:
            checks = list(pool.map(lambda _: self.check(endpoint, store), range(2)))
        assert sorted(check.recorded for check in checks) == [False, True]
        assert {check.state for check in checks} == {"same"}
        assert checks[0].canaries == checks[1].canaries
        assert sum(check.tokens for check in checks) == endpoint.billed_tokens

    def test_an_edited_object_costs_nothing(self, endpoint: Endpoint, store: LocalStore) -> None:
        self.check(endpoint, store)
        path = store.root / f"checkpoints/{checkpoint_of(endpoint).fingerprint}.canaries.json"
        members = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(members | {"recorded": "yesterday"}), encoding="utf-8")
        asked = endpoint.requests
        with pytest.raises(Exception, match=r"checkpoints/.*\.canaries\.json.*nothing was paid for"):
            self.check(endpoint, store)
        assert endpoint.requests == asked


def checkpoint_of(endpoint: Endpoint) -> Checkpoint:
    return checkpoint_at(endpoint.base_url)
