"""`asgi-audit completeness`: output, exit codes, and `--acknowledge` for a silent process."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import NOON, OTHER, PROCESS, batch, extent, record, statement

from asgi_audit.cli import main
from asgi_audit.record.line import TIME_END
from asgi_audit.record.statement import Statement
from asgi_audit.settings import make_settings
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.state import Completion, Hold, Incident, ProcessState
from asgi_audit.wiring.operations import measures


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index in which one process became silent a minute ago."""
    now = int(time.time() * 1000)
    writer = SqliteWriter(tmp_path / "index")
    silent = Incident(
        id=1, kind="silent", process=PROCESS, opened_at=now - 60_000, start=now - 180_000, end=None
    )  # fmt: skip
    off = ProcessState(process=PROCESS.bytes, partition="p", started=now - 200_000, standing="off")
    writer.write(batch(completion=Completion(extent(now - 10_000), [off], [silent])))
    writer.close()
    return tmp_path / "index"


def run(index: Path, *arguments: str) -> int:
    return main(["completeness", "--store", f"sqlite:///{index}", *arguments])


def test_window_is_complete_again_when_a_silent_process_is_acknowledged(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 50))
    assert run(index, "--from", since) == 1
    assert run(index, "--acknowledge", str(PROCESS).upper()) == 0
    assert "will not come back" in capsys.readouterr().err
    assert run(index, "--from", since) == 0
    capsys.readouterr()
    assert run(index) == 1, "what is unproven stays so"
    shown = capsys.readouterr()
    assert "incidents 0 open, 1 acknowledged, 0 resolved" in shown.out
    assert shown.err == "asgi-audit: not complete: 1 acknowledged incident\n"
    values = measures(make_settings({}, store=str(index), home=index.parent))
    assert values["asgi_audit_index_incidents"] == 0
    assert values["asgi_audit_index_incidents_acknowledged"] == 1


@pytest.mark.parametrize("wrong", ["x", str(uuid.UUID(int=1))])
def test_only_a_silent_process_can_be_acknowledged(index: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert run(index, "--acknowledge", wrong) == 2
    assert f"accepted: a process that is silent: {PROCESS}" in capsys.readouterr().err
    assert run(index, "--acknowledge", str(PROCESS)) == 0
    assert run(index, "--acknowledge", str(PROCESS)) == 2
    assert "there is none" in capsys.readouterr().err


NOW = int(time.time() * 1000)


@pytest.fixture
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time at which the cases were made: tests before this one may take minutes."""
    monkeypatch.setattr("asgi_audit.cli.completeness.time.time", lambda: NOW / 1000)


def made(path: Path, until: int | None, **more: Any) -> Path:
    """An index whose T is `until` ms before now, and whose beginning is known."""
    writer = SqliteWriter(path / "index")
    states = more.pop("states", [])
    stands = extent(None if until is None else NOW - until, begins=NOW - 100_000)
    writer.write(
        batch(completion=Completion(stands, states, more.pop("incidents", []), 0, more.pop("holds", None)), **more)
    )
    writer.close()
    return path / "index"


def ago(seconds: float) -> str:
    at = NOW / 1000 - seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}Z"


@pytest.mark.usefixtures("_now")
@pytest.mark.parametrize(
    ("until", "flags", "code"),
    [
        (5_000, [], 0),
        (5_000, ["--max-age", "7200s"], 0),
        (500_000, ["--max-age", "2m"], 1),  # T is before `complete from`
        (90_000, ["--max-age", "60s"], 4),
        (90_000, ["--max-age", "1h"], 0),
        (None, [], 1),
        (5_000, ["--from", ago(90)], 0),
        (5_000, ["--from", ago(101)], 1),
        (5_000, ["--to", ago(6)], 0),
        (5_000, ["--to", ago(4)], 1),
        (5_000, ["--to", ago(101)], 1),
        (5_000, ["--to", ago(4), "--max-age", "1s"], 1),
        (5_000, ["--from", ago(1)], 1),
        (5_000, ["--from", ago(5), "--to", ago(6)], 2),
        (5_000, ["--from", "yesterday"], 2),
        (5_000, ["--max-age=-5s"], 2),
        (5_000, ["--max-age", "5"], 2),
    ],
)
def test_exit_code_says_how_complete_it_is(tmp_path: Path, until: int | None, flags: list[str], code: int) -> None:
    assert run(made(tmp_path, until), *flags) == code


@pytest.mark.usefixtures("_now")
def test_exit_code_is_three_when_losses_were_stated_and_the_window_holds_them(tmp_path: Path) -> None:
    said = [
        statement(1, 1, 1, at=NOW - 60_000, watermark=NOW - 60_000, started=NOW - 90_000),
        statement(2, 2, 2, at=NOW - 50_000, watermark=NOW - 50_000, started=NOW - 90_000, lost=[(2, 2, "queue")]),
    ]
    state = ProcessState(process=PROCESS.bytes, partition="p", started=NOW - 90_000, lost=1, low=NOW - 50_000)
    index = made(tmp_path, 5_000, states=[state], statements=said)
    assert run(index) == 3
    assert run(index, "--from", ago(55)) == 3
    assert run(index, "--from", ago(49)) == 0
    assert run(index, "--to", ago(61)) == 0
    assert run(index, "--max-age", "1s") == 4, "4 goes before 3"


@pytest.mark.usefixtures("_now")
def test_process_that_t_waits_for_is_named_before_it_is_written_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was killed with its disk 50 s ago. Another process continues, and one has ended."""

    def state(process: uuid.UUID, low: int, standing: Any = "active") -> ProcessState:
        return ProcessState(process=process.bytes, partition="p", started=NOON, low=NOW - low, standing=standing)

    def said(process: uuid.UUID, ago: int, **given: Any) -> Statement:
        return statement(1, 1, 1, at=NOW - ago, watermark=NOW - ago, process=process, **given)

    left = uuid.UUID(int=7)
    index = made(
        tmp_path,
        50_000,
        states=[state(PROCESS, 50_000), state(OTHER, 100), state(left, 70_000, "left")],
        statements=[said(PROCESS, 50_000), said(OTHER, 100), said(left, 70_000, open_count=1, closed="final")],
    )
    run(index)
    shown = capsys.readouterr().out
    assert shown.count("T waits for process ") == 1
    assert f"T waits for process {PROCESS} (" in shown
    assert "was last heard of at " in shown
    assert re.search(rf"^{left} .* ended .* 0  ", shown, re.M), "what was open in a process that ended has ended"
    run(index, "--json")
    assert json.loads(capsys.readouterr().out)["waitsFor"] == [str(PROCESS)]


@pytest.mark.usefixtures("_now")
def test_json_counts_the_statements_whose_merkle_root_could_not_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ProcessState(process=PROCESS.bytes, partition="p", started=NOON, low=NOW - 100, unverified=2)
    said = statement(1, 1, 1, at=NOW - 100, watermark=NOW - 100)
    run(made(tmp_path, 5_000, states=[state], statements=[said]), "--json")
    [process] = json.loads(capsys.readouterr().out)["processes"]
    assert process["unverified"] == 2


@pytest.mark.usefixtures("_now")
def test_what_holds_t_is_shown_and_can_be_acknowledged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = made(tmp_path, 5_000, holds=[Hold("3", "it has no leader", NOW - 4_000)])
    assert run(index) == 0
    shown = capsys.readouterr().out
    assert "T waits for partition 3 since" in shown
    assert "--acknowledge partition:3" in shown
    assert run(index, "--acknowledge", "partition:4") == 2
    assert "accepted: a partition that T waits for: partition:3" in capsys.readouterr().err
    assert run(index, "--acknowledge", "partition:3") == 0
    capsys.readouterr()
    assert run(index, "--acknowledge", "partition:3") == 2
    assert run(index) == 0, "the incident begins where T stands"
    assert run(index, "--json") == 0
    found = json.loads(capsys.readouterr().out.split("complete until")[-1].split("\n", 1)[1])
    assert found["holds"][0]["lost"]
    reader = SqliteReader(index)
    (incident,) = reader.incidents(0, TIME_END)
    assert (incident.kind, incident.start) == ("partition_lost", NOW - 5_000)
    reader.close()


@pytest.mark.usefixtures("_now")
def test_day_that_was_given_up_makes_its_window_incomplete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = made(tmp_path, 5_000, records=[record(1, NOON)])
    assert run(index, "--from", ago(90)) == 0
    (index / "day-2026-11-22.db").unlink()
    assert run(index) == 1, "an index without one of its days is not complete"
    SqliteWriter(index, clock=lambda: NOON / 1000, new_index=True).close()
    capsys.readouterr()
    window = ("--from", "2026-11-22T08:00:00Z", "--to", "2026-11-22T09:00:00Z")
    assert run(index, *window) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^day_lost +- +2026-11-22T00:00:00.000Z +2026-11-23T00:00:00.000Z +- ", shown, re.M)
    assert "the file of 2026-11-22 was missing" in shown
    assert "incidents 0 open, 1 acknowledged" in shown
