"""The printed lines: what they hold, and that a shell reads them as meant."""

from __future__ import annotations

import datetime
import subprocess

import pytest

from asgi_audit.cli.curls import curl_lines, shown_host

NOW = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)


def test_window_is_from_yesterday_to_a_week_from_now() -> None:
    text = "\n".join(curl_lines("http://127.0.0.1:8400", "aa_1_x", "app", "default", now=NOW))
    assert '"from":"2026-02-28T00:00:00Z","to":"2026-03-08T00:00:00Z"' in text
    assert "http://127.0.0.1:8400/usage/app/default" in text


@pytest.mark.parametrize("instance", ["default", "with space", "a'b", "$(touch x)", "é", "?a#b"])
def test_shell_reads_the_lines_as_meant_when_the_instance_has_special_characters(instance: str) -> None:
    """`curl` and `sed` are replaced by functions that show what they were called with."""
    lines = curl_lines("http://h", "aa_1_x", "app", instance, now=NOW)
    shell = 'curl() { printf "<%s>" "$@" >&2; echo \'{"queryExecutionId": "E1"}\'; }\n' + "\n".join(lines)
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "<Authorization: Bearer aa_1_x>" in done.stderr
    assert "/query-result/E1?limit=10>" in done.stderr
    assert "<http://h/usage/app/" in done.stderr
    assert done.stdout == '{"queryExecutionId": "E1"}\n'


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("h", "h")],
)
def test_shown_host_is_one_that_a_client_can_reach(host: str, shown: str) -> None:
    assert shown_host(host) == shown
