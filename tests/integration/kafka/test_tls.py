"""A broker that requires TLS and SASL, configured by settings alone: forwarding, indexing, and each possible mistake,
by the installed commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.e2e.commands import COMMAND, clean_environment, running
from tests.support.kafka import SASL_PASSWORD, SASL_USER, Certificates, LocalKafka
from tests.support.waiting import until

from asgi_audit.settings import make_settings
from asgi_audit.wiring.operations import open_admin

from .conftest import unavailable, write_journal
from .test_process import PROGRAM

WRONG = "n0t-the-password"


class Secured(NamedTuple):
    cluster: LocalKafka
    certificates: Certificates
    others: Certificates


@pytest.fixture(scope="module")
def secured(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        unavailable("no openssl: a broker with TLS needs certificates")
    directory = tmp_path_factory.mktemp("tls")
    certificates, others = Certificates(directory / "ours"), Certificates(directory / "others")
    cluster = LocalKafka(directory / "kafka", jars, certificates=certificates)
    try:
        yield Secured(cluster.start(), certificates, others)
    finally:
        cluster.stop()


def environment(secured: Secured, **more: str) -> dict[str, str]:
    given = {
        "ASGI_AUDIT_KAFKA_CA_FILE": str(secured.certificates.ca),
        "ASGI_AUDIT_KAFKA_USERNAME": SASL_USER,
        "ASGI_AUDIT_KAFKA_PASSWORD": SASL_PASSWORD,
    } | more
    return clean_environment(**{name: value for name, value in given.items() if value})


def run(given: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=given, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_records_come_into_the_index_when_the_broker_wants_tls_and_sasl(
    secured: Secured, tmp_path: Path, mechanism: str
) -> None:
    topic = f"kafkas://{secured.cluster.tls_address}/t-{uuid.uuid4().hex[:10]}"
    given = environment(secured, ASGI_AUDIT_KAFKA_SASL_MECHANISM=mechanism, ASGI_AUDIT_HOME=str(tmp_path))
    made = run(given, "topics", "create", topic)
    assert made.returncode == 0, made.stderr
    # One by its own thread, one by the command from another process.
    for transport in (topic, f"journal:///{tmp_path}/journal"):
        served = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=given | {"ASGI_AUDIT_TRANSPORT": transport},
            capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert served.returncode == 0, served.stderr
    sent = run(given, "forward", "--once", "--from", f"journal:///{tmp_path}/journal", "--to", topic)
    assert sent.returncode == 0, sent.stderr
    settings = make_settings({}, home=tmp_path)
    ours = {name: value for name, value in given.items() if name.startswith("ASGI_AUDIT_")}
    with running(COMMAND, "index", "--from", topic, cwd=tmp_path, **ours) as sidecar:
        until(lambda: (facts := open_admin(settings).facts()) is not None and facts.indexed == 6)
        sidecar.stop()
    assert SASL_PASSWORD not in made.stdout + made.stderr + sent.stdout + sent.stderr


CASES = {
    "wrong CA": ("tls", "ca", "certificate verify failed", "Set kafka_ca_file to the CA of the broker's certificate"),
    "no CA": ("tls", "no ca", "certificate verify failed", "Set kafka_ca_file to the CA of the broker's certificate"),
    "another name": ("name", "", "Hostname mismatch", "use a host name in it"),
    "wrong password": ("tls", "password", "SaslAuthenticationFailed: Authentication failed", "Check the user name and"),
    "no user": ("tls", "no user", "KafkaConnection", "settings of TLS (kafkas://) and SASL"),
    "TLS to a port without": ("plain", "", "Connection", "settings of TLS (kafkas://) and SASL"),
    "no TLS to a port with": ("no tls", "no ca", "KafkaConnection", "settings of TLS (kafkas://) and SASL"),
    "SASL to a port without": ("plain without tls", "no ca", "IllegalSaslState", "The listener may not use SASL"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_one_line_without_a_secret_when_the_settings_do_not_fit(
    secured: Secured, tmp_path: Path, case: str
) -> None:
    where, what, said, advice = CASES[case]
    url = {
        "tls": f"kafkas://{secured.cluster.tls_address}/t",
        "name": f"kafkas://{secured.cluster.tls_address}/t".replace("127.0.0.1", "localhost"),
        "no tls": f"kafka://{secured.cluster.tls_address}/t",
        "plain": f"kafkas://{secured.cluster.address}/t",
        "plain without tls": f"kafka://{secured.cluster.address}/t",
    }[where]
    more = {
        "": {},
        "ca": {"ASGI_AUDIT_KAFKA_CA_FILE": str(secured.others.ca)},
        "no ca": {"ASGI_AUDIT_KAFKA_CA_FILE": ""},
        "password": {"ASGI_AUDIT_KAFKA_PASSWORD": WRONG},
        "no user": {"ASGI_AUDIT_KAFKA_USERNAME": "", "ASGI_AUDIT_KAFKA_PASSWORD": ""},
    }[what]
    given = environment(secured, ASGI_AUDIT_HOME=str(tmp_path), **more)
    done = run(given, "topics", "create", url)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line
    assert advice in line

    writers = []  # type: ignore[var-annotated]
    write_journal(tmp_path / "journal", 3, kept=writers)
    try:
        sent = run(given, "forward", "--once", "--seconds", "3", "--to", url)
    finally:
        writers[0].close()
    assert sent.returncode == 1
    first, last = (line for line in sent.stderr.splitlines() if " WARNING " in line)
    assert said in first
    assert advice in first
    assert "the rest stays in" in last
    assert "Traceback" not in done.stderr + sent.stderr
    for secret in (SASL_PASSWORD, WRONG):
        assert secret not in done.stdout + done.stderr + sent.stdout + sent.stderr


def test_indexer_says_why_it_waits_when_the_password_is_wrong(secured: Secured, tmp_path: Path) -> None:
    given = {"ASGI_AUDIT_KAFKA_PASSWORD": WRONG, "ASGI_AUDIT_KAFKA_USERNAME": SASL_USER,
             "ASGI_AUDIT_KAFKA_CA_FILE": str(secured.certificates.ca), "ASGI_AUDIT_HOME": str(tmp_path)}  # fmt: skip
    url = f"kafkas://{secured.cluster.tls_address}/t"
    with running(COMMAND, "index", "--from", url, cwd=tmp_path, **given) as sidecar:
        sidecar.wait_for("Check the user name and the password of Kafka", 60)
    assert WRONG not in sidecar.said
    assert "Traceback" not in sidecar.said
