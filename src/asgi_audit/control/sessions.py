"""Sessions that `api.authenticate` issues in place of a key or token. They are in `control.db`, so every worker accepts
them.

A session's id has 128 random bits; its plain SHA-256 is stored, as for keys. A session ends `SESSION_SECONDS` after its
last use, with its key or token, and by `end`; that of a token ends `SESSION_SECONDS` after it was opened, too. Other
processes see a use within a minute (see `uses`); for them a session may end up to a minute early. A key has at most
`SESSIONS_MAX`: a further one ends the least recently used, so that a client that never ends its sessions neither locks
others out nor fills the file. Sessions survive a restart.

Sessions of tokens have a separate table, which holds the token's rights. The first such session creates it, so the
layout of the other tables is unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import apsw

from ..query.model import Grant
from .uses import NOTE_SECONDS, Uses

__all__ = ["SESSIONS_MAX", "SESSION_SECONDS", "Session", "Sessions"]

SESSION_SECONDS = 86_400
SESSIONS_MAX = 100
_ID_BYTES = 16  # 22 characters: embedded clients store an id in 30
_ID_MAX = 100
_USED_MAX = 4_096
_MS = 1_000

_TOKEN_SESSIONS = """
CREATE TABLE IF NOT EXISTS token_sessions (
    hash BLOB PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    rights TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS token_sessions_key ON token_sessions (key_id, used_ms)
"""

Read = Callable[[str, str, tuple[Any, ...]], list[Any]]
Writing = Callable[[str], contextlib.AbstractContextManager[apsw.Connection]]


class Session(NamedTuple):
    """`grant`: the rights of its key. Times in ms since the epoch; `used_ms`: the previous use."""

    grant: Grant
    created_ms: int
    used_ms: int


class Sessions:
    """The sessions of one `Control`, accessed through its `read` and `writing`. Thread-safe; each method blocks for a
    look-up or a transaction. Raises StoreError when the file cannot be used."""

    def __init__(
        self,
        read: Read,
        writing: Writing,
        uses: Uses,
        *,
        now_ms: Callable[[], int],
        grant_of: Callable[[str, str, str], Grant],
    ) -> None:
        self._read = read
        self._writing = writing
        self._uses = uses
        self._now_ms = now_ms
        self._grant_of = grant_of
        self._lock = threading.Lock()
        self._used: OrderedDict[bytes, int] = OrderedDict()  # last uses in this process, by hash; at most _USED_MAX

    def open(self, key_id: str) -> str:
        """Opens a session of the key and returns its id, which cannot be read again."""
        with self._writing("opening a session") as connection:
            return self._open(connection, "sessions", key_id)

    def open_of_token(self, grant: Grant) -> str:
        """Opens a session with the rights of a token. It ends with the token, and `SESSION_SECONDS` from now on: a
        token may be valid for years, and its issuer may withdraw the key that signed it."""
        assert grant.expires is not None
        ends = min(int(grant.expires * _MS), self._now_ms() + SESSION_SECONDS * _MS)
        with self._writing("opening a session") as connection:
            connection.execute(_TOKEN_SESSIONS)
            connection.execute("DELETE FROM token_sessions WHERE expires_ms < ?", (self._now_ms(),))
            return self._open(connection, "token_sessions", grant.key_id, _rights_of(grant), ends)

    def _open(self, connection: apsw.Connection, table: str, key_id: str, *more: str | int) -> str:
        text = secrets.token_urlsafe(_ID_BYTES)
        now = self._now_ms()
        # Another process may not have written its latest use yet.
        over = now - (SESSION_SECONDS + 2 * int(NOTE_SECONDS)) * _MS
        connection.execute(f"DELETE FROM {table} WHERE used_ms < ?", (over,))
        connection.execute(
            f"DELETE FROM {table} WHERE hash IN (SELECT hash FROM {table} WHERE key_id = ? "
            "ORDER BY used_ms DESC, created_ms DESC LIMIT -1 OFFSET ?)",
            (key_id, SESSIONS_MAX - 1),
        )
        values = (_hash(text), key_id, now, now, *more)
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
        return text

    def find(self, text: str) -> Session | None:
        """The session; None when it is unknown, has ended, or its key was revoked. Counts as a use."""
        if not 0 < len(text) <= _ID_MAX or not text.isascii():
            return None
        hashed = _hash(text)
        rows = self._read(
            "looking up a session",
            "SELECT s.created_ms, s.used_ms, k.id, k.role, k.accounts FROM sessions s JOIN keys k ON k.id = s.key_id "
            "WHERE s.hash = ? AND k.revoked_ms IS NULL",
            (hashed,),
        )
        if not rows:
            return self._of_token(hashed)
        created, used, *key = rows[0]
        return self._used_now("session", hashed, Session(self._grant_of(*key), created, used))

    def _of_token(self, hashed: bytes) -> Session | None:
        if not self._has_token_sessions():
            return None
        rows = self._read(
            "looking up a session",
            "SELECT key_id, rights, created_ms, used_ms, expires_ms FROM token_sessions WHERE hash = ?",
            (hashed,),
        )
        if not rows:
            return None
        key_id, rights, created, used, expires = rows[0]
        if self._now_ms() >= expires:
            return None
        grant = _grant_of_token(key_id, rights, expires)
        return self._used_now("token session", hashed, Session(grant, created, used))

    def _used_now(self, kind: str, hashed: bytes, session: Session) -> Session | None:
        """The session with its previous use, unless that is too long ago."""
        now = self._now_ms()
        with self._lock:
            used = max(session.used_ms, self._used.pop(hashed, 0))
            if now - used >= SESSION_SECONDS * _MS:
                return None
            self._used[hashed] = now
            if len(self._used) > _USED_MAX:
                self._used.popitem(last=False)
        self._uses.note(kind, hashed, now)
        return session._replace(used_ms=used)

    def end(self, text: str, key_id: str) -> bool:
        """Ends a session. False when the key or token has no such session."""
        tables = ["sessions", "token_sessions"] if self._has_token_sessions() else ["sessions"]
        ended = 0
        with self._writing("ending a session") as connection:
            for table in tables:
                connection.execute(f"DELETE FROM {table} WHERE hash = ? AND key_id = ?", (_hash(text), key_id))
                ended += connection.changes()
        return ended > 0

    def _has_token_sessions(self) -> bool:
        sql = "SELECT 1 FROM sqlite_schema WHERE name = 'token_sessions'"
        return bool(self._read("looking up a session", sql, ()))


def _rights_of(grant: Grant) -> str:
    accounts = "*" if grant.accounts is None else sorted(grant.accounts)
    return json.dumps({"role": grant.role, "accounts": accounts, "subject": grant.subject}, ensure_ascii=False)


def _grant_of_token(key_id: str, stored: str, expires_ms: int) -> Grant:
    rights = json.loads(stored)
    return Grant(
        key_id=key_id,
        role=rights["role"],
        accounts=None if rights["accounts"] == "*" else frozenset(rights["accounts"]),
        subject=rights["subject"],
        expires=expires_ms / _MS,
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
