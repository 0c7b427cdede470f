"""What the server adds to a query: the same searches by the library and over HTTP on loopback, in the same run.

One client asks by vector, one query at a time, without texts, over one connection: at so little work for each, what the
server adds is seen best. Then as many clients as there are threads ask side by side.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import msgspec
import numpy as np
from numpy.typing import NDArray

import tierloom
from benchmarks import corpus
from benchmarks.measuring import in_turn, show, show_claim, sizes
from benchmarks.rerank import publish
from tierloom.stores.local import LocalStore

TOP = 10
SHORTLIST = 200

Query = NDArray[np.float32]
Ask = Callable[[Query], object]


class Client:
    """Asks a server over one connection for each thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._own = threading.local()

    def __call__(self, query: Query) -> object:
        if (connection := getattr(self._own, "connection", None)) is None:
            connection = self._own.connection = HTTPConnection("127.0.0.1", self._port)
        body = msgspec.json.encode({"vector": query.tolist(), "top": TOP, "shortlist": SHORTLIST, "text": False})
        connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = msgspec.json.decode(response.read())
        if response.status != 200:
            raise RuntimeError(answer)
        return answer


@contextmanager
def server(folder: str) -> Iterator[Client]:
    command = [
        sys.executable,
        "-m",
        "pipelines",
        "serve",
        folder,
        "--channel",
        "latest",
        "--port",
        "0",
        "--canary",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            wait_until_ready(port)
            yield Client(port)
        finally:
            process.terminate()


def wait_until_ready(port: int) -> None:
    status = 0
    while status != 200:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()


def each(ask: Ask, queries: Sequence[Query], times: list[float]) -> float:
    """The seconds of all queries, one after the other; those of each go to `times`."""
    began = perf_counter()
    for query in queries:
        started = perf_counter()
        ask(query)
        times.append(perf_counter() - started)
    return perf_counter() - began


def side_by_side(ask: Ask, queries: Sequence[Query], threads: int) -> float:
    began = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, queries))
    return perf_counter() - began


def show_latency(names: tuple[str, str], both: tuple[list[float], list[float]]) -> None:
    show_claim("milliseconds of a query: p50, p99")
    for name, times in zip(names, both, strict=True):
        print(f"  {name:<8}{1000 * median(times):10.3f}{1000 * quantiles(times, n=100)[-1]:10.3f}")
    print(f"  overhead{1000 * (median(both[0]) - median(both[1])):10.3f} ms a query at the median", flush=True)


def main() -> None:
    size = sizes(
        __doc__,
        {"rows": 131_072, "dimensions": 128, "queries": 500, "runs": 5, "threads": 2},
        {"rows": 16_384, "dimensions": 128, "queries": 200, "runs": 3, "threads": 2},
    )
    queries = list(corpus.vectors(size.queries, seed=7))
    with TemporaryDirectory(prefix="tierloom-") as folder:
        publish(LocalStore(Path(folder)), size.rows, 65_536, size.dimensions)
        with tierloom.open(folder) as snapshot, server(folder) as client:
            library = partial(snapshot.search, top=TOP, shortlist=SHORTLIST, describe=False)
            ours, reference = list[float](), list[float]()
            for ask in (client, library):
                each(ask, queries, [])
            alone = in_turn(partial(each, client, queries, ours), partial(each, library, queries, reference), size.runs)
            together = in_turn(
                partial(side_by_side, client, queries, size.threads),
                partial(side_by_side, library, queries, size.threads),
                size.runs,
            )
    where = f"top {TOP} of {SHORTLIST} reranked, {size.rows:,} rows x {corpus.DIMENSIONS}, tier of {size.dimensions}"
    names = ("server", "library")
    show(f"one client: {where}", names, alone, size.queries, "queries", 0)
    show_latency(names, (ours, reference))
    show(f"{size.threads} clients: {where}", names, together, size.queries, "queries", 0)


if __name__ == "__main__":
    main()
