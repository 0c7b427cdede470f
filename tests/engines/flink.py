"""A real Flink: a mini-cluster inside Beam's job server, and a pool of Python workers beside it.

`flink` is what a test asks for: the cluster serves all tests of a session. Streams have `flink_alone`.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.engines.builds import CACHE, Build, begin_builds, java_classpath

ROOT: Final = Path(__file__).parents[2]
POM: Final = Path(__file__).parent / "flink_job_server" / "pom.xml"
CLASSPATH: Final = Build(
    CACHE / "flink" / "classpath.txt",
    ("java", "mvn"),
    ("mvn", "-B", "-q", "-f", str(POM), "dependency:build-classpath", "-Dmdep.outputFile={product}"),
)
# Flink reaches into these packages of the Java library.
_OPENED: Final = ("lang", "util", "nio", "time", "util.concurrent", "net")
# A batch job ends with its first dead worker unless it is told to start again.
_CONFIGURATION: Final = """\
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: {attempts}
restart-strategy.fixed-delay.delay: 1 s
"""


@dataclass(frozen=True, slots=True)
class Flink:
    """A running cluster. `pool` is the process id of the one that starts workers."""

    job_endpoint: str
    worker_endpoint: str
    pool: int
    log: Path

    @property
    def options(self) -> tuple[str, ...]:
        """With which a command runs on it."""
        return (
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.worker_endpoint}",
            "--parallelism=1",
        )

    def workers(self) -> list[int]:
        """The process ids of its living workers, oldest first."""
        threads = Path(f"/proc/{self.pool}/task").glob("*/children")
        return sorted(int(child) for one in threads for child in one.read_text().split() if _lives(int(child)))

    def kill_worker(self) -> None:
        """`kill -9` of the newest worker."""
        os.kill(self.workers()[-1], signal.SIGKILL)


def pytest_collection_finish(session: pytest.Session) -> None:
    for fixture in ("flink", "flink_alone"):
        begin_builds(session, fixture, [CLASSPATH])


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    with _running(tmp_path_factory.mktemp("flink"), attempts=2) as cluster:
        yield cluster


@pytest.fixture
def flink_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    """A cluster for one test, whose pipelines end with it: a stream that its client leaves goes on."""
    with _running(tmp_path_factory.mktemp("flink-alone"), attempts=100) as cluster:
        yield cluster


@contextmanager
def _running(folder: Path, attempts: int) -> Iterator[Flink]:
    job_port, artifact_port, worker_port = _free_ports(3)
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text(_CONFIGURATION.format(attempts=attempts))
    server = _start_job_server(java_classpath(CLASSPATH, "Flink"), folder, job_port, artifact_port)
    pool = _start_pool(folder, worker_port)
    try:
        _await_log(server, folder / "job-server.log", "JobService started")
        _await_port(pool, worker_port, folder / "workers.log")
        yield Flink(f"localhost:{job_port}", f"localhost:{worker_port}", pool.pid, folder / "job-server.log")
    finally:
        for process in (pool, server):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


def _start_job_server(classpath: str, folder: Path, job_port: int, artifact_port: int) -> "subprocess.Popen[bytes]":
    opened = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED]
    options = f"--flink-master [local] --job-port {job_port} --artifact-port {artifact_port} --expansion-port -1"
    folders = ["--artifacts-dir", str(folder / "artifacts"), "--flink-conf-dir", str(folder / "conf")]
    driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
    command = ["java", "-Xmx1g", *opened, "-cp", classpath, driver, *options.split(), *folders]
    return _start(command, folder / "job-server.log")


def _start_pool(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    # It starts its workers with the `python` of PATH; they import what is staged nowhere.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    return _start(command, folder / "workers.log", environment)


def _start(command: list[str], log: Path, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def _free_ports(count: int) -> list[int]:
    reserved = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in reserved]
    for one in reserved:
        one.close()
    return ports


def _await_log(process: "subprocess.Popen[bytes]", log: Path, line: str) -> None:
    while line not in log.read_text(errors="replace"):
        _still_runs(process, log)


def _await_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    while True:
        try:
            return socket.create_connection(("localhost", port), 1).close()
        except OSError:
            _still_runs(process, log)


def _still_runs(process: "subprocess.Popen[bytes]", log: Path) -> None:
    try:
        process.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        return
    pytest.fail(f"{log.name}: ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")


def _lives(pid: int) -> bool:
    """Whether a child runs: a dead one stays listed as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
