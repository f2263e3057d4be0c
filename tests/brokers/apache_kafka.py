"""Apache Kafka from Maven Central as child processes, without a container: one node, or three that replicate.

``make kafka`` runs this file. Tests and the benchmark use ``ApacheKafka``, which can also stop, kill, pause and restart a node
over its data.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from app.cli.embedded_broker import brokers_known, free_port
from app.errors import BrokerError, CommandError

ROOT = Path(__file__).resolve().parents[2]
POM = ROOT / "deploy" / "kafka" / "pom.xml"
LOG4J = ROOT / "deploy" / "kafka" / "log4j2.properties"
LIBS = ROOT / "build" / "kafka-libs"

_START_SECONDS = 60.0
#: A controlled shutdown hands partitions over first; past this it is killed.
_STOP_SECONDS = 30.0
#: Any 16 bytes in base64: one cluster is as good as another.
_CLUSTER_ID = "dGlkaW5ncy1sb2NhbC1rYQ"


@dataclass(frozen=True)
class Doors:
    """Two listeners more: SASL_SSL (SCRAM-SHA-512 and PLAIN, for one user; OAUTHBEARER, with tokens that nobody signed) and SSL that asks
    for a certificate. Files are PEM.
    """

    key_and_certificate: Path
    #: Who may sign a client's certificate.
    ca_file: Path
    user: str
    password: str
    sasl_port: int = field(default_factory=free_port)
    mutual_port: int = field(default_factory=free_port)

    @property
    def listeners(self) -> str:
        return f"SASL://127.0.0.1:{self.sasl_port},MUTUAL://127.0.0.1:{self.mutual_port}"

    def properties(self) -> list[str]:
        login = "org.apache.kafka.common.security"
        tls = []
        for name in ("sasl", "mutual"):
            tls += [f"listener.name.{name}.ssl.keystore.type=PEM", f"listener.name.{name}.ssl.keystore.location={self.key_and_certificate}"]
        return [
            *tls,
            "listener.name.mutual.ssl.client.auth=required",
            "listener.name.mutual.ssl.truststore.type=PEM",
            f"listener.name.mutual.ssl.truststore.location={self.ca_file}",
            "listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN,OAUTHBEARER",
            f"listener.name.sasl.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
            f"listener.name.sasl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;",
            f'listener.name.sasl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{self.user}="{self.password}";',
        ]

    def user_at_format(self) -> list[str]:
        """Arguments of the storage tool: a user who is there before the broker first starts."""
        return ["--add-scram", f"SCRAM-SHA-512=[name={self.user},password={self.password}]"]


@dataclass(frozen=True)
class SideDoor:
    """One plaintext listener more on each node, which clients are told to find at other ports: those of something that stands between."""

    name: str
    ports: tuple[int, ...]
    advertised_ports: tuple[int, ...]

    @classmethod
    def with_free_ports(cls, name: str, nodes: int) -> SideDoor:
        """``name``: capital letters."""
        return cls(name, tuple(free_port() for _ in range(nodes)), tuple(free_port() for _ in range(nodes)))


class ApacheKafka:
    """A local Apache Kafka of 1 or 3 nodes (each broker and controller) with its data under ``directory``.

    ``ports`` are the nodes' client ports; free ones by default. Nodes count from 0. start() returns once every node is in the cluster.
    A directory that holds data is used as it is, so stop() then start() is a restart that keeps the logs. ``quick``: for tests that start
    nodes again and again, at half the time for it, and a lower throughput; and a node that has gone is missed sooner.
    """

    def __init__(
        self, directory: Path, nodes: Literal[1, 3] = 1, ports: Sequence[int] | None = None, heap: str = "512m", doors: Doors | None = None,
        side_doors: Sequence[SideDoor] = (), quick: bool = False,
    ) -> None:
        if doors is not None and nodes != 1:
            raise ValueError("doors have one port each: one node")
        if ports is not None and len(ports) != nodes:
            raise ValueError(f"{nodes} nodes need {nodes} ports")
        self.directory = directory
        self.ports = list(ports) if ports else [free_port() for _ in range(nodes)]
        self._controller_ports = [free_port() for _ in range(nodes)]
        self._heap = heap
        self._quick = quick
        self.doors = doors
        self.side_doors = tuple(side_doors)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def nodes_running(self) -> int:
        return sum(1 for process in self._processes if process is not None and process.poll() is None)

    def start(self) -> ApacheKafka:
        """Start every node that is not running and wait until all answer.

        Raises CommandError without Java or Maven, BrokerError if a node does not come up.
        """
        class_path = kafka_class_path()
        with ThreadPoolExecutor() as threads:  # each is laid out by a program of its own
            list(threads.map(lambda node: self._spawn(node, class_path), range(len(self.ports))))
        self._wait_for_cluster(range(len(self.ports)))
        return self

    def start_node(self, node: int, wait: bool = True) -> None:
        """Start one node over its data; with ``wait`` until it answers and knows every node."""
        self._spawn(node, kafka_class_path())
        if wait:
            self._wait_for_cluster([node])

    def stop(self) -> None:
        """SIGTERM to every node, and SIGKILL after 30 s. The data stay."""
        atexit.unregister(self.stop)
        for process in self._processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)  # a paused node could not end
                process.terminate()
        for node in range(len(self.ports)):
            self._reap(node)

    def stop_node(self, node: int = 0) -> None:
        """SIGTERM to one node: a controlled shutdown."""
        if process := self._processes[node]:
            process.terminate()
        self._reap(node)

    def kill(self, node: int = 0) -> None:
        """SIGKILL one node."""
        if process := self._processes[node]:
            process.kill()
        self._reap(node)

    def pause(self, node: int = 0) -> None:
        """SIGSTOP one node: connections stay open and nothing answers."""
        self._running(node).send_signal(signal.SIGSTOP)

    def resume(self, node: int = 0) -> None:
        self._running(node).send_signal(signal.SIGCONT)

    def restart(self, node: int = 0) -> None:
        """Stop one node and start it over its data."""
        self.stop_node(node)
        self.start_node(node)

    def pid(self, node: int = 0) -> int:
        return self._running(node).pid

    def __enter__(self) -> ApacheKafka:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, node: int, class_path: str) -> None:
        running = self._processes[node]
        if running is not None and running.poll() is None:
            return
        home = self.directory / f"node{node + 1}"
        home.mkdir(parents=True, exist_ok=True)
        properties = home / "server.properties"
        properties.write_text(self._properties(node, home))
        if not (home / "data" / "meta.properties").exists():
            storage = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
            storage += self.doors.user_at_format() if self.doors else []
            formatted = subprocess.run(_java(class_path, "128m", storage, quick=True), capture_output=True, text=True, check=False)
            if formatted.returncode:
                raise BrokerError(f"Kafka could not lay out {home}: {(formatted.stdout + formatted.stderr).strip()[-1000:]}")
        with (home / "broker.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                _java(class_path, self._heap, ["kafka.Kafka", str(properties)], quick=self._quick),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the test run alone, which stops the broker last
            )
        atexit.unregister(self.stop)
        atexit.register(self.stop)

    def _wait_for_cluster(self, nodes: Sequence[int]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        for node in nodes:
            while brokers_known("127.0.0.1", self.ports[node]) < max(1, self.nodes_running):
                process = self._processes[node]
                ended = process is None or process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = self.directory / f"node{node + 1}" / "broker.log"
                    why = "ended" if ended else f"did not answer within {_START_SECONDS:.0f} s"
                    raise BrokerError(f"Kafka node {node + 1} {why}; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)

    def _reap(self, node: int) -> None:
        process, self._processes[node] = self._processes[node], None
        if process is None:
            return
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self, node: int) -> subprocess.Popen[bytes]:
        process = self._processes[node]
        if process is None or process.poll() is not None:
            raise BrokerError(f"Kafka node {node + 1} is not running")
        return process

    def _properties(self, node: int, home: Path) -> str:
        nodes = len(self.ports)
        voters = ",".join(f"{i + 1}@127.0.0.1:{port}" for i, port in enumerate(self._controller_ports))
        client = f"PLAINTEXT://127.0.0.1:{self.ports[node]}"
        more, protocols = "", ""
        if self.doors:
            more, protocols = f",{self.doors.listeners}", ",SASL:SASL_SSL,MUTUAL:SSL"
        beside = "".join(f",{door.name}://127.0.0.1:{door.ports[node]}" for door in self.side_doors)
        told = "".join(f",{door.name}://127.0.0.1:{door.advertised_ports[node]}" for door in self.side_doors)
        protocols += "".join(f",{door.name}:PLAINTEXT" for door in self.side_doors)
        return "\n".join(
            [
                "process.roles=broker,controller",
                f"node.id={node + 1}",
                f"controller.quorum.voters={voters}",
                f"listeners={client},CONTROLLER://127.0.0.1:{self._controller_ports[node]}{more}{beside}",
                f"advertised.listeners={client}{more}{told}",
                "controller.listener.names=CONTROLLER",
                "inter.broker.listener.name=PLAINTEXT",
                f"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
                *(self.doors.properties() if self.doors else []),
                *(["broker.session.timeout.ms=6000", "broker.heartbeat.interval.ms=1000"] if self._quick else []),
                f"log.dirs={home / 'data'}",
                f"default.replication.factor={nodes}",
                f"offsets.topic.replication.factor={nodes}",
                f"transaction.state.log.replication.factor={nodes}",
                f"min.insync.replicas={2 if nodes == 3 else 1}",
                f"transaction.state.log.min.isr={2 if nodes == 3 else 1}",
                "offsets.topic.num.partitions=4",
                "transaction.state.log.num.partitions=4",
                "group.initial.rebalance.delay.ms=0",
                "auto.create.topics.enable=false",
                "",
            ]
        )


def kafka_class_path() -> str:
    """The class path of Kafka's jars, fetched with Maven into build/kafka-libs once for each version of the pom.

    Raises CommandError when Java or Maven is missing or the jars cannot be fetched.
    """
    for program, package in (("java", "default-jre-headless"), ("mvn", "maven")):
        if shutil.which(program) is None:
            raise CommandError(f"Apache Kafka needs {program}: on Debian, apt-get install {package}")
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    libs = LIBS / version
    if not libs.exists():
        # Fetched aside and renamed, so that a broken download or a second process never leaves half a directory.
        fetched = LIBS / f".{version}.{time.time_ns()}"
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        outcome = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if outcome.returncode:
            shutil.rmtree(fetched, ignore_errors=True)
            raise CommandError(f"Maven could not fetch Kafka's jars: {outcome.stdout.strip()[-1000:]}")
        try:
            fetched.rename(libs)
        except OSError:
            shutil.rmtree(fetched, ignore_errors=True)
    return f"{libs}/*"


def _java(class_path: str, heap: str, arguments: list[str], *, quick: bool = False) -> list[str]:
    compiler = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if quick else []
    return ["java", f"-Xmx{heap}", *compiler, f"-Dlog4j2.configurationFile={LOG4J}", "-cp", class_path, *arguments]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a local Apache Kafka in the foreground until Ctrl-C.")
    parser.add_argument("--port", type=int, default=9092, help="client port of the first node; the others follow (default 9092)")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "kafka", help="where its data are (default build/kafka)")
    options = parser.parse_args()
    kafka = ApacheKafka(options.dir, options.nodes, [options.port + i for i in range(options.nodes)])
    print("starting Apache Kafka ...", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        kafka.start()
        print(f"Apache Kafka answers at {kafka.bootstrap_servers} (data in {options.dir}). Ctrl-C stops it.", flush=True)
        while kafka.nodes_running == options.nodes:
            time.sleep(1)
        print("a node ended by itself; see broker.log beside its data", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    except (BrokerError, CommandError) as exc:
        sys.exit(str(exc))
    finally:
        kafka.stop()


if __name__ == "__main__":
    main()
