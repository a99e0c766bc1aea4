"""The rights in docs/kafka.md are enough, on a broker with ACLs, and without them each part reports what is missing.

Method: Kafka's own tool runs the commands of the document; then each part runs as its user, by the installed command.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from tests.e2e.commands import COMMAND, clean_environment, running
from tests.e2e.test_five_minutes import call, port_of
from tests.support.kafka import SASL_PASSWORD, LocalKafka
from tests.support.waiting import until

from asgi_audit.errors import TransportError
from asgi_audit.settings import make_settings
from asgi_audit.wiring.operations import open_admin

from .conftest import admin
from .test_process import PROGRAM

TEXT = (Path(__file__).parents[3] / "docs" / "kafka.md").read_text("utf-8")
COMMANDS = re.findall(r"--allow-principal User:(\w+) (--.+)", TEXT)
TOPIC = "audit-records"
OTHERS = ("reader", "creator", "stranger")  # Read on the topic alone; Create alone; nothing


@pytest.fixture(scope="module")
def cluster(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    users = [user for user, _ in COMMANDS]
    assert users == ["app", "indexer", "api", "api", "admin", "looker"]
    made = LocalKafka(tmp_path_factory.mktemp("acl"), jars, users=[*dict.fromkeys(users), *OTHERS])
    try:
        made.start()
        for user, arguments in COMMANDS:
            made.allow(user, *arguments.split())
        made.allow("reader", "--operation", "Read", "--topic", TOPIC)
        made.allow("creator", "--operation", "Create", "--topic", "only-made")
        yield made
    finally:
        made.stop()


def url(cluster: LocalKafka, topic: str = TOPIC) -> str:
    return f"kafka://{cluster.sasl_address}/{topic}"


def of(user: str, **more: str) -> dict[str, str]:
    return {
        "ASGI_AUDIT_KAFKA_SASL_MECHANISM": "PLAIN",
        "ASGI_AUDIT_KAFKA_USERNAME": user,
        "ASGI_AUDIT_KAFKA_PASSWORD": SASL_PASSWORD,
    } | more


def run(user: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=clean_environment(**of(user, **more)), capture_output=True, text=True, timeout=90,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def topic(cluster: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Made by `admin`; it contains three records of `app`."""
    made = run("admin", "topics", "create", url(cluster), "--partitions", "2")
    assert (made.returncode, made.stderr) == (0, "")
    assert "max.message.bytes 4194304" in made.stdout
    home = str(tmp_path_factory.mktemp("app"))
    served = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        env=clean_environment(**of("app", ASGI_AUDIT_TRANSPORT=url(cluster), ASGI_AUDIT_HOME=home)),
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    # Entries not sent within two seconds of its end stay in the journal; none remain, so the right to write is enough.
    sent = run("app", "forward", "--once", "--from", f"journal:///{home}/journal", "--to", url(cluster))
    assert sent.returncode == 0, sent.stderr
    return url(cluster)


def committed(cluster: LocalKafka) -> dict[int, int]:
    try:
        offsets = admin(cluster.address, "list_consumer_group_offsets", "asgi-audit-indexer")
    except TransportError:  # the first commit creates the coordinator's own topic
        return {}
    return {tp.partition: found.offset for tp, found in offsets.items()}


def index_three(user: str, topic: str, home: Path, *, while_running: object = None) -> None:
    settings = make_settings({}, home=home)
    with running(COMMAND, "index", "--from", topic, cwd=home, **of(user, ASGI_AUDIT_HOME=str(home))) as sidecar:
        until(lambda: (facts := open_admin(settings).facts()) is not None and facts.indexed == 3, lambda: sidecar.said)
        if callable(while_running):
            while_running()
        sidecar.stop()


def test_read_on_the_topic_is_enough_to_index(cluster: LocalKafka, topic: str, tmp_path: Path) -> None:
    index_three("reader", topic, tmp_path)


def test_index_commits_its_offsets_when_it_may_read_the_group(cluster: LocalKafka, topic: str, tmp_path: Path) -> None:
    index_three("indexer", topic, tmp_path, while_running=lambda: until(lambda: committed(cluster)))


def test_serve_indexes_and_sends_the_records_of_its_own_reads(topic: str, tmp_path: Path) -> None:
    settings = make_settings({}, home=tmp_path)

    def indexed() -> int:
        facts = open_admin(settings).facts()
        return facts.indexed if facts is not None else 0

    given = of("api", ASGI_AUDIT_HOME=str(tmp_path))
    with running(COMMAND, "serve", "--port", "0", "--from", topic, cwd=tmp_path, **given) as serve:
        port = port_of(serve.wait_for("listens on"))
        until(lambda: indexed() == 3, lambda: serve.said)
        assert call(port, "GET", "/nothing")[0] == 404
        until(lambda: indexed() == 4, lambda: serve.said)
        assert serve.stop() == 0


def checks(user: str, topic: str, home: Path) -> dict[str, list[tuple[str, str]]]:
    """(level, message) of doctor's findings about broker and topic."""
    done = run(user, "doctor", "--json", "--from", topic, "--home", str(home))
    found: dict[str, list[tuple[str, str]]] = {"broker": [], "topic": []}
    for one in orjson.loads(done.stdout)["checks"]:
        if one["about"] in found:
            found[one["about"]].append((one["level"], one["message"]))
    return found


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("app", "this user may write but not read it: enough for an application, not for `index`"),
        ("reader", "this user may read but not write it: enough for `index`, not for an application"),
    ],
)
def test_doctor_finds_nothing_bad_when_a_user_has_what_its_part_needs(
    topic: str, tmp_path: Path, user: str, said: str
) -> None:
    found = checks(user, topic, tmp_path)
    assert [level for level, _ in found["broker"]] == ["ok"]
    assert [level for level, _ in found["topic"]] == ["ok"] * 3, found
    assert found["topic"][1][1] == said
    assert "this user may not DescribeConfigs" in found["topic"][2][1]


def test_doctor_sees_the_settings_when_it_may(topic: str, tmp_path: Path) -> None:
    found = checks("looker", topic, tmp_path)
    assert not any("DescribeConfigs" in message for _, message in found["topic"])
    assert ("warn", "this user may neither write nor read it") in found["topic"]
    assert not any(level == "bad" for level, _ in found["topic"])


def test_doctor_names_the_right_that_is_missing_when_there_is_none(topic: str, tmp_path: Path) -> None:
    done = run("stranger", "doctor", "--from", topic, "--home", str(tmp_path))
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if "TopicAuthorizationFailed" in line]
    assert line.startswith("bad ")
    assert "Grant this user rights on the topic: Write to send, Read to index" in line


def test_topic_is_made_when_its_maker_may_not_look_at_it(cluster: LocalKafka) -> None:
    made = run("creator", "topics", "create", url(cluster, "only-made"))
    assert made.returncode == 0, made.stdout + made.stderr
    assert "topic only-made created; it cannot be checked" in made.stdout


def test_topic_is_not_made_when_the_right_is_missing(cluster: LocalKafka) -> None:
    refused = run("app", "topics", "create", url(cluster, "another"))
    assert refused.returncode == 1
    assert "AuthorizationFailed" in refused.stderr
    assert "Create to create it" in refused.stderr or "Create is required" in refused.stderr


def test_records_wait_in_the_journal_when_a_user_may_not_write(cluster: LocalKafka, topic: str, tmp_path: Path) -> None:
    served = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        env=clean_environment(**of("reader", ASGI_AUDIT_TRANSPORT=topic, ASGI_AUDIT_HOME=str(tmp_path))),
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    assert any(path.stat().st_size for path in (tmp_path / "journal").glob("*/*.seg"))
