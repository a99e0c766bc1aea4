"""Export requests, their progress, and the runners that are alive: tables of `control.db`.

The API writes requests and reads states; a runner (`exporting.runner`) advances them. Any number of processes use the
tables. Invariants: a request is one row, from its creation until the retention days after its end have passed, and its
id is never reused; states change only along `Requested → Pending → CreatingNewUrl → Complete`, or from any of the first
three to one of the other ends; within `TOKEN_MS` one (token, accounts of the key) is one request, whatever its state;
one set of accounts has at most `UNFINISHED_MAX` requests that have not ended, and `KEPT_MAX` in all. Everything
reported to a client survives kill -9 and a crash of the machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import apsw

from ..errors import QueryError
from ..query.model import Grant, Query

__all__ = [
    "ALIVE_MS",
    "ENDED",
    "KEPT_MAX",
    "TOKEN_MS",
    "UNFINISHED_MAX",
    "Export",
    "ExportRequest",
    "Exports",
    "Progress",
    "State",
]

TOKEN_MS = 86_400_000
UNFINISHED_MAX = 100
KEPT_MAX = 10_000
# A runner sends a heartbeat every second or two; a slow disk delays it.
ALIVE_MS = 15_000
_ID_BYTES = 16

Read = Callable[[str, str, tuple[Any, ...]], list[Any]]
Writing = Callable[[str], contextlib.AbstractContextManager[apsw.Connection]]


class State(StrEnum):
    """The states, spelled as in the document of the export API."""

    REQUESTED = "Requested"
    PENDING = "Pending"
    CREATING = "CreatingNewUrl"
    COMPLETE = "Complete"
    DOES_NOT_EXIST = "DoesNotExist"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"


_BEGUN = (State.REQUESTED, State.PENDING, State.CREATING)
ENDED = frozenset(State) - frozenset(_BEGUN)

_COLUMNS = "id, reach, key_id, asked, query, created_ms, state, reason, progress, claims, ended_ms, manifest"


class ExportRequest(NamedTuple):
    """An export request. `query`: selects the records of its object, oldest first. `said`: names and texts of the
    request that responses repeat. `group`: its region group. `token`: idempotency token, '' for none. `state`:
    Requested, or a final state that is already known."""

    query: Query
    said: dict[str, str]
    group: str = ""
    token: str = ""
    state: State = State.REQUESTED


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of an object being written. `index`: id of the index that it is read from, '' while unknown;
    `published`: its snapshot. `after`: id of the last row in the object, None before the first. `bytes`: confirmed
    bytes of the object on disk; `plain_bytes`: their uncompressed size; `records`: their number of lines."""

    index: str
    published: int
    after: int | None = None
    records: int = 0
    bytes: int = 0
    plain_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Export:
    """`reach`: the accounts of the requesting key (None: all); keys with the same accounts see the export. `reason`:
    what it waits for, its progress, or why it ended, as text for people. `claims`: the completeness claims of its
    manifest, as of the snapshot. `ended_ms`: None before its end. `manifest`: SHA-256 (hex) of the manifest of a
    complete export."""

    id: str
    reach: frozenset[str] | None
    key_id: str
    said: dict[str, str]
    query: Query
    created_ms: int
    state: State
    reason: str = ""
    progress: Progress | None = None
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended_ms: int | None = None
    manifest: str = ""


class Exports:
    """The exports of one `Control`, accessed through its `read` and `writing`. Thread-safe; each method blocks for a
    look-up or a transaction. Raises StoreError when the file cannot be used."""

    def __init__(self, read: Read, writing: Writing, *, now_ms: Callable[[], int]) -> None:
        self._read = read
        self._writing = writing
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms()

    # -- the API's side

    def with_token(self, grant: Grant, token: str) -> Export | None:
        """The request made with this token in the last 24 h by a key with the same accounts; None when there is
        none."""
        rows = self._read("looking up an export", *_by_token(grant, token, self._now_ms()))
        return _export(rows[0]) if rows else None

    def request(self, grant: Grant, asked: ExportRequest) -> tuple[Export, bool]:
        """Creates a request, or finds the earlier one with the same token. Returns (request, whether it is new). Raises
        QueryError 'busy' when the key's accounts have too many."""
        now, reach = self._now_ms(), _reach(grant.accounts)
        with self._writing("requesting an export") as connection:
            if asked.token:
                known = connection.execute(*_by_token(grant, asked.token, now)).fetchall()
                if known:
                    return _export(known[0]), False
            kept: int = connection.execute("SELECT count(*) FROM exports WHERE reach = ?", (reach,)).get
            open_: int = connection.execute(
                f"SELECT count(*) FROM exports WHERE state IN ({_marks(_BEGUN)}) AND +reach = ?", (*_BEGUN, reach)
            ).get
            if open_ >= UNFINISHED_MAX or kept >= KEPT_MAX:
                which = f"{open_} exports that have not ended" if open_ >= UNFINISHED_MAX else f"{kept} exports kept"
                raise QueryError(
                    f"the accounts of this key have {which}, which is the limit",
                    kind="busy",
                    hint="Wait until some have ended. Exports are removed some days after their end.",
                    retry_seconds=60,
                )
            made = Export(
                id=secrets.token_hex(_ID_BYTES),
                reach=grant.accounts,
                key_id=grant.key_id,
                said=asked.said,
                query=asked.query,
                created_ms=now,
                state=asked.state,
                ended_ms=now if asked.state in ENDED else None,
            )
            connection.execute(
                f"INSERT INTO exports ({_COLUMNS}, until_ms, token, region_group) VALUES ({', '.join('?' * 15)})",
                (
                    made.id,
                    reach,
                    made.key_id,
                    json.dumps(made.said, ensure_ascii=False),
                    _query_text(made.query),
                    now,
                    made.state,
                    "",
                    "",
                    "",
                    made.ended_ms,
                    "",
                    made.query.end,
                    asked.token,
                    asked.group,
                ),
            )
        return made, True

    def find(self, grant: Grant, id_: str, *, days: int) -> Export | None:
        """A request of a key with the same accounts, unless it ended more than `days` ago."""
        found = self.get(id_, days=days)
        return found if found is not None and found.reach == grant.accounts else None

    def get(self, id_: str, *, days: int) -> Export | None:
        """A request of any key; otherwise like `find`."""
        rows = self._read(
            "looking up an export",
            f"SELECT {_COLUMNS} FROM exports WHERE id = ? AND ifnull(ended_ms, ?) > ?",
            (id_, self._now_ms(), self._horizon(days)),
        )
        return _export(rows[0]) if rows else None

    def page(
        self,
        grant: Grant,
        states: Collection[State],
        before: tuple[int, str] | None,
        limit: int,
        *,
        group: str | None,
        days: int,
    ) -> tuple[list[Export], bool]:
        """At most `limit` requests of keys with the same accounts, in one of `states` (none: all) and of a region group
        (None: any), newest first; and whether more follow. `before`: (`created_ms`, `id`) of the last one of the page
        before."""
        chosen = [*states] or [*State]
        at, id_ = before or (1 << 62, "")
        rows = self._read(
            "listing exports",
            f"SELECT {_COLUMNS} FROM exports WHERE reach = ? AND (created_ms, id) < (?, ?) AND state IN "
            f"({_marks(chosen)}) AND region_group = ifnull(?, region_group) AND ifnull(ended_ms, ?) > ? ORDER BY "
            "created_ms DESC, id DESC LIMIT ?",
            (_reach(grant.accounts), at, id_, *chosen, group, self._now_ms(), self._horizon(days), limit + 1),
        )
        return [_export(row) for row in rows[:limit]], len(rows) > limit

    def is_running(self) -> bool:
        """Whether any runner has sent a recent heartbeat."""
        now = self._now_ms()
        rows = self._read("looking for a runner of exports", "SELECT beat_ms FROM export_runners", ())
        return any(abs(now - beat) <= ALIVE_MS for (beat,) in rows)

    def is_first_download(self, url: str, expires_ms: int) -> bool:
        """True on the first call for this URL, which marks it as downloaded. `url`: a text that identifies the URL."""
        with self._writing("noting a download") as connection:
            connection.execute("DELETE FROM export_downloads WHERE expires_ms < ?", (self._now_ms(),))
            connection.execute("INSERT OR IGNORE INTO export_downloads VALUES (?, ?)", (url, expires_ms))
            return connection.changes() == 1

    def counts(self) -> dict[State, int]:
        rows = self._read("counting exports", "SELECT state, count(*) FROM exports GROUP BY state", ())
        return dict.fromkeys(State, 0) | {State(state): count for state, count in rows}

    def totals_in_progress(self) -> Progress:
        """The sum of records and bytes of all objects being written."""
        rows = self._read(
            "counting exports",
            f"SELECT progress FROM exports WHERE progress <> '' AND state IN ({_marks(_BEGUN)})",
            _BEGUN,
        )
        found = [_progress(text) for (text,) in rows]
        records, bytes_, plain = (
            sum(int(getattr(p, name)) for p in found if p is not None) for name in ("records", "bytes", "plain_bytes")
        )
        return Progress(index="", published=0, records=records, bytes=bytes_, plain_bytes=plain)

    # -- the runner's side

    def beat(self, runner: str) -> None:
        """Record a heartbeat of `runner`. Runners without a heartbeat for an hour are deleted."""
        now = self._now_ms()
        with self._writing("noting that exports run") as connection:
            connection.execute("INSERT OR REPLACE INTO export_runners VALUES (?, ?)", (runner, now))
            connection.execute("DELETE FROM export_runners WHERE abs(beat_ms - ?) > 3600000", (now,))

    def leave(self, runner: str) -> None:
        """Remove a runner that ends."""
        with self._writing("noting that exports run no more") as connection:
            connection.execute("DELETE FROM export_runners WHERE id = ?", (runner,))

    def open(self, limit: int = 1_000) -> list[Export]:
        """Requests that have not ended and whose window has passed or that no runner has picked up yet; oldest
        first."""
        rows = self._read(
            "reading which exports to run",
            f"SELECT {_COLUMNS} FROM exports WHERE (state IN (?, ?) AND until_ms <= ?) OR state = ? ORDER BY "
            "created_ms, id LIMIT ?",
            (State.PENDING, State.CREATING, self._now_ms(), State.REQUESTED, limit),
        )
        return [_export(row) for row in rows]

    def say(self, id_: str, reason: str) -> None:
        """Set the reason why a request waits; a Requested one becomes Pending."""
        with self._writing("noting what an export waits for") as connection:
            connection.execute(
                "UPDATE exports SET state = ?, reason = ? WHERE id = ? AND state IN (?, ?)",
                (State.PENDING, reason, id_, State.REQUESTED, State.PENDING),
            )

    def begin(self, id_: str, progress: Progress, claims: dict[str, Any]) -> None:
        """Note that the snapshot is fixed."""
        with self._writing("noting the snapshot of an export") as connection:
            connection.execute(
                "UPDATE exports SET state = ?, progress = ?, claims = ? WHERE id = ? AND state IN (?, ?)",
                (
                    State.PENDING,
                    json.dumps(dataclasses.asdict(progress)),
                    json.dumps(claims, ensure_ascii=False),
                    id_,
                    State.REQUESTED,
                    State.PENDING,
                ),
            )

    def advance(self, id_: str, progress: Progress, reason: str, *, is_written: bool = False) -> bool:
        """Note the progress of the object; `is_written`: it contains all records. False when the request has ended
        meanwhile."""
        with self._writing("noting how far an export is") as connection:
            connection.execute(
                f"UPDATE exports SET state = ?, progress = ?, reason = ? WHERE id = ? AND state IN ({_marks(_BEGUN)})",
                (
                    State.CREATING if is_written else State.PENDING,
                    json.dumps(dataclasses.asdict(progress)),
                    reason,
                    id_,
                    *_BEGUN,
                ),
            )
            return connection.changes() == 1

    def end(self, id_: str, state: State, reason: str = "", *, manifest: str = "") -> bool:
        """Set the final state. False when the request has already ended."""
        assert state in ENDED
        with self._writing("noting how an export ended") as connection:
            connection.execute(
                "UPDATE exports SET state = ?, reason = ?, ended_ms = ?, manifest = ? WHERE id = ? AND state IN "
                f"({_marks(_BEGUN)})",
                (state, reason, self._now_ms(), manifest, id_, *_BEGUN),
            )
            return connection.changes() == 1

    def over(self, *, days: int) -> list[str]:
        """Ids of requests that ended at least `days` ago; at most 100."""
        rows = self._read(
            "reading which exports to remove",
            "SELECT id FROM exports WHERE ended_ms <= ? LIMIT 100",
            (self._horizon(days),),
        )
        return [id_ for (id_,) in rows]

    def remove(self, ids: Iterable[str]) -> None:
        with self._writing("removing exports") as connection:
            connection.executemany("DELETE FROM exports WHERE id = ?", [(id_,) for id_ in ids])

    def _horizon(self, days: int) -> int:
        return self._now_ms() - days * 86_400_000


def _by_token(grant: Grant, token: str, now: int) -> tuple[str, tuple[Any, ...]]:
    sql = f"SELECT {_COLUMNS} FROM exports WHERE reach = ? AND created_ms > ? AND token = ? ORDER BY created_ms LIMIT 1"
    return sql, (_reach(grant.accounts), now - TOKEN_MS, token)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _reach(accounts: frozenset[str] | None) -> str:
    return "*" if accounts is None else json.dumps(sorted(accounts), ensure_ascii=False)


def _query_text(query: Query) -> str:
    """The non-default fields of a query by name, as JSON: a later version can add fields."""
    given = {f.name: getattr(query, f.name) for f in dataclasses.fields(query)}
    kept = {
        f.name: given[f.name] for f in dataclasses.fields(query) if f.name != "accounts" and given[f.name] != f.default
    }
    accounts = None if query.accounts is None else sorted(query.accounts)
    return json.dumps({"accounts": accounts, **kept}, ensure_ascii=False)


def _query(text: str) -> Query:
    given = json.loads(text)
    accounts = given.pop("accounts")
    return Query(accounts=None if accounts is None else frozenset(accounts), **given)


def _progress(text: str) -> Progress | None:
    return Progress(**json.loads(text)) if text else None


def _export(row: tuple[Any, ...]) -> Export:
    id_, reach, key_id, said, query, created, state, reason, progress, claims, ended, manifest = row
    return Export(
        id=id_,
        reach=None if reach == "*" else frozenset(json.loads(reach)),
        key_id=key_id,
        said=json.loads(said),
        query=_query(query),
        created_ms=created,
        state=State(state),
        reason=reason,
        progress=_progress(progress),
        claims=json.loads(claims) if claims else {},
        ended_ms=ended,
        manifest=manifest,
    )
