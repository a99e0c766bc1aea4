"""`asgi-audit forward` as a process: its endpoints, and how it ends."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.commands import COMMAND, Running, running
from tests.support.waiting import until

from asgi_audit.transport.journal.writer import JournalWriter

from .conftest import append_journal, make_topic, write_journal


def forward(home: Path, url: str) -> AbstractContextManager[Running]:
    return running(COMMAND, "forward", "--to", url, "--metrics-port", "0", cwd=home, ASGI_AUDIT_HOME=str(home))


def get(command: Running, path: str) -> tuple[int, str]:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", command.wait_for("metrics and health on"))
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def metrics(command: Running) -> dict[str, float]:
    text = get(command, "/metrics")[1]
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


def test_forward_shows_what_it_sent_and_is_ready_when_kafka_takes_it(
    address: str, tmp_path: Path, writers: list[JournalWriter]
) -> None:
    config = make_topic(address)
    write_journal(tmp_path / "journal", 30, kept=writers)
    with forward(tmp_path, f"kafka://{config.address}") as command:
        until(lambda: metrics(command)["asgi_audit_forward_sent_total"] == 30)
        assert get(command, "/health/live") == (200, '{"status":"ok"}')
        assert get(command, "/health/ready")[0] == 200
        until(lambda: metrics(command)["asgi_audit_journal_lag_bytes"] == 0)  # committed half a second later
        shown = metrics(command)
        assert shown["asgi_audit_forward_connected"] == 1
        assert shown["asgi_audit_forward_pending"] == shown["asgi_audit_forward_refused_total"] == 0
        assert shown["asgi_audit_journal_bytes"] > 0
        assert "asgi_audit_index_readable" not in shown  # there is none here
        append_journal(writers[0], 5, first=31)
        until(lambda: metrics(command)["asgi_audit_forward_sent_total"] == 35)
        assert command.stop() == 0
        assert "35 entries sent, 0 refused" in command.said


def test_forward_lives_and_is_not_ready_and_ends_when_kafka_is_away(
    tmp_path: Path, writers: list[JournalWriter]
) -> None:
    process = write_journal(tmp_path / "journal", 3, kept=writers)
    with forward(tmp_path, "kafka://127.0.0.1:1/audit") as command:
        command.wait_for("Records wait in the journal")
        assert get(command, "/health/live")[0] == 200
        status, text = get(command, "/health/ready")
        assert status == 503
        assert "Kafka accepts nothing now" in json.loads(text)["reasons"][0]
        shown = metrics(command)
        assert shown["asgi_audit_forward_connected"] == shown["asgi_audit_forward_sent_total"] == 0
        assert shown["asgi_audit_forward_errors_total"] >= 1
        assert shown["asgi_audit_journal_lag_bytes"] > 0
        assert command.stop() == 1
        assert "not everything was sent; the rest stays in" in command.said
        assert list((tmp_path / "journal" / process).glob("*.seg"))


@pytest.mark.parametrize("has_journal", [False, True])
def test_forward_ends_well_when_kafka_is_away_and_nothing_waits(
    tmp_path: Path, writers: list[JournalWriter], has_journal: bool
) -> None:
    if has_journal:
        write_journal(tmp_path / "journal", 0, kept=writers)
    with forward(tmp_path, "kafka://127.0.0.1:1/audit") as command:
        command.wait_for("Records wait in the journal")
        assert command.stop() == 0
        assert "not everything was sent" not in command.said
