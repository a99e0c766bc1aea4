"""`asgi-audit dead-letters`: the list, the contents, and the result of a replay."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tests.support.records import NOON, batch, payload, record, sequences, walk

from asgi_audit.cli import main
from asgi_audit.indexing.retention import Retention
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, inspect
from asgi_audit.store.state import DeadLetter

GOOD = payload(7, NOON)
LARGE = b"x" * 70_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three dead letters: one that is a valid record now, one that is not, and one that was truncated."""
    writer = SqliteWriter(tmp_path / "index", clock=lambda: NOON / 1000 + 60)
    letters = [
        DeadLetter("kafka:c:t", "3", 17, "a field of a later version", GOOD),
        DeadLetter("kafka:c:t", "3", 18, "no JSON", b"\x1b[31mnot a record\xff"),
        DeadLetter("kafka:c:t", "3", 19, "too large", LARGE),
    ]
    writer.write(batch([record(1)], dead_letters=letters))
    writer.close()
    return tmp_path


def ask(home: Path, *arguments: str) -> int:
    return main(["dead-letters", *arguments, "--home", str(home)])


def indexed(home: Path) -> list[int]:
    reader = SqliteReader(home / "index")
    try:
        return sorted(sequences(walk(reader)))
    finally:
        reader.close()


def test_list_shows_where_each_came_from_and_whether_it_is_whole(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(home, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert lines[0].endswith(" kafka:c:t/3@19, 70,000 bytes, 65,536 kept: too large")
    assert ask(home, "list", "-n", "1", "--json") == 0
    (found,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (found["id"], found["cut"], found["offset"], found["bytes"]) == (3, True, 19, 70_000)


def test_show_steers_no_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(home, "show", "2") == 0
    shown = capsys.readouterr().out
    assert "not a record" in shown
    assert "\x1b" not in shown
    assert ask(home, "show", "3") == 0
    assert "the first 65,536 of 70,000 bytes" in capsys.readouterr().err
    assert ask(home, "show", "99") == 2


def test_replayed_record_is_indexed_and_what_is_none_stays_with_its_reason(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(home, "replay", "1", "2", "3") == 1
    one, two, three = capsys.readouterr().out.splitlines()
    assert one == "1: indexed"
    assert two.startswith("2: replayed: ")
    assert three == "3: replayed: only 65536 of its 70000 bytes were kept, so it cannot be replayed"
    assert indexed(home) == [1, 7]
    ask(home, "list", "--json")
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [3, 2]
    facts = inspect(home / "index")
    assert facts is not None
    assert facts.dead == 3, "how many ever came does not change"
    assert ask(home, "replay", "1") == 2, "it is no dead letter any more"
    assert ask(home, "replay", "--all") == 1
    assert capsys.readouterr().out.startswith("2: replayed: "), "the cut one is not tried"
    assert ask(home, "replay") == 2


def test_running_indexer_replays_when_it_is_asked(home: Path) -> None:
    writer = SqliteWriter(home / "index", clock=lambda: NOON / 1000 + 60)
    monotonic = [0.0]
    retention = Retention(writer, clock=lambda: NOON / 1000 + 60, monotonic=lambda: monotonic[0])
    stop = threading.Event()

    def tend() -> None:
        while not stop.wait(0.01):
            monotonic[0] += 1
            retention.tend()

    indexer = threading.Thread(target=tend)
    indexer.start()
    try:
        assert ask(home, "replay", "1") == 0
    finally:
        stop.set()
        indexer.join()
        writer.close()
    assert indexed(home) == [1, 7]


def test_letter_that_was_indexed_before_the_process_died_is_no_duplicate(home: Path) -> None:
    writer = SqliteWriter(home / "index", clock=lambda: NOON / 1000 + 60)
    writer.write(batch([record(7)]))
    writer.close()
    assert ask(home, "replay", "1") == 0
    assert indexed(home) == [1, 7]
