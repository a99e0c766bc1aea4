"""docker/asgi-audit.service: systemd accepts it without a warning, and its command and settings exist."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asgi_audit.cli import COMMANDS, _parser
from asgi_audit.cli.flags import settings_of
from asgi_audit.settings import table

UNIT = Path(__file__).parents[2] / "docker" / "asgi-audit.service"
TEXT = UNIT.read_text("utf-8")


def parsed() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(TEXT)
    return found


def test_command_and_settings_of_the_unit_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASGI_AUDIT_LOG_FORMAT", raising=False)
    service = parsed()["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/bin/asgi-audit")
    assert arguments[0] in COMMANDS
    given = _parser(arguments[0]).parse_args(arguments)
    assert settings_of(given).log_format == "json", "the first key would stand in the system's log"
    known = {environment for _, environment, *_ in table()}
    assert set(re.findall(r"ASGI_AUDIT_[A-Z_]+", TEXT)) <= known


def test_unit_restarts_what_ended_and_waits_for_an_orderly_end() -> None:
    service = parsed()["Service"]
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert int(service["TimeoutStopSec"]) > 6, "`serve` takes up to 6 s"
    assert service["Environment"] == "ASGI_AUDIT_HOME=%S/" + service["StateDirectory"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: `apt-get install systemd`")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """For a file, `verify` prints what it ignores and still exits with 0."""
    program = shutil.which("true")
    assert program is not None
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", TEXT))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, []), done.stderr
