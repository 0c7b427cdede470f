import pytest

from tierloom import names

_DIGEST = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "name",
    [
        names.manifest(0),
        names.manifest(999_999_999_999),
        names.channel("latest"),
        names.checkpoint(_DIGEST),
        names.canaries(_DIGEST),
        names.vector_shard(_DIGEST),
        names.deletes(_DIGEST),
        names.index_shard("64", _DIGEST),
        names.aliases("64", _DIGEST),
        names.dead_letters("run", _DIGEST),
        names.run("run"),
        names.probe(_DIGEST),
        names.batch(_DIGEST),
    ],
)
def test_every_made_name_is_safe(name: str) -> None:
    assert names.is_safe(name)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a/.b", "a b", "a\n", "é", "a:b", "a\\b", "a\0b", "a" * 201],
)
def test_other_names_are_not(name: str) -> None:
    assert not names.is_safe(name)


@pytest.mark.parametrize("version", [0, 1, 12, 999_999_999_999])
def test_a_manifest_name_gives_its_version_back(version: int) -> None:
    assert names.manifest_version(names.manifest(version)) == version


@pytest.mark.parametrize(
    "name",
    ["manifests/12.json", "manifests/000000000012.json\n", "channels/latest.json", "manifests/00000000001x.json"],
)
def test_other_names_have_no_version(name: str) -> None:
    assert names.manifest_version(name) is None


def test_names_sort_as_their_versions_do() -> None:
    versions = [0, 9, 10, 99, 100, 123_456]
    assert sorted(map(names.manifest, versions)) == list(map(names.manifest, versions))
