"""The HTTP endpoints of a running indexer."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from asgi_audit.cli.sidecar import Sidecar, serving
from asgi_audit.indexing.indexer import IndexerProgress


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def port_of(caplog: pytest.LogCaptureFixture) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", caplog.text)
    assert found is not None
    return int(found[1])


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_standby_is_live_and_ready_and_says_that_it_is_one(caplog: pytest.LogCaptureFixture) -> None:
    sidecar = Sidecar(lambda: {"asgi_audit_journal_bytes": 9.0})
    with serving(sidecar, "127.0.0.1", 0):
        port = port_of(caplog)
        assert get(port, "/health/live") == (200, '{"status":"ok"}')
        assert get(port, "/health/ready")[0] == 200
        status, text = get(port, "/metrics")
        assert status == 200
        assert "asgi_audit_indexer_active 0.0" in text
        assert "asgi_audit_journal_bytes 9.0" in text
        assert "asgi_audit_indexer_indexed" not in text
        assert get(port, "/elsewhere")[0] == 404
        assert get(port, "/metrics", "HEAD") == (200, "")
        assert get(port, "/metrics", "POST")[0] == 501
    with pytest.raises(ConnectionRefusedError):
        get(port, "/health/live")


@pytest.mark.parametrize(
    ("age", "query", "status"),
    [
        (60.0, "", 200),
        (60.0, "?max_age=1m", 200),
        (60.0, "?max_age=59", 503),
        (121.0, "", 503),
        (None, "?max_age=9h", 503),
        (1.0, "?max_age=x", 400),
    ],
)
def test_fresh_when_complete_until_is_at_most_max_age_ago(
    age: float | None, query: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    values = {} if age is None else {"asgi_audit_index_complete_until_age_seconds": age}
    with serving(Sidecar(lambda: values), "127.0.0.1", 0):
        assert get(port_of(caplog), f"/health/fresh{query}")[0] == status


def test_active_one_shows_its_counters_and_is_not_ready_while_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    progress = IndexerProgress(
        indexed=5, duplicates=4, expired=3, dead=2, statements=1, batches=1, lag=0.5, batch_seconds=0.02
    )
    sidecar = Sidecar(dict)
    sidecar.active(lambda: progress)
    with serving(sidecar, "127.0.0.1", 0):
        port = port_of(caplog)
        for _ in range(3):
            sidecar.tell(progress)  # a pause reports the same batch again
        text = get(port, "/metrics")[1]
        for line in (
            "asgi_audit_indexer_active 1.0",
            "asgi_audit_indexer_indexed_total 5.0",
            "asgi_audit_indexer_duplicates_total 4.0",
            "asgi_audit_indexer_expired_total 3.0",
            "asgi_audit_indexer_dead_letters_total 2.0",
            "asgi_audit_indexer_statements_total 1.0",
            "asgi_audit_indexer_lag_seconds 0.5",
            "asgi_audit_indexer_paused 0.0",
            "asgi_audit_indexer_batch_seconds_count 1.0",
        ):
            assert line in text.splitlines(), text
        progress = progress._replace(paused="could not write /secret/path: disk full")
        status, text = get(port, "/health/ready")
        assert status == 503
        assert "secret" not in text
        assert get(port, "/health/live")[0] == 200


def test_nothing_listens_when_no_port_is_set(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.active_count()
    with serving(Sidecar(dict), "127.0.0.1", None):
        assert threading.active_count() == before
    assert caplog.text == ""


def test_port_in_use_is_one_error_line_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(Sidecar(dict), "127.0.0.1", port):
            pass
    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert f"port {port}: Address already in use; continuing without" in line.message


def test_client_that_says_nothing_does_not_keep_others_from_asking(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Sidecar(dict), "127.0.0.1", 0):
        port = port_of(caplog)
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        assert get(port, "/health/live")[0] == 200
        for one in silent:
            one.close()


def test_registry_is_our_own(tmp_path: Path) -> None:
    from prometheus_client import REGISTRY

    Sidecar(dict)
    assert b"asgi_audit" not in generate_latest(REGISTRY)


def test_metrics_that_cannot_be_read_are_a_500_and_no_dropped_connection(caplog: pytest.LogCaptureFixture) -> None:
    def breaks() -> dict[str, float]:
        raise RuntimeError("secret")

    with serving(Sidecar(breaks), "127.0.0.1", 0):
        port = port_of(caplog)
        status, text = get(port, "/metrics")
        assert status == 500
        assert "secret" not in text
        assert get(port, "/health/live")[0] == 200
    assert "/metrics failed: RuntimeError" in caplog.text
