"""Why the system refused to read or write a file, and what helps."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tierloom.errors import NotFound, StoreError, StoreUnavailable

_FULL: Final = "free some space there, or choose a larger disk"
_DENIED: Final = "let this user read and write there, or choose another folder"
_NO_LINKS: Final = "a store needs one file system with hard links; choose a folder on such a one"
# Of file systems of the network.
_PASSING: Final = frozenset(
    (errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH)
)
_CURES: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EROFS: _DENIED,
    errno.EPERM: _NO_LINKS,
    errno.EXDEV: _NO_LINKS,
    errno.EOPNOTSUPP: _NO_LINKS,
    errno.EMLINK: _NO_LINKS,
    errno.ENOTDIR: "a file stands where a folder is needed; choose another folder",
    errno.EEXIST: "a file stands where a folder is needed; choose another folder",
    errno.ELOOP: "an object is never a symbolic link; put the file itself there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def may_pass(error: OSError) -> bool:
    """Whether it may succeed later, with nothing changed."""
    return error.errno in _PASSING


def describe(error: OSError) -> str:
    """The reason and the cure, in one line."""
    cure = _CURES.get(error.errno or 0, "see that its disk is there and whole")
    return f"{error.strerror or error}; {cure}"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a `StoreError` that names the path and the cure."""
    try:
        yield
    except OSError as error:
        culprit = error.filename or path
        where = f"{path}" if str(culprit) == str(path) else f"{path} (at {culprit})"
        kind = StoreUnavailable if may_pass(error) else StoreError
        raise kind(f"{where}: {describe(error)}") from error


@contextlib.contextmanager
def gone_is_not_found(name: str) -> Iterator[None]:
    """Raise `NotFound` where an object's file was removed between `Store.fetch` and its opening."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"no object {name}: {error.filename} was removed meanwhile") from error
