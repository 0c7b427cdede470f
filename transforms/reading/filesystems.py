"""Local and Google Cloud Storage files through one interface: `pyarrow.fs`."""

import os
from datetime import timedelta
from functools import lru_cache
from typing import Final

import pyarrow as pa
from pyarrow import fs

GCS: Final = "gs://"
_RETRY: Final = timedelta(seconds=60)


def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of `uri`, and the path that it is called there."""
    if uri.startswith(GCS):
        return _gcs(os.environ.get("STORAGE_EMULATOR_HOST", "")), uri.removeprefix(GCS)
    return fs.LocalFileSystem(), uri


def open_file(uri: str) -> pa.NativeFile:
    """The file, for random access. Raises `OSError`."""
    filesystem, path = filesystem_of(uri)
    return filesystem.open_input_file(path)


def file_info(uri: str) -> fs.FileInfo:
    """Type, size and time of change of the file; of type `NotFound` if there is none. Raises `OSError`."""
    filesystem, path = filesystem_of(uri)
    return filesystem.get_file_info(path)


@lru_cache(maxsize=2)
def _gcs(emulator: str) -> fs.FileSystem:
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=_RETRY)
    scheme, _, host = emulator.rpartition("://")
    return fs.GcsFileSystem(
        anonymous=True, scheme=scheme or "http", endpoint_override=host.rstrip("/"), retry_time_limit=_RETRY
    )
