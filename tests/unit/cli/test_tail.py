"""The lines of `tail`; journal and index together show each record once."""

from __future__ import annotations

import json
import subprocess
import sys
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
    """Writes like an application that dies afterwards: its journal is not closed."""
    writer = open_journal(settings, ProcessFacts(process, "h", "app", START))
    writer.append([Entry(Kind.RECORD, decode(data).sequence, data) for data in records])
    writer.sync()
    writer.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    # Small segments: the indexer removes the indexed ones.
    monkeypatch.setattr("asgi_audit.transport.journal.writer.SEGMENT_BYTES", 4096)
    return make_settings({}, home=tmp_path)


def paths(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["request"]["path"] for line in capsys.readouterr().out.splitlines()]


def test_line_holds_time_level_service_and_message() -> None:
    assert line_of(decode(record(new_process(START), 1))).startswith(
        "2026-03-20 09:46:40.001Z  INFO   app  GET /1 → 200 OK"
    )


def test_line_cannot_move_a_terminals_cursor() -> None:
    line = line_of(decode(record(new_process(START), 1, message="a\x1b[2Jb\nc\x9bd\u202ee")))
    assert line.endswith(r"INFO   app  a\x1b[2Jb\nc\x9bd\u202ee")


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


def test_filters_hold_for_what_is_indexed_and_for_what_is_not(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    first, later = new_process(START), new_process(START)
    write(settings, first, [record(first, n, status=500 if n % 3 == 0 else 200) for n in range(1, 10)])
    writer, stop = open_store_writer(settings), threading.Event()
    indexer = build_indexer(settings, writer, stop=stop)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    until(lambda: indexer.progress.indexed == 9)
    stop.set()
    thread.join(60)
    writer.close()
    write(settings, later, [record(later, n, timestamp=START + n, status=404) for n in (20, 21)])
    write(settings, new := new_process(START), [record(new, n, timestamp=START + n, status=503) for n in (22, 23)])
    for flags, expected in (
        (["--status", "5xx"], ["/3", "/6", "/9", "/22", "/23"]),
        (["--status", "5xx", "-n", "2"], ["/22", "/23"]),
        (["--status", "404,503", "--service", "app"], ["/20", "/21", "/22", "/23"]),
        (["--end", "2026-03-20T09:46:40.003Z"], ["/1", "/2", "/3"]),
        (["--start", "2026-03-20", "--end", "2026-03-20", "-n", "1"], ["/23"]),
        (["--service", "other"], []),
        (["--since", "1h"], []),
    ):
        assert main(["tail", "--json", *flags]) == 0
        assert paths(capsys) == expected


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--status", "teapot"], "--status: 'teapot' selects no status"),
        (["--level", "LOUD"], "--level is 'LOUD'; accepted: DEBUG"),
        (["--since", "1 day"], "--since is '1 day'; accepted: a duration"),
        (["--since", "1h", "--end", "2026-03-20"], "--since cannot be combined with"),
        (["--start", "yesterday"], "--start is 'yesterday'; accepted: 2026-01-31"),
        (["--end", "2026-03-20T09:46:40"], "--end is '2026-03-20T09:46:40'; accepted: 2026-01-31, or a time with"),
        (["--path", "*/x"], "--path is '*/x'"),
    ],
)
@pytest.mark.usefixtures("settings")
def test_a_wrong_filter_is_named(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", *flags]) == 2
    assert said in capsys.readouterr().err


def test_where_it_looked_is_said_when_there_is_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail"]) == 1
    said = capsys.readouterr().err
    assert f"{settings.journal_path} and {settings.store_path}" in said
    assert "--home" in said


def test_following_ends_when_nothing_reads_what_is_printed(settings: Settings) -> None:
    process = new_process(START)
    write(settings, process, [record(process, n) for n in (1, 2, 3)])
    command = f"{sys.executable} -m asgi_audit tail -f --home {settings.home} | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("GET /1 → 200 OK, 12 ms\n")
