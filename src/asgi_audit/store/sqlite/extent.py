"""Of what the index claims to be complete, in main.db: one row of `extent`, and the partitions that hold T.

The tables have no schema version of their own: whoever opens the index to write makes them, so an index made by version
0.1.0 gets them then. What it claims begins at that moment: version 0.1.0 could claim what it had not read. When 0.1.0
wrote in an index in between (`completeness` or `state` differ from what stands here), it begins anew in the same way.
"""

from __future__ import annotations

import json
from typing import Any

import apsw

from ..state import Completion, Extent, Hold, ReadUntil, reached

__all__ = ["batches", "prepare", "published", "read", "read_holds", "reckon", "write"]

_TABLES = """
CREATE TABLE extent (
  one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER, ceiling INTEGER, begins INTEGER NOT NULL,
  is_begun INTEGER NOT NULL, begins_at_fence INTEGER NOT NULL, above TEXT NOT NULL,
  batches INTEGER NOT NULL,   -- written ever: a `fence` that names more is not of this main.db
  published INTEGER NOT NULL  -- as `state` had it
);
CREATE TABLE hold (partition TEXT PRIMARY KEY, reason TEXT NOT NULL, since INTEGER NOT NULL, is_lost INTEGER NOT NULL)
  WITHOUT ROWID;
"""


def prepare(main: apsw.Connection, now: int) -> None:
    """Once, when an index is opened to be written (`now`: ms). Writes nothing when nothing is out of date: the disk may
    be full."""
    until, published = main.execute("SELECT until, published FROM completeness, state").get
    found: Any = _row(main)
    if found is not None and found[0] == until and found[-1] == published:
        return
    main.execute("BEGIN IMMEDIATE")
    if found is None:
        main.execute(_TABLES)
        is_used = bool(published or main.execute("SELECT EXISTS (SELECT 1 FROM position)").get)
        begins = (now, 1) if is_used else (0, 0)
        main.execute("INSERT INTO extent VALUES (1, ?, ?, ?, ?, 0, '[]', 0, ?)", (until, until, *begins, published))
    else:
        main.execute(
            "UPDATE extent SET until = ?, ceiling = ?, begins = max(begins, ?), is_begun = 1, published = ?",
            (until, until, now, published),
        )
    main.execute("COMMIT")


def write(main: apsw.Connection, completion: Completion) -> None:
    """Inside the caller's transaction."""
    e = completion.extent
    main.execute(
        "UPDATE extent SET until = ?, ceiling = ?, begins = ?, is_begun = ?, begins_at_fence = ?, above = ?",
        (e.until, e.ceiling, e.begins, int(e.is_begun), int(e.begins_at_fence), json.dumps(e.above)),
    )
    main.execute("UPDATE completeness SET until = ?, follows = 0", (e.until,))
    if completion.holds is not None:
        main.execute("DELETE FROM hold")
        main.executemany(
            "INSERT INTO hold VALUES (?, ?, ?, ?)",
            [(h.partition, h.reason, h.since, int(h.is_lost)) for h in completion.holds],
        )


def published(main: apsw.Connection, at: int, *, is_batch: bool) -> None:
    """What `state` says now, and whether a batch was written with it. Inside the caller's transaction."""
    main.execute("UPDATE extent SET published = ?, batches = batches + ?", (at, int(is_batch)))


def batches(main: apsw.Connection) -> int:
    found = _row(main)
    return 0 if found is None else int(found[-2])


def read(main: apsw.Connection) -> Extent:
    found = _row(main)
    if found is None:  # made by version 0.1.0 and not opened by a writer since: what it claims cannot be relied on
        return Extent()
    return _extent(found)


def _extent(found: Any) -> Extent:
    until, ceiling, begins, is_begun, at_fence, above = found[:6]
    return Extent(until, ceiling, begins, bool(is_begun), bool(at_fence), tuple(json.loads(above)))


def reckon(
    main: apsw.Connection, fence: tuple[int, ReadUntil] | None, horizon: int | None
) -> tuple[int | None, int | None]:
    """T and `complete_from`. `fence` must have been read before: an older one than the row claims less, a newer one too
    much."""
    found = _row(main)
    if found is None:
        return None, None
    extent = _extent(found)
    mark = fence[1].at if fence is not None and fence[0] <= found[-2] else None
    begins = max(extent.begins, horizon or 0) if extent.is_begun else None
    return reached(extent, mark), begins


def read_holds(main: apsw.Connection) -> list[Hold]:
    if not _is_there(main):
        return []
    rows: Any = main.execute("SELECT partition, reason, since, is_lost FROM hold ORDER BY since, partition").fetchall()
    return [Hold(partition, reason, since, bool(is_lost)) for partition, reason, since, is_lost in rows]


def _row(main: apsw.Connection) -> Any:
    if not _is_there(main):
        return None
    return main.execute(
        "SELECT until, ceiling, begins, is_begun, begins_at_fence, above, batches, published FROM extent"
    ).fetchone()


def _is_there(main: apsw.Connection) -> bool:
    return bool(main.execute("SELECT 1 FROM sqlite_schema WHERE name = 'extent'").get)
