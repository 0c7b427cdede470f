"""A real HTTP server with files and batches like OpenAI's, that shuffles, expires, fails and forgets on request.

A batch gets on with every look at it: it is done after `looks` of them. Vectors and billed tokens are those of
`tests.embedders.endpoint`: each text has its own, and costs its bytes.
"""

import email
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from tests.embedders.endpoint import Reply, error, is_canary, items, tokens_of

# What becomes of a request: it is answered, it expires, no line comes back for it, or it fails with this status.
Fate = Literal["answered", "expired", "missing"] | int
MAX_REQUESTS = 50_000
MAX_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it arrived; `path` without the `/v1`, `number` counts from 0."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def is_(self, method: str, start: str) -> bool:
        return self.method == method and self.path.startswith(start)


@dataclass(slots=True)
class Batch:
    id: str
    file: str
    name: str
    created: int
    requests: list[dict[str, Any]]
    status: str = "in_progress"
    looked_at: int = 0
    output: str | None = None
    errors: str | None = None
    refusal: dict[str, Any] | None = None
    counts: Counter[str] = field(default_factory=Counter)


# Asked for each call: what it returns goes back instead of a proper answer.
Hook = Callable[[Call], Reply | None]
# A connection that breaks instead of an answer.
BROKEN = Reply(status=0)


class BatchServer:
    """The server and what it holds.

    `before` is asked before anything is done for a call, `after` when it is done and not yet answered. `fate` says what
    becomes of a request, by its texts but for canaries; `spoil` spoils the `data` of an answer. With another `revision`
    it is another model. `billed` counts texts but for canaries, whose `canary_tokens` are among the `billed_tokens`.
    """

    def __init__(self, dimensions: int = 16, looks: int = 1, seed: int = 0) -> None:
        self.dimensions = dimensions
        self.looks = looks
        self.before: Hook = lambda call: None
        self.after: Hook = lambda call: None
        self.fate: Callable[[list[str]], Fate] = lambda texts: "answered"
        self.refusing: Callable[[list[str]], str] = lambda texts: ""
        self.spoil: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda data: data
        self.ending: Callable[[Batch], str | None] = lambda batch: None
        self.queue_tokens: int | None = None
        self.page = 100
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, Batch] = {}
        self.calls: list[Call] = []
        self.billed: Counter[str] = Counter()
        self.billed_tokens = 0
        self.canary_tokens = 0
        self.revision = ""
        self.violations: list[str] = []
        self._dice = random.Random(seed)
        self._made = 0
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
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

    def lose_everything(self) -> None:
        """As after a restart without a disk."""
        self.files.clear()
        self.batches.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, nobody is answered."""
        with self._lock:
            yield

    def run_out(self) -> None:
        """Finish every batch, and bill it, whether or not anybody looks."""
        for batch in list(self.batches.values()):
            while batch.status == "in_progress":
                self._look(batch)

    def made(self, method: str, start: str) -> int:
        """How many calls there were of this kind."""
        return sum(call.is_(method, start) for call in self.calls)

    def reply_to(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._lock:
            call = Call(len(self.calls), method, path.removeprefix("/v1"), headers, body)
            self.calls.append(call)
            return self.before(call) or self._answered(call)

    def _answered(self, call: Call) -> Reply:
        at_once = call.is_("POST", "/embeddings")
        reply = _json(self._embeddings(json.loads(call.body))) if at_once else self._proper(call)
        return self.after(call) or reply

    def _proper(self, call: Call) -> Reply:
        parts = call.path.split("?")[0].strip("/").split("/")
        match (call.method, *parts):
            case ("POST", "files"):
                return self._upload(call)
            case ("GET", "files"):
                return _json({"object": "list", "data": [self._file(name) for name in self.files], "has_more": False})
            case ("GET", "files", name, "content") if name in self.files:
                return Reply(body=self.files[name][1], headers={"Content-Type": "application/octet-stream"})
            case ("DELETE", "files", name) if name in self.files:
                del self.files[name]
                return _json({"id": name, "object": "file", "deleted": True})
            case ("POST", "batches"):
                return self._create(json.loads(call.body))
            case ("GET", "batches"):
                return self._list(call.path)
            case ("GET", "batches", name) if name in self.batches:
                return self._look(self.batches[name])
        return error(404, f"No such object: {parts[1] if len(parts) > 1 else call.path}")

    def _upload(self, call: Call) -> Reply:
        message = email.message_from_bytes(
            b"Content-Type: " + call.headers["content-type"].encode() + b"\r\n\r\n" + call.body
        )
        parts: dict[str, Any] = {
            str(part.get_param("name", header="content-disposition")): part
            for part in message.walk()
            if part.get_filename() or not part.is_multipart()
        }
        if parts["purpose"].get_payload().strip() != "batch":
            return self._refuse("purpose is not batch")
        content = parts["file"].get_payload(decode=True)
        if len(content) > MAX_BYTES:
            return self._refuse(f"a file of {len(content)} bytes")
        name = self._store(parts["file"].get_filename(), content)
        return _json(self._file(name))

    def _create(self, asked: dict[str, Any]) -> Reply:
        if asked["input_file_id"] not in self.files:
            return error(404, f"No such File object: {asked['input_file_id']}")
        if asked["endpoint"] != "/v1/embeddings" or asked["completion_window"] != "24h":
            return self._refuse("not this endpoint or window")
        self._made += 1
        requests = [json.loads(line) for line in self.files[asked["input_file_id"]][1].splitlines()]
        batch = Batch(
            f"batch_{self._made}", asked["input_file_id"], asked["metadata"]["tierloom"], int(time.time()), requests
        )
        batch.refusal = self._refusal(batch)
        self.batches[batch.id] = batch
        return _json(self._batch(batch))

    def _refusal(self, batch: Batch) -> dict[str, Any] | None:
        texts = [text for request in batch.requests for text in request["body"]["input"]]
        names = {request["custom_id"] for request in batch.requests}
        if len(texts) > MAX_REQUESTS or len(names) != len(batch.requests):
            self.violations.append(f"{len(texts)} inputs in {len(batch.requests)} requests of {len(names)} names")
            return {"code": "too_many", "message": self.violations[-1], "line": 1}
        queued = sum(_tokens(other) for other in self.batches.values() if other.status == "in_progress")
        if self.queue_tokens is not None and queued + _tokens(batch) > self.queue_tokens:
            message = f"Enqueued token limit reached. Limit: {self.queue_tokens} enqueued tokens."
            return {"code": "token_limit_exceeded", "message": message, "line": None}
        return None

    def _look(self, batch: Batch) -> Reply:
        if batch.status == "in_progress":
            batch.looked_at += 1
            if batch.refusal:
                batch.status = "failed"
            elif batch.looked_at >= self.looks or self.ending(batch):
                self._finish(batch, self.ending(batch))
        return _json(self._batch(batch))

    def _finish(self, batch: Batch, ending: str | None) -> None:
        fates = [self.fate(_documents(request)) for request in batch.requests]
        answered, failed = [], []
        for request, fate in zip(batch.requests, fates, strict=True):
            if fate == "answered":
                answered.append(self._answer(request))
            elif fate != "missing":
                failed.append(_failure(request, fate, self.refusing(_documents(request))))
        batch.status = ending or ("expired" if {"expired", "missing"} & {*map(str, fates)} else "completed")
        batch.counts = Counter(completed=len(answered), failed=len(failed))
        batch.output = self._lines(answered)
        batch.errors = self._lines(failed)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        body = self._embeddings(request["body"])
        return _line(request, {"status_code": 200, "request_id": "r", "body": body}, None)

    def _embeddings(self, asked: dict[str, Any]) -> dict[str, Any]:
        texts = asked["input"]
        tokens = tokens_of(texts)
        documents = [text for text in texts if not is_canary(text)]
        self.billed.update(documents)
        self.billed_tokens += tokens
        self.canary_tokens += tokens - tokens_of(documents)
        return {
            "object": "list",
            "data": self.spoil(items([self.revision + text for text in texts], self.dimensions)),
            "model": asked["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _lines(self, lines: list[dict[str, Any]]) -> str | None:
        if not lines:
            return None
        self._dice.shuffle(lines)
        return self._store("result.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())

    def _list(self, path: str) -> Reply:
        newest = list(reversed(self.batches.values()))
        after = path.partition("after=")[2].partition("&")[0]
        start = next((at + 1 for at, batch in enumerate(newest) if batch.id == after), 0)
        page = newest[start : start + self.page]
        more = start + self.page < len(newest)
        return _json({"object": "list", "data": [self._batch(batch) for batch in page], "has_more": more})

    def _store(self, filename: str, content: bytes) -> str:
        self._made += 1
        name = f"file-{self._made}"
        self.files[name] = (filename, content)
        return name

    def _file(self, name: str) -> dict[str, Any]:
        filename, content = self.files[name]
        members = {"bytes": len(content), "created_at": int(time.time()), "filename": filename, "purpose": "batch"}
        return {"id": name, "object": "file", "status": "processed", **members}

    def _batch(self, batch: Batch) -> dict[str, Any]:
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/embeddings",
            "input_file_id": batch.file,
            "completion_window": "24h",
            "status": batch.status,
            "created_at": batch.created,
            "output_file_id": batch.output,
            "error_file_id": batch.errors,
            "errors": {"object": "list", "data": [batch.refusal]} if batch.status == "failed" else None,
            "metadata": {"tierloom": batch.name},
            "request_counts": {
                "total": len(batch.requests),
                "completed": batch.counts["completed"],
                "failed": batch.counts["failed"],
            },
        }

    def _refuse(self, message: str) -> Reply:
        self.violations.append(message)
        return error(400, message)


def _tokens(batch: Batch) -> int:
    return sum(tokens_of(request["body"]["input"]) for request in batch.requests)


def _documents(request: dict[str, Any]) -> list[str]:
    return [text for text in request["body"]["input"] if not is_canary(text)]


def _line(request: dict[str, Any], response: dict[str, Any] | None, failure: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": failure}


def _failure(request: dict[str, Any], fate: Fate, said: str) -> dict[str, Any]:
    if isinstance(fate, int):
        body = {"error": {"message": said or f"refused with {fate}", "type": "invalid_request_error", "code": None}}
        return _line(request, {"status_code": fate, "request_id": "r", "body": body}, None)
    message = "This request could not be executed before the completion window expired."
    return _line(request, None, {"code": "batch_expired", "message": message})


def _json(value: Any) -> Reply:
    return Reply(body=json.dumps(value).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of many tests."""


def _handler_for(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            raw = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.reply_to(self.command, self.path, headers, raw)
            if reply.status == 0:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names are the base class's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Calls are recorded, not logged."""

    return Handler
