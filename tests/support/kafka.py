"""Real Kafka for tests: where a broker comes from, and a local cluster that can be killed, frozen and restarted.

A broker is taken from the first of these: the address in ASGI_AUDIT_TEST_KAFKA; testcontainers, where a Docker engine
responds; a local JVM (17 or later) whose jars Maven fetches once into the user's cache. `LocalKafka` is the JVM: one
process per broker in KRaft mode, ports of its own, everything in one directory, SIGKILL / SIGSTOP / SIGCONT / restart
on the same data. About 3 s to start and 350 MB resident each.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.ports import free_ports
from tests.support.waiting import until

KAFKA_VERSION = "4.3.1"
ADDRESS_VARIABLE = "ASGI_AUDIT_TEST_KAFKA"
HOW_TO_GET_ONE = (
    f"no Kafka: set {ADDRESS_VARIABLE}=host:port, or start a Docker engine, or install java (17 or later) and mvn "
    "(`apt-get install openjdk-17-jre-headless maven`)"
)
SASL_USER = "audit"
SASL_PASSWORD = "wr0ng-h0rse-battery"

_POM = Path(__file__).parents[1] / "kafka_broker" / "pom.xml"


def jars() -> Path | None:
    """The directory of the broker's jars, fetched when it is missing; None without java or mvn."""
    if shutil.which("java") is None:
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "asgi-audit-tests" / f"kafka-{KAFKA_VERSION}"
    directory.mkdir(parents=True, exist_ok=True)
    whole = directory / ".whole"
    with (directory / ".lock").open("w") as lock:  # two concurrent test runs fetch once
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not whole.exists():
            if shutil.which("mvn") is None:
                return None
            command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
            command += [f"-DoutputDirectory={directory}", "-DincludeScope=runtime"]
            subprocess.run(command, check=True, timeout=900, stdin=subprocess.DEVNULL)
            whole.touch()
    return directory


def docker_answers() -> bool:
    """Whether a Docker engine responds (on its socket, so that nothing is imported on a machine without one)."""
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def started_container() -> Any:
    """None when the engine cannot start it: on a slow machine, or without the image, the JVM is the better broker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions keep it under `community`, too
        from testcontainers.core.config import testcontainers_config
        from testcontainers.kafka import KafkaContainer

    testcontainers_config.ryuk_disabled = True  # one more image to fetch; we stop the container ourselves
    container = KafkaContainer().with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    try:
        return container.start(timeout=60)
    except Exception as e:
        print(f"no Kafka from the Docker engine: {type(e).__name__}: {e}"[:500])
        with contextlib.suppress(Exception):
            container.stop()
        return None


@contextlib.contextmanager
def any_broker(directory: Path) -> Iterator[str | None]:
    """The address of a broker that no test kills, from the first source that has one; None when there is none."""
    given = os.environ.get(ADDRESS_VARIABLE)
    if given:
        yield given
        return
    container = started_container() if docker_answers() else None
    if container is not None:
        try:
            yield container.get_bootstrap_server()
        finally:
            container.stop()
        return
    found = jars()
    if found is None:
        yield None
        return
    cluster = LocalKafka(directory, found)
    try:
        yield cluster.start().address
    finally:
        cluster.stop()


def read_with_java(jars: Path, address: str, topic: str, count: int, *, seconds: int = 30) -> list[tuple[str, bytes]]:
    """(key, value) of the first `count` messages of a topic as Java's console consumer prints them: without code of
    asgi-audit."""
    command = ["java", "-Xmx128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{jars}/*"]
    command += ["org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", topic]
    command += ["--from-beginning", "--max-messages", str(count), "--timeout-ms", str(seconds * 1000)]
    command += ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=|"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=seconds + 60, stdin=subprocess.DEVNULL)
    lines = (line.partition(b"|") for line in done.stdout.splitlines())
    return [(key.decode(), value) for key, _, value in lines]


class Certificates:
    """A certificate authority of a test, and a broker's certificate for 127.0.0.1 from it; made with openssl."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.ca = directory / "ca.pem"
        self.broker = directory / "broker.pem"  # key and chain, in the form that Kafka reads
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        self._openssl(
            directory, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=a test's authority",
        )  # fmt: skip
        self._openssl(directory, "req", *new_key, "-keyout", "broker.key", "-out", "broker.csr", "-subj", "/CN=broker")
        (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        self._openssl(
            directory, "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "broker.crt", "-days", "2", "-extfile", "names",
        )  # fmt: skip
        parts = [directory / name for name in ("broker.key", "broker.crt", "ca.pem")]
        self.broker.write_text("".join(part.read_text() for part in parts))

    @staticmethod
    def _openssl(directory: Path, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


class LocalKafka:
    """A cluster of `brokers` JVMs, numbered from 1. Every broker is voter and broker, and also has a listener with
    SASL; with `certificates` one more with SASL over TLS. `users`: further users for SASL PLAIN, each with
    SASL_PASSWORD. With `users` the broker has ACLs: they may do what `allow` gave them, and the plain listener
    everything."""

    def __init__(
        self,
        directory: Path,
        jars: Path,
        *,
        brokers: int = 1,
        heap: str = "384m",
        settings: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
        users: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.brokers = range(1, brokers + 1)
        self._jars = jars
        self._heap = heap
        self._settings = dict(settings or {})
        self._certificates = certificates
        self._users = tuple(users)
        ports = free_ports(4 * brokers)
        self._plain = {i: ports[4 * i - 4] for i in self.brokers}
        self._sasl = {i: ports[4 * i - 3] for i in self.brokers}
        self._tls = {i: ports[4 * i - 2] for i in self.brokers}
        self._control = {i: ports[4 * i - 1] for i in self.brokers}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._plain.values())

    @property
    def sasl_address(self) -> str:
        """The listener that requires SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512) of SASL_USER, without TLS."""
        return ",".join(f"127.0.0.1:{port}" for port in self._sasl.values())

    @property
    def tls_address(self) -> str:
        """The listener that requires SASL over TLS; only with `certificates`."""
        return ",".join(f"127.0.0.1:{port}" for port in self._tls.values())

    def start(self) -> LocalKafka:
        self.directory.mkdir(parents=True, exist_ok=True)
        # The first byte is fixed: an id that begins with '-', as one in 64 did, looks like a flag.
        cluster = base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        for i in self.brokers:
            self._configuration(i).write_text("\n".join(f"{k}={v}" for k, v in self._properties(i).items()) + "\n")
            command = ["java", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{self._jars}/*"]
            command += ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._configuration(i))]
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={SASL_USER},password={SASL_PASSWORD}]"]
            subprocess.run(command, check=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
        for i in self.brokers:
            self._spawn(i)
        for i in self.brokers:
            self._wait_started(i, 0)
        return self

    def kill(self, broker: int = 1) -> None:
        """SIGKILL: nothing is flushed, no client is notified."""
        process = self._processes.pop(broker)
        process.kill()
        process.wait(30)

    def pause(self, broker: int = 1) -> None:
        """SIGSTOP: connections stay open and get no response."""
        self._processes[broker].send_signal(signal.SIGSTOP)

    def resume(self, broker: int = 1) -> None:
        self._processes[broker].send_signal(signal.SIGCONT)

    def restart(self, broker: int = 1) -> None:
        """Start a killed broker again on its old data."""
        before = self._started(broker)
        self._spawn(broker)
        self._wait_started(broker, before)

    def allow(self, user: str, *arguments: str) -> None:
        """Give rights by Kafka's own command: arguments of `kafka-acls.sh --add`."""
        command = ["java", "-Xmx128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", f"{self._jars}/*"]
        command += ["org.apache.kafka.tools.AclCommand", "--bootstrap-server", self.address, "--add"]
        command += ["--allow-principal", f"User:{user}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
        for process in self._processes.values():
            process.wait(30)
        self._processes.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _configuration(self, broker: int) -> Path:
        return self.directory / f"{broker}.properties"

    def _log(self, broker: int) -> Path:
        return self.directory / f"{broker}.log"

    def _properties(self, broker: int) -> dict[str, str]:
        many = len(self.brokers)
        replicas, in_sync = str(min(many, 3)), "2" if many >= 3 else "1"
        jaas = "org.apache.kafka.common.security"
        user = f'username="{SASL_USER}" password="{SASL_PASSWORD}" user_{SASL_USER}="{SASL_PASSWORD}"'
        user += "".join(f' user_{name}="{SASL_PASSWORD}"' for name in self._users)
        ports = {"PLAINTEXT": self._plain[broker], "SASL": self._sasl[broker]}
        with_sasl, more = ["sasl"], {}
        if self._certificates is not None:
            ports["TLS"] = self._tls[broker]
            with_sasl.append("tls")
            more = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self._certificates.broker)}
        for name in with_sasl:
            more[f"listener.name.{name}.plain.sasl.jaas.config"] = f"{jaas}.plain.PlainLoginModule required {user};"
            for scram in ("scram-sha-256", "scram-sha-512"):
                more[f"listener.name.{name}.{scram}.sasl.jaas.config"] = f"{jaas}.scram.ScramLoginModule required;"
        if self._users:
            more["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            more["super.users"] = "User:ANONYMOUS"  # the listeners without SASL, and so the brokers themselves
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
        return {
            "process.roles": "broker,controller",
            "node.id": str(broker),
            "controller.quorum.voters": ",".join(f"{i}@127.0.0.1:{port}" for i, port in self._control.items()),
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self._control[broker]}",
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SASL_SSL"
            ),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            **more,
            "log.dirs": str(self.directory / f"{broker}.data"),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "6000",
            "auto.create.topics.enable": "false",
            "log.retention.check.interval.ms": "1000",
            "log.initial.task.delay.ms": "500",
            **self._settings,
        }

    def _spawn(self, broker: int) -> None:
        command = ["java", f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command += ["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"]
        command += ["-cp", f"{self._jars}/*", "kafka.Kafka", str(self._configuration(broker))]
        with self._log(broker).open("ab") as log:
            self._processes[broker] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _started(self, broker: int) -> int:
        log = self._log(broker)
        return log.read_bytes().count(b"Kafka Server started") if log.exists() else 0

    def _wait_started(self, broker: int, before: int) -> None:
        def what() -> str:
            return f"broker {broker} has started:\n{self._log(broker).read_text()[-3000:]}"

        def has_started() -> bool:
            assert self._processes[broker].poll() is None, what()
            return self._started(broker) > before

        until(has_started, what, 180)
