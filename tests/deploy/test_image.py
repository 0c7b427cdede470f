"""The image: pinned, small, without root; and what is in the reader's is enough to read."""

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx2
import pytest
from packaging.requirements import Requirement

from tests.pipelines.command_line import ROOT, init, ok, run, write_records

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
LOCKS = sorted((ROOT / "deploy").glob("*.lock"))


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile with its arguments, on one line."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, after those of the stage that it begins from."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, arguments in instructions():
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            found[name] = list(found.get(base, []))
        found[name].append((instruction, arguments))
    return found


def requirements(lock: Path) -> dict[str, Requirement]:
    """What a lock file pins."""
    lines = [line.removesuffix("\\").strip() for line in lock.read_text().splitlines() if re.match(r"[a-z0-9]", line)]
    return {(one := Requirement(line)).name: one for line in lines}


def test_bases_are_pinned() -> None:
    known = set(stages())
    bases = [arguments.partition(" AS ")[0] for name, arguments in instructions() if name == "FROM"]
    outside = {base for base in bases if base not in known}
    assert outside
    for base in outside:
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    for arguments in (arguments for name, arguments in instructions() if name == "COPY" and "--from=" in arguments):
        source = arguments.split()[0].removeprefix("--from=")
        assert source in known or re.fullmatch(r"[\w./]+:\d+\.\d+\.\d+", source)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = [
        arguments.split()[:-1] for name, arguments in instructions() if name == "COPY" and "--from=" not in arguments
    ]
    sources = {source for some in copied for source in some}
    assert sources > {"pyproject.toml", "tierloom", "deploy/reader.lock"}
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in let_in), source
    for pattern in let_in:
        assert any(fnmatch.fnmatch(source, pattern) for source in sources), pattern


@pytest.mark.parametrize("stage", ["reader", "full"])
def test_nobody_is_root_and_the_number_says_so(stage: str) -> None:
    last = [arguments for name, arguments in stages()[stage] if name == "USER"][-1]
    assert last == "65532:65532"
    assert stages()[stage][-1] == ("ENTRYPOINT", '["tierloom"]')
    assert [arguments for name, arguments in instructions() if name == "FROM"][-1].endswith(" AS full")


def test_nothing_is_installed_but_what_is_locked() -> None:
    runs = [arguments for name, arguments in instructions() if name == "RUN"]
    installs = [one for one in runs if "pip install" in one]
    assert installs
    for one in installs:
        assert "--require-hashes -r " in one or "--no-deps --no-index" in one
    assert not [one for one in runs if re.search(r"apt-get|curl|wget|chmod 777|sudo", one)]
    assert not [name for name, _ in instructions() if name in ("ADD", "ARG", "MAINTAINER")]


def test_no_compiler_and_no_secret_is_left_in_it() -> None:
    for _, arguments in (one for one in instructions() if one[0] == "ENV"):
        assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD", arguments)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_what_is_deployed_is_what_is_tested(lock: Path) -> None:
    tested = requirements(ROOT / "requirements.lock")
    deployed = requirements(lock)
    assert deployed
    for name, requirement in deployed.items():
        assert requirement.specifier == tested[name].specifier


def test_no_tool_of_ours_is_deployed() -> None:
    pipeline = requirements(ROOT / "deploy" / "pipeline.lock")
    reader = requirements(ROOT / "deploy" / "reader.lock")
    assert not {"pytest", "mypy", "ruff", "hatchling", "playwright", "kubernetes-validate"} & set(pipeline)
    assert not {"apache-beam", "rich", "matplotlib", "confluent-kafka"} & set(reader)
    assert set(reader) < set(pipeline)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the reader's image, as far as they are for this machine, and no others."""
    folder = tmp_path_factory.mktemp("site")
    reader = requirements(ROOT / "deploy" / "reader.lock")
    wanted = [name for name, one in reader.items() if one.marker is None or one.marker.evaluate({"extra": ""})]
    for name in wanted:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            pytest.fail(f"{name} is in deploy/reader.lock and not installed; see `make lock`")
        for file in found.files or ():
            if file.parts[0] != "..":
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(Path(str(found.locate_file(file))))
    for package in ("tierloom", "index_builder", "transforms", "pipelines"):
        (folder / package).symlink_to(ROOT / package)
    (metadata,) = distribution("tierloom").locate_file("").glob("tierloom-*.dist-info")  # type: ignore[attr-defined]
    (folder / metadata.name).symlink_to(metadata)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    init(folder / "store", "wordllama", tiers="64")
    ok(run("ingest", folder / "store", write_records(folder / "r.jsonl", [{"id": "a", "text": "reading"}])))
    return folder / "store"


def command(site: Path, *arguments: object) -> list[str]:
    """`tierloom` where only those packages are."""
    program = f"import sys; sys.path.insert(0, {str(site)!r}); from pipelines.cli import main; main()"
    return [sys.executable, "-I", "-S", "-c", program, *map(str, arguments)]


@pytest.mark.slow
def test_the_reader_asks_verifies_and_pulls(site: Path, store: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        return subprocess.run(command(site, *arguments), capture_output=True, text=True, check=True, timeout=60).stdout

    assert json.loads(said("search", store, "reading", "--json"))["hits"][0]["document_id"] == "a"
    assert "0 wrong" in said("verify", store, "--metrics-file", tmp_path / "verify.prom")
    assert "tierloom_run_success" in (tmp_path / "verify.prom").read_text()
    assert "1, served by" in said("pull", store, tmp_path / "mirror")
    assert said("--version").endswith(", version 0.1.0\n")


@pytest.mark.slow
def test_what_the_reader_has_not_is_named(site: Path, store: Path) -> None:
    refused = subprocess.run(command(site, "ingest", store, "x"), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "tierloom[pipeline]" in refused.stderr


@pytest.fixture
def serving(site: Path, store: Path) -> Iterator[str]:
    arguments = command(site, "serve", store, "--channel", "latest", "--port", "0")
    environment = {"PATH": os.environ["PATH"], "HOME": str(store.parent)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.kill()


@pytest.mark.slow
def test_the_reader_serves(serving: str) -> None:
    with httpx2.Client(base_url=serving, timeout=60, trust_env=False) as client:
        while client.get("/readyz").status_code != 200:
            assert client.get("/healthz").status_code == 200
        answer = client.post("/v1/search", json={"query": "reading", "top": 1}).json()
    assert answer["hits"][0]["document_id"] == "a"
