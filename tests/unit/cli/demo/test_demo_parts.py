"""The demo's own checks: they find leaks, and report every difference."""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_audit.cli.demo.agree import (
    ShownRequest,
    agree,
    agree_but_for_ids,
    seen_in_entry,
    seen_in_record,
    seen_in_result,
)
from asgi_audit.cli.demo.app import CUSTOMERS, make_database
from asgi_audit.cli.demo.ask import TableRow, leaks
from asgi_audit.cli.demo.drive import Sent
from asgi_audit.cli.demo.show import WIDTH, next_steps, shortened, table

SECRET = "pw-0123456789abcdef01234567"


@pytest.mark.parametrize(
    "data",
    [
        f"...{SECRET}...".encode(),
        SECRET.encode().hex().encode(),
        base64.b64encode(f"root:{SECRET}".encode()),
        base64.b64encode(f"x:{SECRET}!".encode()),
        base64.b64encode(f":{SECRET}!!".encode()),
        base64.b64encode(f"{SECRET}".encode()),
    ],
)
def test_leaks_finds_a_secret_in_files_and_texts_in_every_form(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"\0" * 100 + data)
    secrets = {"the password": SECRET, "the other": "pw-ffffffffffffffffffffffff"}
    found, searched = leaks(secrets, [tmp_path / "index.db", tmp_path / "gone"], [("a record", data), ("none", b"x")])
    assert searched == 100 + 2 * len(data) + 1
    assert {line.split(" in ")[1] for line in found} == {str(tmp_path / "index.db"), "a record"}
    assert all(line.startswith("the password") for line in found)


def test_leaks_finds_nothing_when_the_value_was_masked(tmp_path: Path) -> None:
    assert leaks({"the password": SECRET}, [], [("a record", b'{"password":"[REDACTED]"}')])[0] == []


def record(request_id: str, method: str = "GET", path: str = "/", status: int = 200) -> dict[str, Any]:
    return {
        "metadata": {"requestId": request_id},
        "request": {"method": method, "path": path},
        "response": {"statusCode": status},
    }


def test_agree_counts_what_stands_once_as_its_client_saw_it() -> None:
    sent = [Sent(name, "GET", "/", 200, 0, "g") for name in ("right", "twice", "missing", "other")]
    records = [record("right"), record("twice"), record("twice"), record("other", status=500), record("nobody")]
    count, problems = agree("usage", sent, map(seen_in_record, records))
    assert count == 1
    assert [p.split(" as ")[0] for p in problems] == [
        "usage holds twice (GET /) 2 times",
        "usage holds missing (GET /) 0 times",
        "usage holds other",
        "usage holds 1 records of requests that were not sent",
    ]


def test_agree_goes_by_what_was_asked_where_no_id_is_shown() -> None:
    sent = [Sent(str(n), "GET", path, 200, 0, "g") for n, path in enumerate(("/a", "/a", "/b", "/c"))]
    shown = [("GET", "/a", 200), ("GET", "/b", 200), ("GET", "/b", 200), ("GET", "/c", 500)]
    results = [
        {"request": json.dumps({"method": m, "path": p}), "response": json.dumps({"statusCode": s})}
        for m, p, s in shown
    ]
    count, problems = agree_but_for_ids("tr50", sent, map(seen_in_result, results))
    assert count == 2
    assert sorted(problems) == [
        "tr50 holds ('GET', '/b', 200) 1 times too often",
        "tr50 holds ('GET', '/c', 500) 1 times too often",
        "tr50 lacks ('GET', '/a', 200) 1 times",
        "tr50 lacks ('GET', '/c', 200) 1 times",
    ]
    assert agree_but_for_ids("tr50", sent, (ShownRequest("", s.method, s.path, s.status) for s in sent)) == (4, [])
    entry = {"details": {"request_id": "r", "method": "GET", "path": "/a", "status_code": 200}}
    assert seen_in_entry(entry) == ("r", "GET", "/a", 200)


def test_table_folds_equal_lines_and_record_is_shortened() -> None:
    page = TableRow("GET …", 200, "100 records + nextToken")
    lines = table([TableRow("POST /trail", 200, "id"), page, page, page]).splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("3 × 100 records + nextToken")
    assert max(map(len, table([TableRow("x" * 100, 404, "y" * 100)]).splitlines())) == WIDTH
    said = table([TableRow("POST /usage", 400, "to: it is missing; accepted are RFC 3339 timestamps")]).splitlines()[-1]
    assert said.endswith("to: it is missing…"), "cut after a word"
    assert "… (5000 characters)" in shortened({"request": {"body": ["x" * 5000]}})


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("/usr/bin/asgi-audit", "/usr/bin/asgi-audit"),
        ("{here}/.venv/bin/asgi-audit", ".venv/bin/asgi-audit"),
        ("/x/asgi_audit/__main__.py", "python -m asgi_audit"),
    ],
)
def test_next_steps_are_commands_of_this_shell(
    called: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called.format(here=tmp_path)])
    lines = next_steps(kept=None).splitlines()
    assert f"     {command} demo --keep" in lines
    assert f"     ASGI_AUDIT_HOME=shop {command} ask --status 4xx" in lines
    assert max(map(len, lines)) <= WIDTH
    assert f"     ASGI_AUDIT_HOME='/a b' {command} ask --status 4xx" in next_steps(kept=Path("/a b")).splitlines()
    (tmp_path / "asgi-audit").touch(0o755)
    assert "     asgi-audit demo --keep" in next_steps(kept=None).splitlines()


def test_database_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    rows = []
    for name in ("a.db", "b.db"):
        make_database(tmp_path / name)
        db = sqlite3.connect(tmp_path / name)
        rows.append(db.execute("SELECT * FROM customers ORDER BY id").fetchall())
        db.close()
    assert rows[0] == rows[1]
    assert len(rows[0]) == CUSTOMERS
