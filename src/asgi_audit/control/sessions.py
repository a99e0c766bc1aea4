"""Sessions that `api.authenticate` issues in place of a key, in `control.db` and thus valid in every worker.

A session's id has 128 random bits; its plain SHA-256 is stored, as for keys. A session ends `SESSION_SECONDS` after its
last use, with its key, and by `end`. Other processes see a use within a minute (see `uses`); for them a session may end
up to a minute early. A key has at most `SESSIONS_MAX`: a further one ends the least recently used, so that a client
that never ends its sessions neither locks others out nor fills the file. Sessions survive a restart.
"""

from __future__ import annotations

import contextlib
import hashlib
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
        text = secrets.token_urlsafe(_ID_BYTES)
        now = self._now_ms()
        with self._writing("opening a session") as connection:
            # Another process may not have written its latest use yet.
            over = now - (SESSION_SECONDS + 2 * int(NOTE_SECONDS)) * _MS
            connection.execute("DELETE FROM sessions WHERE used_ms < ?", (over,))
            connection.execute(
                "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE key_id = ? "
                "ORDER BY used_ms DESC, created_ms DESC LIMIT -1 OFFSET ?)",
                (key_id, SESSIONS_MAX - 1),
            )
            connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", (_hash(text), key_id, now, now))
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
            return None
        created, used, *key = rows[0]
        now = self._now_ms()
        with self._lock:
            used = max(used, self._used.pop(hashed, 0))
            if now - used >= SESSION_SECONDS * _MS:
                return None
            self._used[hashed] = now
            if len(self._used) > _USED_MAX:
                self._used.popitem(last=False)
        self._uses.note("session", hashed, now)
        return Session(self._grant_of(*key), created, used)

    def end(self, text: str, key_id: str) -> bool:
        """Ends a session. False when the key has no such session."""
        with self._writing("ending a session") as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ? AND key_id = ?", (_hash(text), key_id))
            return connection.changes() > 0


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
