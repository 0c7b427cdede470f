"""A store in a Google Cloud Storage bucket.

Every write carries a generation precondition, so that it is safe to send again, and its crc32c, so that the server
refuses what the network changed. A precondition that fails is not believed at once: the first answer may have
been lost, and the object be our own. `STORAGE_EMULATOR_HOST` is honoured.

https://cloud.google.com/storage/docs/request-preconditions, https://cloud.google.com/storage/docs/retry-strategy
"""

import contextlib
import functools
import io
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

from google.api_core.exceptions import GoogleAPICallError, PreconditionFailed
from google.api_core.exceptions import NotFound as NothingThere
from google.cloud.storage.exceptions import InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException

from tierloom import names
from tierloom.errors import AlreadyExists, NotFound, RevisionMismatch, StoreError, StoreUnavailable
from tierloom.stores.gcs_client import client
from tierloom.stores.gcs_contents import crc32c, holds
from tierloom.stores.gcs_failures import TRY_AGAIN, explained, status
from tierloom.stores.store import Listed, Revision

# What may pass is asked again, with jitter, for this long (two minutes).
RETRY: Final = DEFAULT_RETRY
# One of these is in memory for each upload; larger ones gain nothing, and smaller objects go in one request.
CHUNK_BYTES: Final = 8 << 20

_WRITER: Final = "tierloom-writer"
_RENEWER: Final = "tierloom-renewer"
_NEW_SECONDS: Final = 30.0
# A lost precondition, and all else that the server refuses: uploads raise the one, streams and sessions the other.
_REFUSED: Final = (GoogleAPICallError, InvalidResponse)
# Servers may forget the session of a resumable upload; it then starts over.
_SESSION_LOST: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


@dataclass(frozen=True, slots=True)
class GcsStore:
    """Objects under `gs://bucket/prefix`. A revision is the generation of an object."""

    bucket: str
    prefix: str = ""

    @property
    def url(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def local(self) -> bool:
        return False

    def create(self, name: str, data: bytes) -> None:
        self._create(name, io.BytesIO(data))

    def create_from_file(self, name: str, path: Path) -> None:
        with explained(str(path)), path.open("rb") as stream:
            self._create(name, stream)

    def read(self, name: str) -> bytes:
        return self._download(name)[0]

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`. No checksum covers a part of an object: only its length is sure."""
        if offset < 0 or length < 0:
            raise ValueError(f"{name}: a range of {length} bytes from {offset} is not one")
        data = self._download_range(name, offset, length) if length else self._empty(name)
        if len(data) != length:
            raise StoreError(f"{self._url(name)} ends before byte {offset + length}: {len(data)} bytes from {offset}")
        return data

    def size(self, name: str) -> int | None:
        with self._explained(name):
            found = self._find(name)
            return None if found is None else int(found.size)

    def read_revision(self, name: str) -> tuple[bytes, Revision] | None:
        try:
            data, blob = self._download(name)
        except NotFound:
            return None
        return data, Revision(str(blob.generation))

    def swap(self, name: str, data: bytes, expected: Revision | None) -> Revision:
        """Replace the object if it is still at `expected`.

        The object carries a token of the call that wrote it: by this a call whose answer was lost knows its own
        object. Only when others replaced it before it looked does it report `RevisionMismatch` for a swap that held.
        """
        with self._explained(name):
            blob, token = self._blob(name), secrets.token_hex(16)
            blob.metadata = {_WRITER: token}
            try:
                _upload(blob, io.BytesIO(data), int(expected.mark) if expected else 0)
            except _REFUSED as error:
                found = self._find(name)
                if found is not None and (found.metadata or {}).get(_WRITER) == token:
                    return Revision(str(found.generation))
                if status(error) != HTTPStatus.PRECONDITION_FAILED:
                    raise
                raise RevisionMismatch(
                    f"{self._url(name)} was changed by another writer; read it again and decide anew"
                ) from None
            return Revision(str(blob.generation))

    def renew(self, name: str) -> bool:
        with self._explained(name):
            try:
                return self._renewed(name, retry=None)
            except (GoogleAPICallError, RequestException) as error:
                # An object takes about one change a second: one that was changed just now is as young as it can be.
                if status(error) == HTTPStatus.TOO_MANY_REQUESTS and self._is_new(name):
                    return True
            return self._renewed(name, retry=RETRY)

    def _renewed(self, name: str, retry: Any) -> bool:
        blob = self._blob(name)
        # Other values than before: a patch that changes nothing need not count as one.
        blob.metadata = {_RENEWER: secrets.token_hex(16)}
        try:
            blob.patch(retry=retry)
        except NothingThere:
            _require_bucket(self.bucket)
            return False
        return True

    def _is_new(self, name: str) -> bool:
        found = self._find(name)
        return found is not None and abs(time.time() - found.updated.timestamp()) < _NEW_SECONDS

    def remove(self, listed: Listed) -> bool:
        """Remove an object if neither its generation nor its metageneration has changed since it was listed.

        They are looked at beforehand too: emulators ignore conditions on deletion, and are then not atomic.
        """
        with self._explained(listed.name):
            found = self._find(listed.name)
            if found is None or _mark(found) != listed.mark:
                return False
            conditions = {
                "if_generation_match": found.generation,
                "if_metageneration_match": found.metageneration,
            }
            try:
                found.delete(retry=RETRY, **conditions)
            except (NothingThere, PreconditionFailed):
                return False
            return True

    def list(self, prefix: str) -> Iterator[Listed]:
        if not names.is_safe(f"{prefix}x"):
            raise ValueError(f"{prefix!r} begins no name of an object")
        return self._list(prefix)

    def scratch(self) -> Path:
        """The folder for temporary files: `TMPDIR` moves it to a larger disk."""
        return Path(tempfile.gettempdir())

    def fetch(self, name: str, folder: Path) -> Path:
        """A copy at `folder/name`, downloaded anew, its crc32c verified."""
        target = folder / name
        temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}.tmp")
        with self._explained(name, into=f" into {folder}"):
            blob = self._blob(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._not_found_explained(name):
                    _again(functools.partial(blob.download_to_filename, temporary, checksum="crc32c", retry=RETRY))
                with temporary.open("rb") as stream:
                    self._verify(name, stream, blob)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return target

    def _create(self, name: str, stream: BinaryIO, sessions: int = 2) -> None:
        with self._explained(name):
            try:
                _upload(self._blob(name), stream, 0)
            except _REFUSED as error:
                found = self._find(name)
                if found is None and sessions > 1 and status(error) in _SESSION_LOST:
                    return self._create(name, stream, sessions - 1)
                if found is None:
                    raise
                if not holds(found, stream):
                    raise AlreadyExists(
                        f"{self._url(name)} exists already, with other content; objects are never replaced"
                    ) from None
                if not self.renew(name):
                    return self._create(name, stream)

    def _download(self, name: str) -> tuple[bytes, Any]:
        with self._explained(name), self._not_found_explained(name):
            blob = self._blob(name)
            data: bytes = _again(functools.partial(blob.download_as_bytes, checksum="crc32c", retry=RETRY))
            self._verify(name, io.BytesIO(data), blob)
            return data, blob

    def _download_range(self, name: str, offset: int, length: int) -> bytes:
        """Fewer bytes, or none, where the object ends."""
        with self._explained(name), self._not_found_explained(name):
            try:
                download = functools.partial(self._blob(name).download_as_bytes, start=offset, end=offset + length - 1)
                data: bytes = _again(functools.partial(download, checksum=None, retry=RETRY))
            except _REFUSED as error:
                if status(error) != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
                return b""
            return data

    def _empty(self, name: str) -> bytes:
        """No range header can ask for no bytes."""
        if self.size(name) is None:
            raise NotFound(f"no object {name} in {self.url}")
        return b""

    def _list(self, prefix: str) -> Iterator[Listed]:
        with explained(self.url):
            for blob in client().list_blobs(self.bucket, prefix=self._key(prefix), retry=RETRY):
                name = blob.name.removeprefix(self._key(""))
                if names.is_safe(name):
                    yield Listed(name, blob.size, blob.updated.timestamp(), _mark(blob))

    def _find(self, name: str) -> Any:
        """The object's metadata as the server has them now, or None."""
        found = client().bucket(self.bucket).get_blob(self._key(name), retry=RETRY)
        if found is None:
            _require_bucket(self.bucket)
        return found

    def _verify(self, name: str, stream: BinaryIO, blob: Any) -> None:
        """The library verifies no download that it had to resume, and some it cannot."""
        if crc32c(stream) != blob.crc32c:
            raise StoreUnavailable(f"{self._url(name)}: the bytes that came do not have its crc32c; {TRY_AGAIN}")

    def _blob(self, name: str) -> Any:
        return client().bucket(self.bucket).blob(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _url(self, name: str) -> str:
        return f"gs://{self.bucket}/{self._key(name)}"

    def _explained(self, name: str, into: str = "") -> contextlib.AbstractContextManager[None]:
        if not names.is_safe(name):
            raise ValueError(f"{name!r} is not the name of an object")
        return explained(self._url(name) + into)

    @contextlib.contextmanager
    def _not_found_explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except NothingThere:
            _require_bucket(self.bucket)
            raise NotFound(f"no object {name} in {self.url}") from None


@functools.cache
def _require_bucket(bucket: str) -> None:
    """Tell a missing object from a missing bucket, once. Listing needs no right that reading does without."""
    next(iter(client().list_blobs(bucket, max_results=1, retry=RETRY)), None)


def _again(download: Callable[[], Any]) -> Any:
    """What a download brings. The client does not ask again itself where an answer breaks off in its body."""
    return RETRY(download)()


def _upload(blob: Any, stream: BinaryIO, generation: int) -> None:
    blob.chunk_size = CHUNK_BYTES
    checksum = crc32c(stream)
    blob.upload_from_file(
        stream,
        rewind=True,
        size=stream.seek(0, os.SEEK_END),
        content_type="application/octet-stream",
        if_generation_match=generation,
        checksum="crc32c",
        # Declared beforehand: the server then refuses a corrupt upload, instead of storing it first.
        crc32c_checksum_value=checksum,
        retry=RETRY,
    )


def _mark(found: Any) -> str:
    """What a renewal changes. Emulators count no metagenerations: hence the token too."""
    return f"{found.generation} {found.metageneration} {(found.metadata or {}).get(_RENEWER)}"
