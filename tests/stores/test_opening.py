"""What a user may call a store."""

import subprocess
import sys
from pathlib import Path

import pytest

from tierloom.errors import InputError
from tierloom.stores.local import LocalStore
from tierloom.stores.opening import open_store


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "{}/", "file://{}/"])
def test_a_folder_is_a_local_store(form: str, tmp_path: Path) -> None:
    store = open_store(form.format(tmp_path))
    assert isinstance(store, LocalStore)
    assert store.url == str(tmp_path)


def test_a_file_url_is_unquoted(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/a%20b%23c").url == f"{tmp_path}/a b#c"


@pytest.mark.parametrize("path", ["store", "./gs:", "a:b", "C:/store", "odd #?%20"])
def test_a_relative_folder_is_taken_from_here(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store(path).url == str(tmp_path / path)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("gs://bucket", "gs://bucket"),
        ("gs://bucket/", "gs://bucket"),
        ("gs://my.bucket-1_x/a/b c", "gs://my.bucket-1_x/a/b c"),
        ("gs://bucket/a?b#c/", "gs://bucket/a?b#c"),
    ],
)
def test_a_bucket_url_names_bucket_and_prefix(url: str, canonical: str) -> None:
    assert open_store(url).url == canonical


@pytest.mark.parametrize(
    "url", ["gs://", "gs:///prefix", "gs://UPPER/x", "gs://a/x", "gs://bucket//x", "gs://bucket/x//"]
)
def test_a_bucket_url_without_bucket_or_prefix_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="gs://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://bucket/x", "https://host/x", "gs:/bucket", "GS://bucket", "memory://"])
def test_other_schemes_are_refused_by_name(url: str) -> None:
    with pytest.raises(InputError, match=f"scheme '{url.partition(':')[0]}'.*a folder or gs://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize("url", ["file://", "file:///", "file://host/share", "file://relative"])
def test_a_file_url_of_another_machine_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="file:///path"):
        open_store(url)


@pytest.mark.parametrize("url", ["", "a\0b"])
def test_what_is_no_path_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="a folder or gs://bucket/prefix"):
        open_store(url)


def test_a_bucket_without_its_client_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['google.cloud'] = None\n"
        "from tierloom.errors import MissingExtra\n"
        "from tierloom.stores.opening import open_store\n"
        "try: open_store('gs://bucket/x')\n"
        "except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert "gs://bucket/x needs" in done.stdout
    assert "tierloom[gcs]" in done.stdout
