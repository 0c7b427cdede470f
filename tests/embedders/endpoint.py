"""A real HTTP server that answers like an OpenAI-compatible `POST /v1/embeddings`, and misbehaves on request.

In tests: `with Endpoint(dimensions=64) as endpoint: ... endpoint.base_url`. For benchmarks, as its own process:

    python tests/embedders/endpoint.py --port 0 --dimensions 768 --delay-ms 50 --table 4096

prints its base URL on the first line and serves until its standard input closes or it is terminated.

Vectors depend on the text alone and fall off in size like those of a Matryoshka model. Billed tokens are the
bytes of the texts, so that `utf8-bytes` bounds are exact, or what a test counts.
"""

import argparse
import hashlib
import json
import sys
import threading
import time
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from tierloom.canaries import canary_texts


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived. `number` counts from 0; `body` is the parsed JSON, `headers` in lower case."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def inputs(self) -> list[str]:
        texts: list[str] = self.body["input"]
        return texts

    @property
    def documents(self) -> list[str]:
        """The inputs, but for canaries."""
        return [text for text in self.inputs if not is_canary(text)]


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back instead of a proper answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


Script = Callable[[Asked], Reply | None]


def vector_of(text: str, dimensions: int) -> NDArray[np.float32]:
    """The vector of `text`: float32 (dimensions,), unit norm, the same in every process."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return _vector_of_seed(seed, dimensions)


def is_canary(text: str) -> bool:
    """Whether this is a canary, with whatever prompt before it."""
    return text.endswith(canary_texts())


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI words it; header names are given with underscores."""
    body = msgspec.json.encode({"error": {"message": message, "code": code, "type": code, "param": None}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json", **named})


def items(texts: list[str], dimensions: int) -> list[dict[str, Any]]:
    """The `data` of a proper answer, to be spoilt by a script."""
    encoded = [_encoded(vector_of(text, dimensions)) for text in texts]
    return [{"object": "embedding", "index": i, "embedding": vector.decode()} for i, vector in enumerate(encoded)]


def answer(data: list[dict[str, Any]], tokens: int | None = None) -> Reply:
    """An answer with this `data`, of status 200. NaN and infinities are written as Python's json does."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return Reply(body=json.dumps({"object": "list", "data": data, **usage}).encode())


class Endpoint:
    """The server, and what it saw.

    `script` is asked first, for every request, and may sleep or block. Proper answers carry base64 if that was
    asked for, else numbers. With another `revision` the model is another one; `noise` is the mean cosine
    distance of two answers to one text. Requests beyond the limits get a 400 and are noted in `violations`. `billed`
    counts texts but for canaries, whose tokens are among the `billed_tokens`; `document_requests` are those that were
    billed and held more than canaries.
    """

    def __init__(
        self,
        dimensions: int = 64,
        script: Script | None = None,
        delay_seconds: float = 0.0,
        inputs_per_request: int = 2048,
        tokens_per_request: int = 300_000,
        table: int = 0,
        port: int = 0,
        recording: bool = True,
        count: Callable[[list[str]], int] | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.script = script
        self.delay_seconds = delay_seconds
        self.inputs_per_request = inputs_per_request
        self.tokens_per_request = tokens_per_request
        self.recording = recording
        self.count = count or tokens_of
        self.revision = ""
        self.noise = 0.0
        self.asked: list[Asked] = []
        self.billed: Counter[str] = Counter()
        self.billed_tokens = 0
        self.canary_tokens = 0
        self.requests = 0
        self.document_requests = 0
        self.violations: list[str] = []
        self.most_under_way = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._table = [_encoded(_vector_of_seed(seed, dimensions)) for seed in range(table)]
        self._server = _Server(("127.0.0.1", port), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply_to(self, path: str, headers: Mapping[str, str], raw: bytes) -> Reply:
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
            self._under_way += 1
            self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            return self._reply(Asked(number, path, headers, msgspec.json.decode(raw)))
        finally:
            with self._lock:
                self._under_way -= 1

    def _reply(self, asked: Asked) -> Reply:
        if self.recording:
            self.asked.append(asked)
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        scripted = self.script(asked) if self.script else None
        if scripted is not None:
            return scripted
        if not asked.path.endswith("/embeddings"):
            return error(404, f"no such path: {asked.path}")
        return self._refusal(asked) or self._proper(asked)

    def _refusal(self, asked: Asked) -> Reply | None:
        inputs, tokens = len(asked.inputs), self.count(asked.inputs)
        if inputs <= self.inputs_per_request and tokens <= self.tokens_per_request and all(asked.inputs):
            return None
        message = f"{inputs} inputs of {tokens} tokens, or an empty one, are more than one request may hold"
        self.violations.append(message)
        return error(400, message)

    def _proper(self, asked: Asked) -> Reply:
        tokens = self.count(asked.inputs)
        with self._lock:
            self.billed_tokens += tokens
            self.canary_tokens += tokens - self.count(asked.documents)
            self.document_requests += bool(asked.documents)
            if self.recording:
                self.billed.update(asked.documents)
        if asked.body.get("encoding_format") != "base64":
            numbers = [self._vector_of(text).tolist() for text in asked.inputs]
            return answer([{"index": i, "embedding": vector} for i, vector in enumerate(numbers)], tokens)
        vectors = [self._base64_of(text) for text in asked.inputs]
        data = b",".join(
            b'{"object":"embedding","index":%d,"embedding":"%s"}' % (i, vector) for i, vector in enumerate(vectors)
        )
        usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        return Reply(body=b'{"object":"list","data":[%s],"model":"test","usage":%s}' % (data, usage))

    def _base64_of(self, text: str) -> bytes:
        if not self._table:
            return _encoded(self._vector_of(text))
        return self._table[zlib.crc32(text.encode()) % len(self._table)]

    def _vector_of(self, text: str) -> NDArray[np.float32]:
        vector = vector_of(self.revision + text, self.dimensions)
        if not self.noise:
            return vector
        error = np.random.default_rng().standard_normal(self.dimensions) * np.sqrt(2 * self.noise / self.dimensions)
        noisy: NDArray[np.float32] = (vector + error).astype(np.float32)
        return noisy


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of many tests."""


def _handler_for(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = endpoint.reply_to(self.path, headers, raw)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Requests are recorded, not logged."""

    return Handler


@lru_cache(maxsize=100_000)
def _vector_of_seed(seed: int, dimensions: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(dimensions) / np.sqrt(1.0 + np.arange(dimensions))
    unit: NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
    unit.flags.writeable = False
    return unit


def _encoded(vector: NDArray[np.float32]) -> bytes:
    return b64encode(vector.astype("<f4").tobytes())


def tokens_of(texts: list[str]) -> int:
    """The bytes of the texts."""
    return sum(len(text.encode()) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--table", type=int, default=0, help="answer from this many vectors, made beforehand")
    options = parser.parse_args()
    endpoint = Endpoint(
        options.dimensions,
        delay_seconds=options.delay_ms / 1000,
        table=options.table,
        port=options.port,
        recording=False,
    )
    with endpoint:
        print(endpoint.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
