"""Tail's line, and that journal and index together give each record once."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path

import pytest
from tests.support.records import payload
from tests.support.waiting import until

from asgi_audit.cli import main
from asgi_audit.cli.tail import line_of
from asgi_audit.record.codec import decode
from asgi_audit.record.ids import new_process, uuid7
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.wiring.application import open_journal
from asgi_audit.wiring.operations import build_indexer, open_store_writer

START = 1_774_000_000_000


def record(process: uuid.UUID, sequence: int, *, timestamp: int | None = None, **context: object) -> bytes:
    at = START + sequence if timestamp is None else timestamp
    given = {"account": "default", "service": "app", "instance": "default", "path": f"/{sequence}", "request_id": "r"}
    return payload(sequence, at, process=process, identity=uuid7(at), **given, **context)


def write(settings: Settings, process: uuid.UUID, records: list[bytes]) -> None:
    """As an application does that then dies: nobody closes its journal."""
    writer = open_journal(settings, ProcessFacts(process, "h", "app", START))
    writer.append([Entry(Kind.RECORD, decode(data).sequence, data) for data in records])
    writer.sync()
    writer.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    # Small segments: the indexer removes what it has taken on.
    monkeypatch.setattr("asgi_audit.transport.journal.writer.SEGMENT_BYTES", 4096)
    return make_settings({}, home=tmp_path)


def paths(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["request"]["path"] for line in capsys.readouterr().out.splitlines()]


def test_line_holds_time_level_and_message() -> None:
    assert line_of(decode(record(new_process(START), 1))).startswith("2026-03-20 09:46:40.001Z  INFO   GET /1 → 200 OK")


def test_line_cannot_move_a_terminals_cursor() -> None:
    line = line_of(decode(record(new_process(START), 1, message="a\x1b[2Jb\nc\x9bd\u202ee")))
    assert line.endswith(r"INFO   a\x1b[2Jb\nc\x9bd\u202ee")


def test_last_lines_are_in_order_of_time_when_several_processes_wrote(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = new_process(START), new_process(START)
    write(settings, one, [record(one, n, timestamp=START + 10 * n) for n in (1, 2, 3)])
    write(settings, two, [record(two, n, timestamp=START + 10 * n - 25) for n in (4, 5)])
    assert main(["tail", "--json"]) == 0
    assert paths(capsys) == ["/1", "/4", "/2", "/5", "/3"]
    assert main(["tail", "--json", "-n", "2"]) == 0
    assert paths(capsys) == ["/5", "/3"]
    assert main(["tail", "--json", "-n", "0"]) == 0
    assert capsys.readouterr() == ("", "")


def test_each_record_is_shown_once_when_some_are_indexed_and_some_are_not(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    first, later = new_process(START), new_process(START)
    write(settings, first, [record(first, n, filler="x" * 500) for n in range(1, 31)])
    writer, stop = open_store_writer(settings), threading.Event()
    indexer = build_indexer(settings, writer, stop=stop)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    until(lambda: indexer.progress.indexed == 30)
    stop.set()
    thread.join(60)
    writer.close()
    assert indexer.progress.indexed == 30
    write(settings, later, [record(later, n, timestamp=START + 100 + n) for n in (31, 32)])
    assert main(["tail", "--json", "-n", "40"]) == 0
    assert paths(capsys) == [f"/{n}" for n in range(1, 33)]
    assert main(["tail", "--json", "-n", "3"]) == 0
    assert paths(capsys) == ["/30", "/31", "/32"]
