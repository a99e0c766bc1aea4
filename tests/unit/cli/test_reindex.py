"""`asgi-audit reindex`: days of an earlier version are rebuilt, with progress."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.days import days_of_version_1
from tests.support.records import DAY_MS, NOON, batch, everything, record, walk

from asgi_audit.cli import main
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Three days; the first two are of version 1."""
    index = tmp_path / "index"
    with days_of_version_1():
        writer = SqliteWriter(index, clock=lambda: NOON / 1000)
        writer.write(batch(record(s, NOON - (1 + s % 2) * DAY_MS, route="/orders") for s in range(1, 12)))
        writer.close()
    writer = SqliteWriter(index, clock=lambda: NOON / 1000)
    writer.write(batch([record(20, NOON, route="/orders")]))
    writer.close()
    return index


def run(index: Path, *arguments: str) -> int:
    return main(["reindex", "--store", f"sqlite:///{index}", *arguments])


def test_days_of_an_earlier_version_are_made_new(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(index, "--list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-11-22  version 2             1 records",
        "2026-11-21  version 1             5 records  needs reindex",
        "2026-11-20  version 1             6 records  needs reindex",
    ]
    assert run(index) == 0
    said = capsys.readouterr().err.splitlines()
    assert [re.sub(r"[\d,]+ a second", "N a second", line) for line in said] == [
        "2026-11-21  0 of 5 records, N a second",
        "2026-11-21  5 of 5 records, N a second",
        "2026-11-20  0 of 6 records, N a second",
        "2026-11-20  6 of 6 records, N a second",
        "2 days, 11 records rebuilt",
    ]
    reader = SqliteReader(index)
    assert len(walk(reader, everything(route="/orders"))) == 12
    reader.close()
    assert run(index) == 0
    assert capsys.readouterr().err == "0 days, 0 records rebuilt\n"


def test_day_that_is_named_is_made_new_whatever_its_version(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(index, "--day", "2026-11-22", "--day", "2026-11-20") == 0
    assert capsys.readouterr().err.endswith("2 days, 7 records rebuilt\n")
    assert {p.name for p in index.glob("day-*.db")} == {
        "day-2026-11-20.1.db", "day-2026-11-21.db", "day-2026-11-22.1.db",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--day", "soon"], "--day is 'soon'; accepted: a date such as 2026-11-22"),
        (["--day", "2020-01-01"], "--day is 2020-01-01; accepted: a day of the index"),
    ],
)
def test_reindex_says_what_is_accepted(
    index: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(index, *arguments) == 2
    assert said in capsys.readouterr().err


def test_reindex_is_one_line_when_there_is_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none") != 0
    assert "there is no index in" in capsys.readouterr().err


def test_unfinished_copies_are_removed_when_asked(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (index / "reindex-2026-11-21.db").write_bytes(b"x")
    assert run(index, "--discard") == 0
    assert capsys.readouterr().err == "1 unfinished copies removed\n"
    assert not (index / "reindex-2026-11-21.db").exists()
