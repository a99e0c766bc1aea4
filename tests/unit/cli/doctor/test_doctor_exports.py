"""The findings of `doctor` about exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.exports import ACME, DAY_MS

from asgi_audit.cli.doctor.exports import exports
from asgi_audit.control import Control
from asgi_audit.control.exports import ExportRequest, State
from asgi_audit.query.model import Query
from asgi_audit.settings import Settings

QUERY = Query(accounts=ACME.accounts, start=DAY_MS, end=DAY_MS + 1, order="oldest")
HTTPS = "https://audit.example.com"


@pytest.fixture
def control(tmp_path: Path) -> Control:
    return Control(tmp_path / "control.db")


def said(home: Path, **given: object) -> list[tuple[str, str]]:
    return [(f.level, f.message) for f in exports(Settings(home=home, **given))]  # type: ignore[arg-type]


def test_nothing_is_said_where_nobody_may_ask_for_exports(tmp_path: Path, control: Control) -> None:
    control.create_key("reader", ["acme"])
    assert said(tmp_path) == []
    assert said(tmp_path / "none") == []


def test_url_that_is_not_https_is_a_warning(tmp_path: Path, control: Control) -> None:
    control.create_key("auditor", ["acme"])
    assert said(tmp_path)[0] == ("warn", "URLs of exports begin with http://127.0.0.1:8400")
    assert said(tmp_path, public_url="http://audit.example.com")[0][0] == "warn"
    assert said(tmp_path, public_url=HTTPS) == [("ok", "none requested")]
    assert said(tmp_path, export_bucket="s3://bucket") == [("ok", "none requested")]


def test_exports_that_nothing_runs_and_that_failed_are_warnings(tmp_path: Path, control: Control) -> None:
    export = control.exports.request(ACME, ExportRequest(QUERY, {}))[0]
    assert said(tmp_path, public_url=HTTPS) == [("warn", "1 Requested; no process runs them")]
    control.exports.beat("x")
    assert said(tmp_path, public_url=HTTPS) == [("ok", "1 Requested")]
    control.exports.end(export.id, State.FAILED, "no room")
    assert said(tmp_path, public_url=HTTPS) == [("warn", "1 Failed")]
