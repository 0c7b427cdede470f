"""What one request, and all of them together, may cost the server."""

import os
from dataclasses import dataclass, field
from pathlib import Path


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Each is an option of `tierloom serve`.

    Of a request: `body_bytes` of its body, `query_characters` of a question, `top` hits, a `shortlist` of so many
    candidates, `batch` queries, `documents` in a filter, and `seconds` from its first byte to its answer. Of all of
    them: `threads` that search and embed, `queue` that wait for one of these, and `requests` that are under way.
    """

    body_bytes: int = 1 << 20
    query_characters: int = 8192
    top: int = 1000
    shortlist: int = 10_000
    batch: int = 64
    documents: int = 1000
    seconds: float = 10.0
    threads: int = field(default_factory=_cores)
    queue: int = 64
    requests: int = 256


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What is served, and how. All times are in seconds.

    `interval` lies between two looks at the channel. `drain` is for how long a server that was told to stop still
    takes requests while `/readyz` sends the next ones elsewhere, `grace` for how long it then waits for those under
    way. A recall canary compares at most one query every `canary` (0: none), and none where more than `canary_chunks`
    are live; the search page shows exact answers up to `exact_chunks`. `token` is never shown.
    """

    store: str
    channel: str
    cache: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    open_metrics: bool = False
    interval: float = 2.0
    drain: float = 1.0
    grace: float = 30.0
    canary: float = 10.0
    canary_chunks: int = 200_000
    exact_chunks: int = 100_000
    limits: Limits = Limits()
