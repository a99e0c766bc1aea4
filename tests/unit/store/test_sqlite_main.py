"""main.db of version 1, by 0.1.0 and by later development versions: readers read it unchanged, and the next writer
migrates it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from tests.support.records import NOON, OTHER, PROCESS, batch, extent, read_until, record, statement, walk

from asgi_audit.errors import StoreError
from asgi_audit.record.line import TIME_END
from asgi_audit.store.admin import IndexFacts
from asgi_audit.store.base import Reader
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, inspect
from asgi_audit.store.state import Completeness, Completion, Incident, ProcessState

_THIRD = uuid.UUID("019aaaaa-0000-7000-8000-000000000003")
# Tables of 0.1.0 that version 2 replaced, and additions made before version 2.
_FIRST = """
CREATE TABLE process (
  process BLOB PRIMARY KEY, service TEXT NOT NULL, host TEXT NOT NULL, started INTEGER NOT NULL,
  indexed INTEGER NOT NULL DEFAULT 0, number INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0,
  lost INTEGER NOT NULL DEFAULT 0, excluded INTEGER NOT NULL DEFAULT 0, open_count INTEGER NOT NULL DEFAULT 0,
  watermark INTEGER NOT NULL DEFAULT 0, closed TEXT NOT NULL DEFAULT '', proven INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
CREATE TABLE tracked (
  process BLOB NOT NULL UNIQUE, standing TEXT NOT NULL, low INTEGER NOT NULL, lost INTEGER NOT NULL,
  missing INTEGER NOT NULL, open_count INTEGER NOT NULL, open_from INTEGER NOT NULL, open_to INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE INDEX tracked_active ON tracked (standing) WHERE standing = 'active';
CREATE INDEX tracked_open ON tracked (open_from) WHERE open_count > 0;
CREATE TABLE completeness (
  one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER, follows INTEGER NOT NULL
);
"""
_LATER = """
CREATE TABLE extent (
  one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER, ceiling INTEGER, begins INTEGER NOT NULL,
  is_begun INTEGER NOT NULL, begins_at_fence INTEGER NOT NULL, above TEXT NOT NULL,
  batches INTEGER NOT NULL, published INTEGER NOT NULL
);
"""


def make_old(index: Path, *, first: bool) -> None:
    """Downgrades the index to version 1: that of 0.1.0 (`first`), or of later development versions."""
    main = apsw.Connection(str(index / "main.db"))
    main.execute("BEGIN; ALTER TABLE process RENAME TO process_2; ALTER TABLE extent RENAME TO extent_2")
    main.execute("DROP INDEX process_active; DROP INDEX process_open")
    main.execute(_FIRST + ("" if first else _LATER))
    main.execute(
        "INSERT INTO process SELECT process, service, host, started, indexed, number, last, stated_lost, excluded, "
        "stated_open, watermark, closed, proven FROM process_2 WHERE number > 0 OR indexed > 0"
    )
    main.execute(
        "INSERT INTO tracked SELECT process, standing, low, lost, missing, open_count, open_from, open_to, state "
        "FROM process_2 WHERE state NOT NULL"
    )
    main.execute("INSERT INTO completeness SELECT 1, until, 0 FROM extent_2")
    if first:
        main.execute("DROP TABLE open_account; DROP TABLE hold; DROP TABLE loss; DELETE FROM meta WHERE key = 'id'")
    else:
        main.execute("INSERT INTO extent SELECT *, (SELECT published FROM state) FROM extent_2")
    main.execute(
        "DROP TABLE process_2; DROP TABLE extent_2; DROP TABLE arrival; DROP TABLE departure;"
        "ALTER TABLE day DROP COLUMN file"
    )
    main.execute("PRAGMA user_version=1; COMMIT")
    main.close()


def version(index: Path) -> Any:
    main = apsw.Connection(str(index / "main.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return main.pragma("user_version")
    finally:
        main.close()


def facts_of(index: Path) -> IndexFacts:
    found = inspect(index)
    assert found is not None
    return found._replace(bytes=0)


@pytest.fixture
def filled(index: Path) -> Path:
    """Two processes with statements, losses and open exchanges; a third that only the indexer knows."""
    writer = SqliteWriter(index, clock=lambda: NOON / 1000)
    states = [
        ProcessState(
            process=PROCESS.bytes, partition="p", started=NOON, low=NOON + 1, lost=3, open_count=3, open_from=NOON,
            open_to=NOON, open_accounts=[("a", 1), ("b", 1)],
        ),
        ProcessState(process=OTHER.bytes, partition="q", started=NOON, standing="off", missing=2),
        ProcessState(process=_THIRD.bytes, partition="r", started=NOON + 5, open_count=1, open_from=NOON, open_to=NOON),
    ]  # fmt: skip
    missing = Incident(id=1, kind="missing", process=OTHER, opened_at=NOON, start=NOON, end=NOON + 9, count=2)
    said = [
        statement(1, 1, 9, lost=[(8, 9, "queue")], excluded=4, open_count=5),
        statement(1, 1, 4, process=OTHER, closed="provisional"),
    ]
    completion = Completion(extent(NOON, None), states, [missing])
    records = [record(s, NOON + s) for s in range(1, 8)]
    writer.write(batch(records, statements=said, completion=completion, read_until=read_until(NOON / 1000 + 60)))
    writer.close()
    return index


def told(reader: Reader) -> object:
    """Everything that readers return from the tables that differ."""
    whole = (0, TIME_END)
    a, b = frozenset({"a"}), frozenset({"b", "c"})
    return (
        reader.processes(), sorted(reader.window(*whole)), reader.completeness(*whole),
        reader.completeness(*whole, a), reader.completeness(*whole, b), reader.incidents(*whole), reader.holds(),
        len(walk(reader)), reader.snapshot(),
    )  # fmt: skip


def test_main_of_version_1_is_read_as_it_stands_and_brought_up(filled: Path, reader: SqliteReader) -> None:
    before, facts = told(reader), facts_of(filled)
    make_old(filled, first=False)
    reader.close()
    assert told(reader) == before
    assert facts_of(filled) == facts
    assert version(filled) == 1
    writer = SqliteWriter(filled, clock=lambda: NOON / 1000 + 60)
    assert version(filled) == 2
    assert told(reader) == before, "a reader that has it open follows"
    resumed = writer.resumed()
    assert {k.state.process for k in resumed.known} == {PROCESS.bytes, _THIRD.bytes}
    known = writer.known(OTHER.bytes)
    assert known is not None
    assert [i.id for i in known.incidents] == [1]
    # A process that only the indexer knew has records now; one that had records continues.
    writer.write(batch([record(10, NOON + 10), record(1, NOON, process=_THIRD)], statements=[statement(2, 10, 12)]))
    writer.close()
    found = {p.process: (p.service, p.started, p.indexed, p.last) for p in reader.processes()}
    assert found[PROCESS] == ("", 0, 8, 12)
    assert found[_THIRD] == ("gateway", _THIRD.int >> 80, 1, 0)


def test_index_of_0_1_0_claims_from_when_it_is_brought_up(filled: Path, reader: SqliteReader) -> None:
    processes = reader.processes()
    make_old(filled, first=True)
    reader.close()
    assert reader.completeness(0, NOON + 1) == Completeness(None, 1, 4, None), "0.1.0 claimed what it had not read"
    assert reader.completeness(0, NOON + 1, frozenset({"a"})).open == 4, "nobody knows whose they are"
    assert reader.holds() == []
    assert reader.processes() == processes
    assert facts_of(filled).lost == {"other": 2}
    for later in (5_000, 9_000):
        SqliteWriter(filled, clock=lambda at=NOON + later: at / 1000).close()  # type: ignore[misc]
        assert reader.completeness(0, 1) == Completeness(NOON, 0, 0, NOON + 5_000), "nothing is brought up twice"
    assert reader.completeness(0, NOON + 1, frozenset({"a"})).open == 3
    assert reader.processes() == processes


def test_claims_begin_anew_when_0_1_0_wrote_in_between(filled: Path, reader: SqliteReader) -> None:
    make_old(filled, first=False)
    old = apsw.Connection(str(filled / "main.db"))
    old.execute("UPDATE completeness SET until = until + 7")
    old.close()
    SqliteWriter(filled, clock=lambda: NOON / 1000 + 9).close()
    assert reader.completeness(0, 1) == Completeness(NOON + 7, 0, 0, NOON + 9_000)


def test_main_stays_as_it_was_when_bringing_it_up_is_cut_short(
    filled: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told(reader)
    reader.close()
    make_old(filled, first=False)
    with monkeypatch.context() as patched:

        def full(main: object) -> None:
            raise apsw.FullError("database or disk is full")

        patched.setattr("asgi_audit.store.sqlite.completeness.name_open_accounts", full)
        with pytest.raises(StoreError, match="disk is full") as caught:
            SqliteWriter(filled)
        assert caught.value.retriable
    assert version(filled) == 1
    assert told(reader) == before
    SqliteWriter(filled).close()
    assert told(reader) == before


def test_process_of_an_incident_is_text_where_it_rests(index: Path) -> None:
    """As in an index of 0.1.0, where it was text in memory, too."""
    with_one = Incident(id=7, kind="silent", process=OTHER, opened_at=NOON, start=NOON, end=None)
    writer = SqliteWriter(index)
    writer.write(batch(completion=Completion(extent(NOON), [], [with_one])))
    writer.close()
    connection = apsw.Connection(str(index / "main.db"))
    stored = msgspec.msgpack.decode(connection.execute("SELECT data FROM incident WHERE id = 7").get)
    connection.close()
    assert stored["process"] == str(OTHER)
