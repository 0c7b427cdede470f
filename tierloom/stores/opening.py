"""From what a user calls a store to the store itself."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from tierloom.errors import InputError, MissingExtra
from tierloom.stores.local import LocalStore
from tierloom.stores.store import Store

_ACCEPTED: Final = "a store is a folder or gs://bucket/prefix"
# One letter alone is left to paths; `gs:/bucket` is a slip of the pen and no folder.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def open_store(url: str) -> Store:
    """The store at a folder's path, a `file://` URL or `gs://bucket/prefix`. Asks nothing of it yet.

    Raises `InputError` for anything else, `MissingExtra` for a bucket where its client is not installed.
    """
    if not url or "\0" in url:
        raise InputError(f"{url!r} is no store; {_ACCEPTED}")
    match = _SCHEME.match(url)
    if match is None:
        return LocalStore(Path(url))
    if url.startswith("gs://"):
        return _open_bucket(url)
    if url.startswith("file://"):
        return LocalStore(_folder_of(url))
    raise InputError(f"{url!r} has the scheme {match[1]!r}; {_ACCEPTED}")


def _folder_of(url: str) -> Path:
    host, slash, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not path:
        raise InputError(f"{url!r} names no folder of this machine; write file:///path or the path alone")
    return Path(slash + unquote(path))


def _open_bucket(url: str) -> Store:
    bucket, _, prefix = url.removeprefix("gs://").partition("/")
    prefix = prefix.removesuffix("/")
    if not _BUCKET.fullmatch(bucket) or (prefix and "" in prefix.split("/")):
        raise InputError(f"{url!r} names no bucket and prefix; write gs://bucket or gs://bucket/prefix")
    try:
        # Optional: only who names a bucket needs its client, and it takes a second to load.
        from tierloom.stores.gcs import GcsStore
    except ImportError as error:
        raise MissingExtra("gcs", f"the store {url}") from error
    return GcsStore(bucket, prefix)
