"""Files and batches of an OpenAI-compatible Batch API, through the `openai` client: one call, one request."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import httpx2
import openai
from openai.types import Batch

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.batch_lines import ENDPOINT
from tierloom.embedders.openai_endpoint import api_key, failure_of, open_client, redacted
from tierloom.embedders.retrying import Fault, RequestFailed

T = TypeVar("T")

# The member of a batch's metadata that holds our name of it.
_OUR_NAME: Final = "tierloom"
_PAGE: Final = 100
# Clocks differ; batches made so long before ours was planned are not it.
_SLACK_SECONDS: Final = 3600.0
# As long as an input file is kept anyway.
KEPT_SECONDS: Final = 30 * 86_400
_SHOWN: Final = 500
# An uploaded file is answered when the provider has stored all of it.
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 300.0

_OVER: Final = frozenset({"failed", "completed", "expired", "cancelled"})


class NotThere(RequestFailed):
    """The provider knows no such batch or file."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands at the provider: requests in all, and those `answered` or `failed`. `files` hold what came
    back; `codes` and `said` are the provider's words for why it refused the whole of it."""

    batch: str
    file: str
    status: str
    requests: int
    answered: int
    failed: int
    files: tuple[str, ...]
    codes: frozenset[str]
    said: str

    @property
    def over(self) -> bool:
        return self.status in _OVER


class OpenAIBatches:
    """The Batch API where one checkpoint is served. For one thread; never pickled, for it holds the key.

    All methods raise `RequestFailed`: `NotThere` for what the provider does not know.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises `EmbedderRefused` when there is no usable API key in the environment."""
        self._key = api_key(checkpoint.endpoint)
        self._client = open_client(checkpoint, self._key, _CONNECT_SECONDS, _READ_SECONDS)

    def __getstate__(self) -> object:
        raise TypeError("a Batch API client holds an API key and is never pickled: open it where it is used")

    def upload(self, path: Path, name: str) -> str:
        """Store a file of requests under a name; the id that the provider gives it."""
        with path.open("rb") as file:
            return self._ask(lambda: self._client.files.create(file=(name, file), purpose="batch")).id

    def create(self, file: str, name: str) -> Standing:
        """Submit an uploaded file. `name` is ours, to find the batch by."""
        batch = self._ask(
            lambda: self._client.batches.create(
                input_file_id=file,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={_OUR_NAME: name},
                output_expires_after={"anchor": "created_at", "seconds": KEPT_SECONDS},
            )
        )
        return self._standing(batch)

    def look(self, batch: str) -> Standing:
        """How a batch stands."""
        return self._standing(self._ask(lambda: self._client.batches.retrieve(batch)))

    def find(self, name: str, since: float) -> Standing | None:
        """The batch that was submitted under our `name`, not before `since` (seconds since 1970); None if there is
        none, or the provider refused it."""
        return self._ask(lambda: self._find(name, since - _SLACK_SECONDS))

    def files_named(self, name: str) -> list[str]:
        """The ids of the files of requests that were uploaded under a name."""
        return self._ask(
            lambda: [file.id for file in self._client.files.list(purpose="batch") if file.filename == name]
        )

    def fetch(self, file: str, path: Path) -> None:
        """Write the content of a file to `path`."""
        self._ask(lambda: self._fetch(file, path))

    def delete(self, file: str) -> None:
        """Remove a file."""
        self._ask(lambda: self._client.files.delete(file))

    def redacted(self, text: str) -> str:
        """`text` without the key."""
        return redacted(text, self._key)

    def close(self) -> None:
        self._client.close()

    def _find(self, name: str, since: float) -> Standing | None:
        page = self._client.batches.list(limit=_PAGE)
        while True:
            for batch in page.data:
                if (batch.metadata or {}).get(_OUR_NAME) == name and batch.status != "failed":
                    return self._standing(batch)
            # The newest come first.
            if not page.has_next_page() or all(batch.created_at < since for batch in page.data):
                return None
            page = page.get_next_page()

    def _fetch(self, file: str, path: Path) -> None:
        with self._client.files.with_streaming_response.content(file) as answer:
            _write(answer.iter_bytes(), path)

    def _ask(self, request: Callable[[], T]) -> T:
        outcome = self._outcome(request)
        if isinstance(outcome, RequestFailed):
            # Raised here, not where the client's error was caught: that one may quote the key, and would be chained.
            raise outcome
        return outcome

    def _outcome(self, request: Callable[[], T]) -> T | RequestFailed:
        try:
            return request()
        except openai.OpenAIError as error:
            failure = failure_of(error, self._key)
            missing = isinstance(error, openai.NotFoundError)
            return NotThere(failure.fault, failure.detail) if missing else failure
        except httpx2.HTTPError as error:  # the connection broke in the middle of a file
            return RequestFailed(Fault.UNREACHABLE, self.redacted(f"{type(error).__name__}: {error}"))

    def _standing(self, batch: Batch) -> Standing:
        counts, faults = batch.request_counts, (batch.errors.data if batch.errors else None) or []
        said = "; ".join(
            f"{fault.code}: {fault.message}" + (f" (line {fault.line})" if fault.line else "") for fault in faults
        )
        return Standing(
            batch=batch.id,
            file=batch.input_file_id,
            status=batch.status,
            requests=counts.total if counts else 0,
            answered=counts.completed if counts else 0,
            failed=counts.failed if counts else 0,
            files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
            codes=frozenset(fault.code for fault in faults if fault.code),
            said=self.redacted(" ".join(said.split())[:_SHOWN]),
        )


def _write(content: Iterable[bytes], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(content)
