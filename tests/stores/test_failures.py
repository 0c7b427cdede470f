"""Which failures may pass, and which a person must mend."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from requests import ConnectionError as NoConnection
from requests import Timeout

from tierloom.errors import StoreError, StoreUnavailable
from tierloom.stores.file_failures import explained
from tierloom.stores.gcs_failures import may_pass


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ETIMEDOUT, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.EHOSTDOWN, StoreUnavailable),
        (errno.EACCES, StoreError),
        (errno.ENOSPC, StoreError),
        (errno.EROFS, StoreError),
        (errno.EIO, StoreError),
    ],
)
def test_of_files(number: int, kind: type[StoreError]) -> None:
    with pytest.raises(StoreError) as told, explained(Path("/store/a")):
        raise OSError(number, os.strerror(number))
    assert type(told.value) is kind


# Half typed: taken as untyped.
GOOGLE: Any = api
AUTH: Any = auth


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (GOOGLE.ServiceUnavailable("busy"), True),
        (GOOGLE.TooManyRequests("slow down"), True),
        (GOOGLE.InternalServerError("oops"), True),
        (GOOGLE.RetryError("gave up", cause=GOOGLE.ServiceUnavailable("busy")), True),
        (GOOGLE.RetryError("gave up", cause=NoConnection("no route")), True),
        (NoConnection("refused"), True),
        (Timeout("too slow"), True),
        (AUTH.TransportError("no token came"), True),
        (GOOGLE.Forbidden("not yours"), False),
        (GOOGLE.Unauthorized("who are you"), False),
        (GOOGLE.NotFound("no such bucket"), False),
        (GOOGLE.BadRequest("what"), False),
        (GOOGLE.RetryError("gave up", cause=GOOGLE.Forbidden("not yours")), False),
        (AUTH.DefaultCredentialsError("none found"), False),
        (OSError(errno.ENOSPC, "full"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_buckets(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes
