"""The range that the index claims to be complete, in main.db: one row of `extent`, and the partitions that hold T.

An index without that row claims nothing (see `main.py` for an index that version 0.1.0 created).
"""

from __future__ import annotations

import json
from typing import Any

import apsw

from ..state import Completion, Extent, Hold, ReadUntil, reached

__all__ = ["batches", "count_batch", "read", "read_holds", "reckon", "write"]


def write(main: apsw.Connection, completion: Completion) -> None:
    """Inside the caller's transaction."""
    e = completion.extent
    main.execute(
        "UPDATE extent SET until = ?, ceiling = ?, begins = ?, is_begun = ?, begins_at_fence = ?, above = ?",
        (e.until, e.ceiling, e.begins, int(e.is_begun), int(e.begins_at_fence), json.dumps(e.above)),
    )
    if completion.holds is not None:
        main.execute("DELETE FROM hold")
        main.executemany(
            "INSERT INTO hold VALUES (?, ?, ?, ?)",
            [(h.partition, h.reason, h.since, int(h.is_lost)) for h in completion.holds],
        )


def count_batch(main: apsw.Connection) -> None:
    """Inside the caller's transaction."""
    main.execute("UPDATE extent SET batches = batches + 1")


def batches(main: apsw.Connection) -> int:
    found = _row(main)
    return 0 if found is None else int(found[-1])


def read(main: apsw.Connection) -> Extent:
    found = _row(main)
    return Extent() if found is None else _extent(found)


def _extent(found: Any) -> Extent:
    until, ceiling, begins, is_begun, at_fence, above = found[:6]
    return Extent(until, ceiling, begins, bool(is_begun), bool(at_fence), tuple(json.loads(above)))


def reckon(
    main: apsw.Connection, fence: tuple[int, ReadUntil] | None, horizon: int | None
) -> tuple[int | None, int | None]:
    """Computes T and `complete_from`. Read `fence` before the row: an older fence claims too little, which is safe; a
    newer one would claim too much."""
    found = _row(main)
    if found is None:
        return None, None
    extent = _extent(found)
    mark = fence[1].at if fence is not None and fence[0] <= found[-1] else None
    begins = max(extent.begins, horizon or 0) if extent.is_begun else None
    return reached(extent, mark), begins


def read_holds(main: apsw.Connection) -> list[Hold]:
    rows: Any = main.execute("SELECT partition, reason, since, is_lost FROM hold ORDER BY since, partition").fetchall()
    return [Hold(partition, reason, since, bool(is_lost)) for partition, reason, since, is_lost in rows]


def _row(main: apsw.Connection) -> Any:
    return main.execute(
        "SELECT until, ceiling, begins, is_begun, begins_at_fence, above, batches FROM extent"
    ).fetchone()
