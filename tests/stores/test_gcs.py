"""The contract on a bucket of a real server, and what a network can do wrong."""

import contextlib
import os
import re
import resource
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from tests.engines.gcs_server import GcsBucket
from tests.stores.contract import StoreContract
from tests.stores.faulty_network import (
    Answer,
    Fault,
    answer_with,
    cut_answer,
    lose_answer,
    lose_request,
    none,
    with_body,
)
from tierloom.errors import AlreadyExists, PreconditionsIgnored, RevisionMismatch, StoreError, StoreUnavailable
from tierloom.stores import gcs, gcs_client
from tierloom.stores.gcs import GcsStore
from tierloom.stores.probing import probe_preconditions
from tierloom.stores.store import Store

pytestmark = pytest.mark.engine


class TestGcsStore(StoreContract):
    @pytest.fixture
    def store(self, gcs_bucket: GcsBucket) -> Store:
        self.bucket = gcs_bucket
        return GcsStore(gcs_bucket.name, "some/prefix")

    @pytest.fixture
    def other_store(self, gcs_bucket: GcsBucket) -> Store:
        return GcsStore(gcs_bucket.name, "other")

    def raw_put(self, store: Store, name: str, data: bytes) -> None:
        self.bucket.put(f"some/prefix/{name}", data)

    def raw_get(self, store: Store, name: str) -> bytes:
        return self.bucket.get(f"some/prefix/{name}")


SMALL = b"small" * 1000
# Three requests of a resumable upload.
LARGE = bytes(range(256)) * (20 << 12)


class FaultyNetwork(HTTPAdapter):
    """What stands between client and server. Each upload, download or renewal meets the next of the faults."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault] = []
        self.urls: list[str] = []

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        assert request.url
        answer: Answer = lambda request: super(FaultyNetwork, self).send(request, *arguments, **options)  # noqa: E731
        if "/upload/" not in request.url and "alt=media" not in request.url and request.method != "PATCH":
            return answer(request)
        self.urls.append(request.url)
        return self.faults.pop(0)(request, answer) if self.faults else answer(request)


def change_request(request: PreparedRequest, answer: Answer) -> Response:
    assert isinstance(request.body, bytes)
    request.body = request.body.replace(b"smallsmall", b"smellsmall", 1)
    return answer(request)


def change_answer(request: PreparedRequest, answer: Answer) -> Response:
    response = answer(request)
    return with_body(response, response.content[:-1] + bytes([response.content[-1] ^ 1]))


def shorten_answer(request: PreparedRequest, answer: Answer) -> Response:
    """The server itself sends less, and says so."""
    response = answer(request)
    half = len(response.content) // 2
    response.headers["Content-Length"] = str(half)
    return with_body(response, response.content[:half])


def drop_precondition(request: PreparedRequest, answer: Answer) -> Response:
    """As a proxy that knows only some parameters."""
    assert request.url
    request.url, dropped = re.subn("&ifGenerationMatch=0", "", request.url)
    assert dropped
    return answer(request)


def meanwhile(deed: Callable[[], object], fault: Fault = none) -> Fault:
    """Something happens while the request is on its way."""

    def delayed(request: PreparedRequest, answer: Answer) -> Response:
        deed()
        return fault(request, answer)

    return delayed


@pytest.fixture
def network(gcs_bucket: GcsBucket, monkeypatch: pytest.MonkeyPatch) -> FaultyNetwork:
    network = FaultyNetwork()
    gcs_client.client()._http.mount(gcs_bucket.endpoint, network)
    monkeypatch.setattr(gcs, "RETRY", gcs.RETRY.with_delay(initial=0.001, maximum=0.01))
    return network


@pytest.fixture
def store(gcs_bucket: GcsBucket) -> GcsStore:
    return GcsStore(gcs_bucket.name)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_creator_whose_answer_was_lost_knows_its_object(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork, data: bytes
) -> None:
    network.faults = [*[none] * (3 if data is LARGE else 0), lose_answer]
    store.create("a", data)
    # The last one renews what it finds to be its own.
    assert len(network.urls) == (6 if data is LARGE else 3)
    assert gcs_bucket.get("a") == data


@pytest.mark.parametrize("fault", [none, lose_answer, answer_with(503)])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_rival_that_was_faster_is_found(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork, data: bytes, fault: Fault
) -> None:
    network.faults = [meanwhile(lambda: gcs_bucket.put("a", bytes(len(data))), fault)]
    with pytest.raises(AlreadyExists, match=f"gs://{gcs_bucket.name}/a exists already"):
        store.create("a", data)
    assert gcs_bucket.get("a") == bytes(len(data))


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_server_that_is_busy_is_asked_again(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork, data: bytes
) -> None:
    network.faults = [answer_with(503), answer_with(429), answer_with(500)]
    store.create("a", data)
    network.faults = [answer_with(503), answer_with(408), answer_with(504)]
    assert store.read("a") == data


def test_an_object_that_was_changed_just_now_need_not_be_renewed(store: GcsStore, network: FaultyNetwork) -> None:
    store.create("a", SMALL)
    before = next(store.list("a"))
    network.faults = [answer_with(429)]
    assert store.renew("a")
    assert next(store.list("a")).mark == before.mark


@pytest.mark.parametrize("fault", [answer_with(503), lose_request, lose_answer])
def test_an_object_is_renewed_though_the_network_fails(store: GcsStore, network: FaultyNetwork, fault: Fault) -> None:
    store.create("a", SMALL)
    before = next(store.list("a"))
    network.faults = [fault]
    assert store.renew("a")
    assert next(store.list("a")).mark != before.mark


def test_an_upload_session_that_was_forgotten_starts_over(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork
) -> None:
    network.faults = [none, none, answer_with(410)]
    store.create("a", LARGE)
    assert gcs_bucket.get("a") == LARGE


def test_a_server_that_stays_busy_is_a_store_error(
    store: GcsStore, network: FaultyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "RETRY", gcs.RETRY.with_timeout(0.05))
    network.faults = [answer_with(503)] * 1000
    with pytest.raises(
        StoreUnavailable, match=r"/a: kept failing .* 503 Service Unavailable \(said the server\); .*try again"
    ):
        store.create("a", SMALL)


def test_a_corrupt_upload_is_never_stored(store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork) -> None:
    network.faults = [change_request]
    with pytest.raises(StoreError, match="/a: 400 Bad Request"):
        store.create("a", SMALL)
    network.faults = [none, change_request]
    with pytest.raises(StoreError, match="/a: "):
        store.create("a", SMALL * 2000)
    assert gcs_bucket.keys() == []


def test_a_corrupt_download_is_refused(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork, tmp_path: Path
) -> None:
    gcs_bucket.put("a", SMALL)
    network.faults = [change_answer]
    with pytest.raises(StoreError, match="/a: "):
        store.read("a")
    network.faults = [change_answer]
    with pytest.raises(StoreError, match=r"/a into .*: "):
        store.fetch("a", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_was_cut_is_resumed_and_verified(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork, tmp_path: Path
) -> None:
    gcs_bucket.put("a", SMALL * 100)
    network.faults = [cut_answer]
    assert store.read("a") == SMALL * 100
    network.faults = [cut_answer]
    assert store.fetch("a", tmp_path).read_bytes() == SMALL * 100
    network.faults = [cut_answer, change_answer]
    with pytest.raises(StoreError, match="/a: the bytes that came do not have its crc32c"):
        store.read("a")


def test_a_range_is_whole_or_refused(store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork) -> None:
    gcs_bucket.put("a", SMALL)
    network.faults = [cut_answer]
    assert store.read_range("a", 10, 100) == SMALL[10:110]
    network.faults = [shorten_answer]
    with pytest.raises(StoreError, match="/a ends before byte 110: 50 bytes from 10"):
        store.read_range("a", 10, 100)


def test_a_swapper_whose_answer_was_lost_knows_its_object(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork
) -> None:
    network.faults = [lose_answer]
    first = store.swap("a", b"1", None)
    network.faults = [lose_answer]
    second = store.swap("a", b"2", first)
    assert store.read_revision("a") == (b"2", second)


def test_a_swapper_takes_no_rival_for_itself(store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork) -> None:
    """Not even one that wrote the same."""
    rival = GcsStore(gcs_bucket.name)
    first = store.swap("a", b"1", None)
    network.faults = [meanwhile(lambda: rival.swap("a", b"2", first), none)]
    with pytest.raises(RevisionMismatch, match=f"gs://{gcs_bucket.name}/a"):
        store.swap("a", b"2", first)


def test_a_server_that_ignores_preconditions_is_refused(
    store: GcsStore, gcs_bucket: GcsBucket, network: FaultyNetwork
) -> None:
    probe_preconditions(store)
    network.faults = [drop_precondition] * 2
    with pytest.raises(PreconditionsIgnored, match=f"gs://{gcs_bucket.name} lets an object be replaced"):
        probe_preconditions(store)
    assert gcs_bucket.keys() == []


def test_a_missing_bucket_is_no_missing_object(gcs_bucket: GcsBucket, tmp_path: Path) -> None:
    store = GcsStore("no-such-bucket")
    file = tmp_path / "file"
    file.write_bytes(b"")
    attempts: list[Callable[[], object]] = [
        lambda: store.read("a"),
        lambda: store.read_range("a", 0, 1),
        lambda: store.size("a"),
        lambda: store.read_revision("a"),
        lambda: store.create("a", b""),
        lambda: store.create_from_file("a", file),
        lambda: store.swap("a", b"", None),
        lambda: store.fetch("a", tmp_path),
        lambda: list(store.list("")),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=r"no-such-bucket.*404 Not Found.*create the bucket") as caught:
            attempt()
        assert type(caught.value) is StoreError


@pytest.mark.parametrize(
    ("status", "cure"),
    [(401, "credentials.* gcloud auth"), (403, r"403 Forbidden \(said the server\); .*roles/storage.objectUser")],
)
def test_a_refusal_names_the_object_and_the_cure(
    store: GcsStore, network: FaultyNetwork, status: int, cure: str
) -> None:
    network.faults = [answer_with(status)] * 2
    for attempt in (lambda: store.create("a", b""), lambda: store.read("a")):
        with pytest.raises(StoreError, match=f"/a: .*{cure}"):
            attempt()


def test_missing_credentials_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    gcs_client.client.cache_clear()
    with pytest.raises(StoreError, match=r"gs://bucket/a: .*credentials were not found.*gcloud auth"):
        GcsStore("bucket").read("a")


def test_the_url_of_an_upload_session_is_told_to_nobody(store: GcsStore, network: FaultyNetwork) -> None:
    network.faults = [none, none, answer_with(403)]
    with pytest.raises(StoreError) as caught:
        store.create("a", LARGE)
    session = next(url.partition("upload_id=")[2] for url in network.urls if "upload_id=" in url)
    assert session
    assert session not in "".join(traceback.format_exception(caught.value))


def test_a_full_disk_stops_a_fetch_and_leaves_nothing(store: GcsStore, gcs_bucket: GcsBucket, tmp_path: Path) -> None:
    gcs_bucket.put("a", SMALL)
    with _largest_file(len(SMALL) // 2), pytest.raises(StoreError, match=f"/a into {tmp_path}: File too large; free"):
        store.fetch("a", tmp_path)
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def _largest_file(length: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_forked_process_makes_its_own_client(store: GcsStore) -> None:
    store.create("a", b"1")
    child = os.fork()
    if child == 0:
        os._exit(gcs_client.client.cache_info().currsize or store.read("a") != b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_threads_share_the_connections(
    store: GcsStore, gcs_bucket: GcsBucket, caplog: pytest.LogCaptureFixture
) -> None:
    gcs_bucket.put("a", SMALL)
    with ThreadPoolExecutor(32) as threads:
        read = list(threads.map(lambda offset: store.read_range("a", offset, 10), range(320)))
    assert read == [SMALL[offset : offset + 10] for offset in range(320)]
    assert "Connection pool is full" not in caplog.text
