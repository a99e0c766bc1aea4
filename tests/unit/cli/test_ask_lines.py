"""The printed example commands: a shell parses them as intended."""

from __future__ import annotations

import subprocess

import pytest

from asgi_audit.cli.ask_lines import ask_lines, shown_host


@pytest.mark.parametrize("key", ["aa_1_x", "a b'c", "$(touch x)"])
def test_shell_reads_the_lines_as_meant(key: str) -> None:
    """Functions replace the commands and print their arguments."""
    shell = 'curl() { printf "<%s>" "$@"; }\naa() { printf "<%s>" "$@" "$ASGI_AUDIT_KEY"; }\n'
    lines = "\n".join(ask_lines("http://h:8400", key)).replace("\nasgi-audit ", "\naa ")
    done = subprocess.run(["sh", "-c", shell + lines], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"<ask><--since><24h><{key}><-s><http://h:8400/records?since=24h><-H><Authorization: Bearer {key}>"
    )


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("h", "h")],
)
def test_shown_host_is_one_that_a_client_can_reach(host: str, shown: str) -> None:
    assert shown_host(host) == shown
