"""The Batch API with retries: what is asked for in vain is asked for again, and nothing is submitted twice.

Whether a batch exists whose submission got no answer, only the provider knows: it is looked for under our name before
it is submitted again.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tierloom.checkpoint import Checkpoint
from tierloom.embedders.openai_batches import NotThere, OpenAIBatches, Standing
from tierloom.embedders.retrying import Fault, Patience, RequestFailed, retrying
from tierloom.errors import EmbedderError, EmbedderRefused, EmbedderUnavailable

T = TypeVar("T")

_NONE: frozenset[Fault] = frozenset()


class PatientBatches:
    """The Batch API where one checkpoint is served. All methods raise `EmbedderRefused` or `EmbedderUnavailable`, and
    `look` and `lines` raise `NotThere` for a batch or a file that the provider does not know."""

    def __init__(self, checkpoint: Checkpoint, patience: Patience, sleep: Callable[[float], None] | None) -> None:
        """`sleep` takes the place of waiting between attempts. Raises `EmbedderRefused` without a usable API key."""
        self._api = OpenAIBatches(checkpoint)
        self._patience, self._sleep = patience, sleep
        self._over = threading.Event()
        self.who = (
            f"{checkpoint.endpoint.base_url or 'the Batch API of the provider'}, asked for {checkpoint.space.model}"
        )
        self.redacted = self._api.redacted

    def submit(self, path: Path, digest: str, planned: float) -> Standing:
        """Upload a file of requests and make a batch of it."""
        with self._batches_expected():
            file = self._patiently(self._uploading(path, _file_name(digest)))
            return self._patiently(self._creating(file, digest, planned))

    def recover(self, digest: str, planned: float) -> Standing | None:
        """The batch that was submitted under this digest, if it was. If not, what was uploaded for it is removed."""
        with self._batches_expected():
            if (found := self._patiently(lambda: self._api.find(digest, planned))) is None:
                self._patiently(lambda: self._remove_uploads(_file_name(digest)))
            return found

    def look(self, batch: str) -> Standing:
        """How a batch stands."""
        return self._patiently(lambda: self._api.look(batch))

    def lines(self, files: Sequence[str], path: Path) -> Iterator[bytes]:
        """The lines of files, one after the other. Each is fetched whole to `path` before."""
        for name in files:
            self._patiently(lambda name=name: self._api.fetch(name, path))  # type: ignore[misc]
            with path.open("rb") as file:
                yield from file
            path.unlink()

    def delete(self, files: Sequence[str]) -> None:
        """Remove files that nobody needs. What cannot be removed now is left to expire."""
        for file in files:
            with contextlib.suppress(RequestFailed):
                self._api.delete(file)

    def close(self) -> None:
        self._over.set()
        self._api.close()

    def _uploading(self, path: Path, name: str) -> Callable[[], str]:
        tried = False

        def upload() -> str:
            nonlocal tried
            if tried:  # it may be there in part
                self._remove_uploads(name)
            tried = True
            return self._api.upload(path, name)

        return upload

    def _creating(self, file: str, digest: str, planned: float) -> Callable[[], Standing]:
        tried = False

        def create() -> Standing:
            nonlocal tried
            found = self._api.find(digest, planned) if tried else None
            tried = True
            return found or self._api.create(file, digest)

        return create

    def _remove_uploads(self, name: str) -> None:
        for file in self._api.files_named(name):
            with contextlib.suppress(NotThere):
                self._api.delete(file)

    @contextlib.contextmanager
    def _batches_expected(self) -> Iterator[None]:
        try:
            yield
        except NotThere as failure:
            raise EmbedderRefused(
                f"{self.who}: {failure.detail}; is there a Batch API? If not, use --lane requests"
            ) from None

    def _patiently(self, request: Callable[[], T]) -> T:
        try:
            answered: T = retrying(self._patience, _NONE, self._over, self._sleep)(request)
        except NotThere:
            raise
        except RequestFailed as failure:
            raise self._error(failure) from None
        return answered

    def _error(self, failure: RequestFailed) -> EmbedderError:
        if failure.fault in (Fault.REFUSED_JOB, Fault.REFUSED_INPUT):
            return EmbedderRefused(f"{self.who}: {failure.detail}")
        return EmbedderUnavailable(
            f"{self.who}: {failure.detail}; run the same command again: batches that were submitted are on record"
        )


def _file_name(digest: str) -> str:
    return f"tierloom-{digest}.jsonl"
