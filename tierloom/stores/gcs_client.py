"""The client of Google Cloud Storage that all stores of a process share."""

import functools
import os
from typing import Any, Final

from google.cloud import storage
from requests.adapters import HTTPAdapter

# The client's own pool holds ten connections, and throws away what more threads open.
CONNECTIONS: Final = 64


@functools.cache
def client() -> Any:
    """The client of this process: one pool of connections for all its stores and threads."""
    # For tracing, the client would ask for each bucket from a thread of its own, traced or not.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    made = storage.Client(project=None)
    # A client certificate comes with an adapter of its own.
    if not getattr(made._http, "is_mtls", False):
        for scheme in ("https://", "http://"):
            made._http.mount(scheme, HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS))
    return made


# Two processes must not share a connection.
os.register_at_fork(after_in_child=client.cache_clear)
