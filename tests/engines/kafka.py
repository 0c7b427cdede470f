"""A real Kafka broker on loopback.

`kafka` is what a test asks for: a running broker, which it may stop if it starts it again.
"""

import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from tests.engines.builds import CACHE, Build, begin_builds, java_classpath

POM: Final = Path(__file__).parent / "kafka_broker" / "pom.xml"
CLASSPATH: Final = Build(
    CACHE / "kafka" / "classpath.txt",
    ("java", "mvn"),
    ("mvn", "-B", "-q", "-f", str(POM), "dependency:build-classpath", "-Dmdep.outputFile={product}"),
)
_CLUSTER: Final = "tierloom-tests-cluster"
_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/log
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
auto.create.topics.enable=false
"""


@dataclass
class Kafka:
    """A broker that keeps what it has over a stop."""

    classpath: str
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = self._java("kafka.Kafka", str(self.folder / "server.properties"))
        while True:
            try:
                self._admin().list_topics(timeout=1)
                return
            except KafkaException:
                assert self.process.poll() is None, self._log.read_text()[-2000:]

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None

    def create(self, topic: str, partitions: int = 1) -> None:
        admin = self._admin()
        _finish(admin.create_topics([NewTopic(topic, partitions, 1)]))

    def add_partitions(self, topic: str, total: int) -> None:
        admin = self._admin()
        _finish(admin.create_partitions([NewPartitions(topic, total)]))

    def forget(self, topic: str, partition: int, before: int) -> None:
        """As retention does."""
        admin = self._admin()
        _finish(admin.delete_records([TopicPartition(topic, partition, before)]))

    def delete(self, topic: str) -> None:
        admin = self._admin()
        _finish(admin.delete_topics([topic]))

    def put(self, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "log_level": 0})
        for value in values:
            producer.produce(topic, value, partition=partition)
        assert producer.flush(30) == 0

    def format(self) -> None:
        properties = self.folder / "server.properties"
        properties.write_text(_PROPERTIES.format(port=self.port, controller=_free_port(), folder=self.folder))
        code = self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties)).wait(timeout=60)
        assert code == 0, self._log.read_text()[-2000:]

    @property
    def _log(self) -> Path:
        return self.folder / "broker.log"

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def _java(self, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
        command = ["java", "-Xmx256m", "-cp", self.classpath, main, *arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)


def _finish(asked: "Mapping[Any, Future[Any]]") -> None:
    for future in asked.values():
        future.result(timeout=30)


def pytest_collection_finish(session: pytest.Session) -> None:
    begin_builds(session, "kafka", [CLASSPATH])


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A running broker, for all tests: a topic is each test's own."""
    broker = Kafka(java_classpath(CLASSPATH, "Kafka"), tmp_path_factory.mktemp("kafka"), _free_port())
    broker.format()
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
    return port
