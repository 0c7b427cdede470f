"""The real `openai` client against a real server that misbehaves."""

import json
import logging
import pickle
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.embedders.conftest import KEY_VARIABLE, PLANTED, Opener, bounds, checkpoint_at, expected
from tests.embedders.endpoint import Asked, Endpoint, Reply, answer, error, items
from tierloom.checkpoint import Limits
from tierloom.embedders.embedder import Embedded, PaidInPart
from tierloom.embedders.openai_compatible import PROBE, OpenAICompatibleEmbedder
from tierloom.embedders.retrying import Patience
from tierloom.errors import EmbedderError, EmbedderRefused, EmbedderUnavailable
from tierloom.spending.account import Account
from tierloom.spending.bucket import Bucket
from tierloom.spending.terms import Caps, Spending

TEXTS = [f"text number {i}" for i in range(12)]
HTML = Reply(200, b"<html><title>Sign in to the airport network</title></html>", {"Content-Type": "text/html"})


def embed(embedder: OpenAICompatibleEmbedder, texts: list[str] = TEXTS) -> Embedded:
    return embedder.embed(texts, bounds(texts))


def reasons(embedded: Embedded) -> dict[int, str]:
    return {position: rejection.reason for position, rejection in embedded.rejected.items()}


def assert_all_right_but(embedded: Embedded, texts: list[str], odd: dict[int, str]) -> None:
    assert reasons(embedded) == odd
    for position in set(range(len(texts))) - set(odd):
        assert np.array_equal(embedded.vectors[position], expected([texts[position]])[0])


def first(times: int, reply: Reply) -> Callable[[Asked], Reply | None]:
    return lambda asked: reply if asked.number < times else None


def spoil(change: Callable[[list[dict[str, Any]], list[str]], None]) -> Callable[[Asked], Reply | None]:
    def script(asked: Asked) -> Reply:
        data = items(asked.inputs, 16)
        change(data, asked.inputs)
        return answer(data)

    return script


def all_zero(data: list[dict[str, Any]], inputs: list[str]) -> None:
    for one in data:
        one["embedding"] = [0.0] * 16


def spoil_input(text: str, embedding: Any) -> Callable[[Asked], Reply | None]:
    def change(data: list[dict[str, Any]], inputs: list[str]) -> None:
        if text in inputs:
            data[inputs.index(text)]["embedding"] = embedding

    return spoil(change)


# --- answers as they should be ---


def test_vectors_come_back_in_order_with_the_tokens_billed(endpoint: Endpoint, open_at: Opener) -> None:
    embedded = embed(open_at(endpoint))
    assert embedded.vectors.dtype == np.float32
    assert_all_right_but(embedded, TEXTS, {})
    assert embedded.tokens == sum(bounds(TEXTS)) == endpoint.billed_tokens
    assert endpoint.requests == 1


def test_a_request_asks_for_the_whole_vector_as_base64_with_the_key(endpoint: Endpoint, open_at: Opener) -> None:
    embed(open_at(endpoint), ["one", "two é \x00"])
    (asked,) = endpoint.asked
    assert asked.body == {"model": "test-model", "input": ["one", "two é \x00"], "encoding_format": "base64"}
    assert asked.headers["authorization"] == f"Bearer {PLANTED}"
    assert asked.headers["content-type"] == "application/json"


def test_nothing_to_embed_asks_nothing(endpoint: Endpoint, open_at: Opener) -> None:
    embedded = embed(open_at(endpoint), [])
    assert embedded.vectors.shape == (0, 16)
    assert endpoint.requests == 0


def test_numbers_instead_of_base64_are_read_too(endpoint: Endpoint, open_at: Opener) -> None:
    def script(asked: Asked) -> Reply:
        vectors = expected(asked.inputs)
        return answer([{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)])

    endpoint.script = script
    embedded = embed(open_at(endpoint))
    assert_all_right_but(embedded, TEXTS, {})
    assert embedded.tokens == sum(bounds(TEXTS))


def test_swapped_order_is_put_right_by_the_index(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = spoil(lambda data, inputs: data.reverse())
    assert_all_right_but(embed(open_at(endpoint)), TEXTS, {})


# --- limits and concurrency ---


def test_requests_keep_every_limit(endpoint: Endpoint, open_at: Opener) -> None:
    texts = [f"{i} " + "x" * (37 * i % 90) for i in range(100)]
    endpoint.inputs_per_request, endpoint.tokens_per_request = 7, 200
    embedded = embed(open_at(endpoint, Limits(inputs_per_request=7, tokens_per_request=200)), texts)
    assert_all_right_but(embedded, texts, {})
    assert endpoint.violations == []
    assert set(endpoint.billed.values()) == {1}
    assert embedded.tokens == endpoint.billed_tokens


def test_inputs_that_cannot_be_sent_are_not(endpoint: Endpoint, open_at: Opener) -> None:
    texts = ["fine", "", "\ud800", "y" * 41, "also fine"]
    embedded = open_at(endpoint, Limits(tokens_per_input=40)).embed(texts, [4, 0, 3, 41, 9])
    assert_all_right_but(embedded, texts, {1: "empty-input", 2: "invalid-unicode", 3: "too-many-tokens"})
    assert [asked.inputs for asked in endpoint.asked] == [["fine", "also fine"]]


def test_all_callers_share_the_bound_and_reach_it(endpoint: Endpoint, open_at: Opener) -> None:
    full = threading.Barrier(3)

    def script(asked: Asked) -> None:
        full.wait(10)  # only three requests under way at once let each other through

    endpoint.script, endpoint.delay_seconds = script, 0.02  # long enough to see a fourth request
    embedder = open_at(endpoint, Limits(inputs_per_request=1), concurrency=3)
    blocks = [[f"{block} {i}" for i in range(6)] for block in range(4)]
    with ThreadPoolExecutor(4) as callers:
        for block, embedded in zip(blocks, callers.map(lambda texts: embed(embedder, texts), blocks), strict=True):
            assert_all_right_but(embedded, block, {})
    assert endpoint.most_under_way == 3


def test_callers_that_all_bisect_do_not_lock_each_other_out(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(400, "bad") if any("poison" in text for text in asked.inputs) else None
    embedder = open_at(endpoint, concurrency=2)
    blocks = [[f"{block} {i}" for i in range(5)] + [f"poison {block}"] for block in range(6)]
    with ThreadPoolExecutor(6) as callers:
        for block, embedded in zip(blocks, callers.map(lambda texts: embed(embedder, texts), blocks), strict=True):
            assert_all_right_but(embedded, block, {5: "refused-by-model"})


# --- what is tried again ---


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_passing_failure_is_survived(endpoint: Endpoint, open_at: Opener, status: int) -> None:
    endpoint.script = first(4, error(status, "later"))
    assert_all_right_but(embed(open_at(endpoint)), TEXTS, {})
    assert endpoint.requests == 5
    assert len(open_at.slept) == 4


@pytest.mark.parametrize(("header", "seconds"), [({"Retry_After": "20"}, 20.0), ({"retry_after_ms": "2500"}, 2.5)])
def test_retry_after_is_honoured(endpoint: Endpoint, open_at: Opener, header: dict[str, str], seconds: float) -> None:
    endpoint.script = first(2, error(429, "slow down", "rate_limit_exceeded", **header))
    assert_all_right_but(embed(open_at(endpoint)), TEXTS, {})
    assert len(open_at.slept) == 2
    assert all(seconds <= waited <= seconds + 1 for waited in open_at.slept)


def test_a_broken_connection_is_survived_once_the_endpoint_answered(endpoint: Endpoint, open_at: Opener) -> None:
    embedder = open_at(endpoint)
    embed(embedder, ["warm up"])
    broken = 5

    def script(asked: Asked) -> None:
        if asked.number <= broken:
            raise ConnectionAbortedError

    endpoint.script = script
    assert_all_right_but(embed(embedder), TEXTS, {})
    assert endpoint.requests == broken + 2


def test_an_endpoint_that_was_never_there_is_given_up_soon(open_at: Opener) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(EmbedderUnavailable, match=r"127\.0\.0\.1.*refused"):
            embed(open_at(address))
    assert len(open_at.slept) == Patience().brief_attempts - 1


def test_an_endpoint_that_stays_busy_is_unavailable(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(429, "overloaded", "rate_limit_exceeded")
    with pytest.raises(EmbedderUnavailable, match="HTTP 429: overloaded"):
        embed(open_at(endpoint, patience=Patience(attempts=4)))
    assert endpoint.requests == 4


def test_an_endpoint_that_stays_down_is_unavailable_and_blames_no_input(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(503, "maintenance")
    with pytest.raises(EmbedderUnavailable, match="HTTP 503: maintenance"):
        embed(open_at(endpoint, patience=Patience(attempts=4)))
    assert endpoint.requests == 8


def test_no_answer_in_time_is_tried_again(endpoint: Endpoint, open_at: Opener) -> None:
    done = threading.Event()

    def script(asked: Asked) -> None:
        if asked.number == 0:
            done.wait(20)

    endpoint.script = script
    try:
        assert_all_right_but(embed(open_at(endpoint, read_seconds=0.6)), TEXTS, {})
    finally:
        done.set()
    assert endpoint.requests == 2


def test_a_slow_endpoint_works(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.delay_seconds = 0.05
    assert_all_right_but(embed(open_at(endpoint, Limits(inputs_per_request=2))), TEXTS, {})


# --- what stops the job at once ---


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(error(401, f"Incorrect API key provided: {PLANTED}.", "invalid_api_key"), id="401"),
        pytest.param(error(402, "Insufficient balance"), id="402"),
        pytest.param(error(403, "Country not supported"), id="403"),
        pytest.param(error(404, "The model `test-model` does not exist", "model_not_found"), id="404"),
        pytest.param(error(429, "You exceeded your current quota", "insufficient_quota"), id="quota"),
        pytest.param(error(307, "moved", Location="http://elsewhere/v1/embeddings"), id="redirect"),
    ],
)
def test_a_refusal_is_final_at_once(endpoint: Endpoint, open_at: Opener, reply: Reply) -> None:
    endpoint.script = lambda asked: reply
    embedder = open_at(endpoint)
    message = json.loads(reply.body)["error"]["message"].replace(PLANTED, "[redacted]")
    with pytest.raises(EmbedderRefused) as refused:
        embed(embedder)
    assert message in str(refused.value)
    assert endpoint.requests == 1
    with pytest.raises(EmbedderRefused) as again:
        embed(embedder)
    assert str(again.value) == str(refused.value)
    assert endpoint.requests == 1


def test_a_refusal_wakes_the_requests_that_wait(endpoint: Endpoint) -> None:
    """No injected sleep here: the request told to wait a minute ends when another one is refused."""
    told_to_wait = threading.Event()

    def script(asked: Asked) -> Reply:
        if asked.inputs == ["waits"]:
            told_to_wait.set()
            return error(429, "slow down", Retry_After="60")
        told_to_wait.wait(10)
        return error(401, "no")

    endpoint.script = script
    embedder = OpenAICompatibleEmbedder(checkpoint_at(endpoint.base_url), concurrency=2)
    with ThreadPoolExecutor(2) as callers:
        waits, refused = (callers.submit(embed, embedder, [text]) for text in ("waits", "refused"))
        for future in (waits, refused):
            assert isinstance(future.exception(20), EmbedderRefused)
    embedder.close()


def test_a_closed_embedder_refuses(endpoint: Endpoint, open_at: Opener) -> None:
    embedder = open_at(endpoint)
    embedder.close()
    with pytest.raises(EmbedderRefused, match="closed"):
        embed(embedder)


def test_a_model_of_other_dimensions_is_refused(open_at: Opener) -> None:
    with Endpoint(dimensions=12) as other, pytest.raises(EmbedderRefused, match="12 dimensions, not 16") as refused:
        embed(open_at(other))
    assert "test-model" in str(refused.value)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(lambda asked: error(400, "unknown parameter encoding_format"), id="400"),
        pytest.param(spoil(all_zero), id="zero"),
    ],
)
def test_what_is_refused_of_every_input_is_no_fault_of_theirs(
    endpoint: Endpoint, open_at: Opener, script: Callable[[Asked], Reply | None]
) -> None:
    endpoint.script = script
    with pytest.raises(EmbedderRefused, match=f"one word '{PROBE}'"):
        embed(open_at(endpoint))
    assert endpoint.requests == 2


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(HTML, id="html"),
        pytest.param(Reply(200, b'{"object": "list", "da'), id="cut"),
        pytest.param(answer([]), id="empty list"),
        pytest.param(Reply(200, b'{"error": {"message": "upstream"}}'), id="error as 200"),
    ],
)
def test_an_endpoint_without_a_usable_answer_is_unavailable(endpoint: Endpoint, open_at: Opener, reply: Reply) -> None:
    endpoint.script = lambda asked: reply
    with pytest.raises(EmbedderUnavailable) as unavailable:
        embed(open_at(endpoint))
    assert reply.headers["Content-Type"] in str(unavailable.value)
    assert reply.body[:10].decode() in str(unavailable.value)
    assert endpoint.requests == 2 * Patience().brief_attempts


def test_a_captive_portal_in_the_middle_makes_no_dead_letters(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: HTML if asked.number > 2 else None
    with pytest.raises(EmbedderUnavailable, match=r"text/html.*airport"):
        embed(open_at(endpoint, Limits(inputs_per_request=2), concurrency=1))


# --- one bad input among good ones ---


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_refused_input_alone_is_rejected(endpoint: Endpoint, open_at: Opener, status: int) -> None:
    texts = [f"t{i}" for i in range(100)]
    poison = {3, 64, 99}
    endpoint.script = lambda asked: (
        error(status, f"cannot take this, {PLANTED}") if {texts[i] for i in poison} & set(asked.inputs) else None
    )
    embedded = embed(open_at(endpoint), texts)
    assert_all_right_but(embedded, texts, dict.fromkeys(poison, "refused-by-model"))
    assert embedded.rejected[3].detail == f"HTTP {status}: cannot take this, [redacted]"
    assert {text for text, times in endpoint.billed.items() if times > 1} <= {PROBE}
    assert embedded.tokens == endpoint.billed_tokens
    assert open_at.slept == []


def test_a_refused_request_is_never_sent_again_unchanged(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(400, "no") if TEXTS[5] in asked.inputs else None
    embed(open_at(endpoint))
    refused = [tuple(asked.inputs) for asked in endpoint.asked if TEXTS[5] in asked.inputs]
    assert len(refused) == len(set(refused))
    assert len(refused) > 1


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        pytest.param([float("nan")] * 16, "not-finite", id="nan"),
        pytest.param([float("inf")] + [0.0] * 15, "not-finite", id="inf"),
        pytest.param([1e6] + [0.0] * 15, "float16-overflow", id="1e6"),
        pytest.param([0.0] * 16, "zero-norm", id="zero"),
        pytest.param([1.0] * 15, "wrong-dimensions", id="dimensions"),
    ],
)
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[4:5]], ids=["among others", "alone"])
def test_a_vector_that_cannot_be_stored_costs_its_input_alone(
    endpoint: Endpoint, open_at: Opener, embedding: list[float], reason: str, texts: list[str]
) -> None:
    endpoint.script = spoil_input(TEXTS[4], embedding)
    embedded = embed(open_at(endpoint), texts)
    assert_all_right_but(embedded, texts, {texts.index(TEXTS[4]): reason})
    times = [asked.inputs for asked in endpoint.asked].count(texts)
    assert times == 1


@pytest.mark.parametrize("embedding", ["AACAPw", "AACAPwA=", None, "not base64!"])
def test_an_input_that_always_spoils_the_answer_is_rejected_alone(
    endpoint: Endpoint, open_at: Opener, embedding: str | None
) -> None:
    endpoint.script = spoil_input(TEXTS[7], embedding)
    embedded = embed(open_at(endpoint))
    assert_all_right_but(embedded, TEXTS, {7: "malformed-answer"})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data.pop(), id="short list"),
        pytest.param(lambda data: data[0].update(index=1), id="index twice"),
        pytest.param(lambda data: data[0].pop("index"), id="no index"),
        pytest.param(lambda data: data[0].update(embedding=data[0]["embedding"][:-3]), id="base64 cut short"),
    ],
)
def test_an_answer_malformed_once_is_asked_for_again(
    endpoint: Endpoint, open_at: Opener, change: Callable[[list[dict[str, Any]]], None]
) -> None:
    def script(asked: Asked) -> Reply | None:
        data = items(asked.inputs, 16)
        change(data)
        return answer(data) if asked.number == 0 else None

    endpoint.script = script
    assert_all_right_but(embed(open_at(endpoint)), TEXTS, {})
    assert endpoint.requests == 2


def test_an_input_that_always_fails_the_server_is_rejected_alone(endpoint: Endpoint, open_at: Opener) -> None:
    endpoint.script = lambda asked: error(500, "crashed") if TEXTS[2] in asked.inputs else None
    embedded = embed(open_at(endpoint))
    assert_all_right_but(embedded, TEXTS, {2: "no-answer"})
    assert embedded.rejected[2].detail == "HTTP 500: crashed"


# --- the key ---


def test_a_missing_key_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(EmbedderRefused, match=KEY_VARIABLE):
        OpenAICompatibleEmbedder(checkpoint_at(None))


def test_a_named_endpoint_needs_no_key(endpoint: Endpoint, open_at: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    assert_all_right_but(embed(open_at(endpoint)), TEXTS, {})
    assert endpoint.asked[0].headers["authorization"] == "Bearer none"


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f"{PLANTED}\N{EM DASH}")
    with pytest.raises(EmbedderRefused, match=KEY_VARIABLE) as refused:
        OpenAICompatibleEmbedder(checkpoint_at(None))
    assert PLANTED not in str(refused.value)


def test_the_key_is_stripped(endpoint: Endpoint, open_at: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f" {PLANTED}\n")
    embed(open_at(endpoint))
    assert endpoint.asked[0].headers["authorization"] == f"Bearer {PLANTED}"


IN_BODIES = [
    pytest.param(error(401, f"Incorrect API key provided: {PLANTED}"), id="401"),
    pytest.param(error(400, f"bad {PLANTED}"), id="400"),
    pytest.param(error(503, f"bad {PLANTED}"), id="503"),
    pytest.param(Reply(500, f"<pre>Bearer {PLANTED}</pre>".encode()), id="500 as text"),
    pytest.param(Reply(200, f"<html>{PLANTED}".encode(), {"Content-Type": "text/html"}), id="html"),
]
IN_HEADERS = [
    pytest.param(Reply(200, b"<html>", {"Content-Type": f"text/{PLANTED}"}), id="content type"),
    pytest.param(error(302, "x", Location=f"http://elsewhere/?key={PLANTED}"), id="redirect"),
]


@pytest.mark.parametrize("reply", IN_BODIES + IN_HEADERS)
def test_a_key_that_the_server_repeats_is_in_no_message_or_chain(
    endpoint: Endpoint, open_at: Opener, reply: Reply
) -> None:
    endpoint.script = lambda asked: reply
    with pytest.raises(EmbedderError, match="redacted") as raised:
        embed(open_at(endpoint, patience=Patience(attempts=2)))
    assert PLANTED not in "".join(traceback.format_exception(raised.value))
    link: BaseException | None = raised.value
    while link is not None:
        assert PLANTED not in f"{link!r} {link.args!r}"
        link = link.__cause__ or link.__context__


@pytest.mark.parametrize("reply", IN_BODIES)
def test_the_key_is_in_no_log_of_any_level(
    endpoint: Endpoint, open_at: Opener, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.script = lambda asked: reply if asked.number else None
    embedder = open_at(endpoint, patience=Patience(attempts=2))
    embed(embedder)
    with pytest.raises(EmbedderError):
        embed(embedder)
    assert "Sending HTTP Request" in caplog.text
    assert PLANTED not in caplog.text


def test_the_key_is_in_no_repr_and_no_pickle(endpoint: Endpoint, open_at: Opener) -> None:
    embedder = open_at(endpoint)
    assert PLANTED not in repr(embedder) + repr(vars(embedder))
    with pytest.raises(TypeError):
        pickle.dumps(embedder)


# --- what a run may spend, and how fast ---


def test_what_the_cap_does_not_allow_is_not_sent_and_the_rest_is_kept(endpoint: Endpoint, open_at: Opener) -> None:
    account = Account(Spending(Caps(tokens=sum(bounds(TEXTS[:4])))))
    embedder = open_at(endpoint, Limits(inputs_per_request=2), concurrency=1, account=account)
    with pytest.raises(PaidInPart, match="leaves 8 of 12 inputs") as raised:
        embed(embedder)
    paid = raised.value
    assert endpoint.billed_tokens == paid.embedded.tokens == sum(bounds(TEXTS[:4]))
    assert len(paid.unpaid) == 8
    for position in set(range(12)) - paid.unpaid:
        assert np.array_equal(paid.embedded.vectors[position], expected([TEXTS[position]])[0])
    assert paid.embedded.rejected == {}


def test_retries_and_probes_count(endpoint: Endpoint, open_at: Opener) -> None:
    def script(asked: Asked) -> Reply | None:
        return answer(items(asked.inputs, 16)[:-1], 100) if len(asked.inputs) > 1 else None

    endpoint.script = script
    account = Account(Spending(Caps(tokens=10_000)))
    embed(open_at(endpoint, account=account), TEXTS[:2])
    # Three answers for the two were of no use; then came the probe, and each of the two alone.
    assert account.spent().tokens == 3 * sum(bounds(TEXTS[:2])) + len(PROBE) + sum(bounds(TEXTS[:2]))


@pytest.mark.parametrize("reply", [error(429, "slow down"), error(400, "bad")])
def test_what_was_surely_not_billed_is_free_again(endpoint: Endpoint, open_at: Opener, reply: Reply) -> None:
    endpoint.script = first(1, reply)
    account = Account(Spending(Caps(tokens=10_000)))
    embed(open_at(endpoint, account=account))
    assert account.spent().tokens == endpoint.billed_tokens


def test_a_connection_that_never_came_about_is_free(open_at: Opener) -> None:
    account = Account(Spending(Caps(tokens=10_000)))
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(EmbedderUnavailable):
        embed(open_at(f"http://127.0.0.1:{port}/v1", account=account))
    assert account.spent().tokens == 0


def test_a_retry_after_pauses_the_workers_that_were_not_told(
    endpoint: Endpoint, open_at: Opener, tmp_path: Path
) -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    spending = Spending(folder=str(tmp_path))
    told, other = (Account(spending, Bucket(spending, lambda: now[0])) for _ in range(2))
    endpoint.script = first(1, error(429, "slow down", Retry_After="30"))
    with pytest.raises(EmbedderUnavailable):
        embed(open_at(endpoint, patience=Patience(attempts=1), account=told))
    embed(open_at(endpoint, account=other, sleep=sleep))
    assert slept == [30.0]


def test_requests_are_small_enough_for_a_minute(endpoint: Endpoint, open_at: Opener) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    spending = Spending(tokens_per_minute=500)
    account = Account(spending, Bucket(spending, lambda: now[0]))
    embed(open_at(endpoint, account=account, sleep=sleep, concurrency=1))
    assert max(sum(bounds(asked.inputs)) for asked in endpoint.asked) <= 50
    # The first fifty tokens are free, the others flow in.
    assert now[0] == pytest.approx((endpoint.billed_tokens - 50) / (451 / 60), rel=0.1)


def test_a_wait_for_the_turn_ends_when_the_embedder_is_closed(endpoint: Endpoint) -> None:
    account = Account(Spending(requests_per_minute=1))
    embedder = OpenAICompatibleEmbedder(checkpoint_at(endpoint.base_url), account=account)
    embed(embedder)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(embed, embedder)
        embedder.close()
        with pytest.raises(EmbedderRefused, match="closed"):
            waiting.result(timeout=30)
    assert account.spent().tokens == endpoint.billed_tokens


def test_the_authorities_are_read_once(open_at: Opener, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[None]()
    plain = ssl.SSLContext.load_verify_locations
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *given: read.append(plain(*given)))
    for _ in range(3):
        open_at(endpoint).close()
    assert len(read) <= 1
