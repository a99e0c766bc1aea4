"""Reads the state of an index, without its records, for metrics and for `asgi-audit doctor`. Read-only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw

from ...transport.base import Position
from ..admin import DeadLetterFacts, IndexFacts
from ..base import Snapshot
from ..identity import Expected, IndexMemory
from ..state import ReadUntil
from . import extent, retention
from .completeness import FORGOTTEN
from .days import day_is_gone, gone_days
from .dead_letters import DEAD_COLUMNS
from .errors import translated
from .fence import read_fence
from .lease import holder
from .main import open_main
from .processes import FOREIGN_INDEXED
from .schema import MAIN_NAME, day_of_name, index_id, open_reading

__all__ = ["inspect", "quick_check"]

_NEWEST = 5


def inspect(directory: Path, *, source: str = "journal", memory: IndexMemory | None = None) -> IndexFacts | None:
    """None when there is no index. `source`: the source whose positions are returned. `memory`: the expected index.
    Raises StoreError."""
    expected = Expected(directory, memory)
    return expected.settled(lambda: _inspected(directory, source, expected))


def _inspected(directory: Path, source: str, expected: Expected) -> IndexFacts | None:
    path = directory / MAIN_NAME
    with translated("read", directory):
        if not path.is_file():
            expected.absent()
            return None
        size, days = _files(directory)
        fence = read_fence(directory)  # read before main.db, as every reader must
        main = open_main(path)
        try:
            if not main.pragma("user_version"):
                expected.absent("an empty file")
                return None
            expected.found(index_id(main))
            if gone := gone_days(main, directory):
                raise day_is_gone(directory, gone[0])
            main.execute("BEGIN")  # one moment for all of them; it ends with the connection
            return _facts(main, directory, size, days, fence, source)
        finally:
            main.close(True)


def quick_check(directory: Path) -> str:
    """'' when main.db is sound, else the first problem found. Reads all of main.db. Raises StoreError when it cannot be
    read."""
    with translated("check", directory / MAIN_NAME):
        main = open_reading(directory / MAIN_NAME)
        try:
            found = str(main.execute("PRAGMA quick_check(1)").get)
        except apsw.CorruptError as e:
            return str(e)
        finally:
            main.close(True)
    return "" if found == "ok" else found


def _facts(
    main: apsw.Connection, directory: Path, size: int, days: list[str], fence: tuple[int, ReadUntil] | None, source: str
) -> IndexFacts:
    published, dead = _row(main, "SELECT published, dead FROM state")
    captured, excluded, indexed, stated = _row(
        main,
        "SELECT ifnull(sum(max(last, indexed)), 0), ifnull(sum(excluded), 0), ifnull(sum(indexed), 0), "
        "ifnull(sum(stated_lost), 0) FROM process",
    )
    forgotten: Any = main.execute("SELECT key, value FROM meta WHERE key LIKE 'forgotten%'").fetchall()
    before: dict[str, Any] = dict(forgotten)
    captured, excluded, indexed = (
        n + int(before.get(key, 0)) for key, n in zip(FORGOTTEN, (captured, excluded, indexed), strict=True)
    )
    foreign: Any = main.execute("SELECT value FROM meta WHERE key = ?", (FOREIGN_INDEXED,)).get
    indexed += int(foreign or 0)
    lost: dict[str, int] = {}
    rows: Any = main.execute("SELECT reason, count FROM loss").fetchall()
    lost = dict(rows)
    # Losses refused by a broker are in entries of their own, not in a statement.
    told = sum(count for reason, count in lost.items() if reason != "refused")
    if stated > told:
        lost["other"] = lost.get("other", 0) + stated - told
    newest: Any = main.execute(
        f"SELECT {DEAD_COLUMNS} FROM dead_letter ORDER BY id DESC LIMIT ?", (_NEWEST,)
    ).fetchall()
    fed: Any = main.execute("SELECT DISTINCT source FROM position ORDER BY source").fetchall()
    rows = main.execute("SELECT partition, next, digest FROM position WHERE source = ?", (source,))
    return IndexFacts(
        id=index_id(main) or "",
        bytes=size,
        days=days,
        horizon=retention.horizon_of(main),
        snapshot=Snapshot(published, fence[1].taken_at / 1000 if fence and fence[0] <= extent.batches(main) else 0.0),
        captured=captured,
        excluded=excluded,
        indexed=indexed,
        lost=lost,
        dead=dead,
        newest_dead=[DeadLetterFacts(*row) for row in newest],
        held_by=holder(directory),
        positions={partition: Position(following, digest) for partition, following, digest in rows},
        sources=[name for (name,) in fed],
    )


def _row(main: apsw.Connection, sql: str) -> Any:
    return main.execute(sql).fetchone()


def _files(directory: Path) -> tuple[int, list[str]]:
    size = 0
    days = set()
    for name in os.listdir(directory):
        try:
            size += os.stat(directory / name).st_blocks * 512
        except FileNotFoundError:
            continue  # purged meanwhile
        day = day_of_name(name)
        if day is not None:
            days.add(day)
    return size, sorted(days)
