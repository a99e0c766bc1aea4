"""Keys (role × accounts) and the signing secret: who may query, and the secret that seals tokens.

A key reads `aa_<id>_<secret>`: the id is public (lists, logs), the secret has 256 random bits and is shown once. Its
plain SHA-256 is stored. Slow password hashes protect *guessable* secrets; 256 random bits cannot be guessed, and a slow
hash would let attackers waste CPU with wrong keys. A revocation takes effect with the next request, in every process:
each look-up reads the file (about 25 µs, in another thread), or checks that the file was not written since the key was
looked up last (about 5 µs, without waiting). The time of a key's last use is written with a delay (see `uses`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw

from ..disk import PRIVATE, Access
from ..errors import ConfigError, StoreError
from ..query.model import Grant
from .database import BUSY_MS, open_database, open_frozen, store_errors, transaction
from .exports import Exports
from .sessions import Sessions
from .uses import Uses

__all__ = ["ROLES", "Control", "Key"]

ROLES = ("reader", "auditor")
_PREFIX = "aa_"
_ID_BYTES = 6
_SECRET_BYTES = 32
_TEXT_MAX = 200  # a key has 59 characters
_DUMMY_HASH = bytes(32)  # compared for unknown ids, so that known and unknown ids take the same time
_REMEMBERED_MAX = 256  # keys
_REMEMBERED_ACCOUNTS_MAX = 64  # of one of them: 16,000 names in all, some megabytes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key in a listing: everything but its secret."""

    id: str
    role: str
    accounts: frozenset[str] | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class Control:
    """The control database. Thread-safe. Raises StoreError when the file cannot be used. `sessions`: sessions of its
    keys. `exports`: export requests."""

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        access: Access = PRIVATE,
    ) -> None:
        self.path = Path(path)
        self._access = access
        self._clock = clock
        self._lock = threading.Lock()  # guards the read connection
        self._connection = open_database(self.path, self._access)
        self._frozen = self._connection is None
        # A version of the file (see `_is_at`), and rights of keys as of it, by the hash of a key's text.
        self._remembered: tuple[int, dict[bytes, Grant]] = (0, {})
        # Writes use a separate connection, opened on first use: a write may wait BUSY_MS for another process, and for
        # the disk; key look-ups must not wait behind it.
        self._write_lock = threading.Lock()
        self._writer: apsw.Connection | None = None
        self._closed = False
        self._uses = Uses(self.path, self._access, monotonic=monotonic)
        if self._frozen:
            self._uses.close()
        self.sessions = Sessions(self._read, self._writing, self._uses, now_ms=self._now_ms, grant_of=_grant)
        self.exports = Exports(self._read, self._writing, now_ms=self._now_ms)

    def secret(self) -> bytes:
        """The 32-byte secret that seals tokens: created on first use, the same in every process."""
        sql = "SELECT value FROM secrets WHERE name = 'tokens'"
        rows = self._read("reading the signing secret", sql, ())
        if not rows:
            with self._writing("making the signing secret") as connection:
                connection.execute("INSERT OR IGNORE INTO secrets VALUES ('tokens', ?)", (secrets.token_bytes(32),))
            rows = self._read("reading the signing secret", sql, ())
        return bytes(rows[0][0])

    def create_key(self, role: str, accounts: Iterable[str] | str) -> tuple[str, str]:
        """Creates a key. Returns (key id, the key in clear text); the clear text cannot be read again. `accounts`:
        names, or '*' for all. Raises ConfigError."""
        if role not in ROLES:
            raise ConfigError(f"role is {role!r}; accepted: {', '.join(ROLES)}")
        stored = json.dumps(_checked(accounts), ensure_ascii=False)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._writing("creating a key") as connection:
            while True:
                key_id = secrets.token_hex(_ID_BYTES)
                if not connection.execute("SELECT 1 FROM keys WHERE id = ?", (key_id,)).fetchall():
                    break
            connection.execute(
                "INSERT INTO keys (id, hash, role, accounts, created_ms) VALUES (?, ?, ?, ?, ?)",
                (key_id, _hash(secret), role, stored, self._now_ms()),
            )
        return key_id, f"{_PREFIX}{key_id}_{secret}"

    def list_keys(self) -> list[Key]:
        """All keys, revoked ones too, oldest first."""
        rows = self._read(
            "listing keys",
            "SELECT id, role, accounts, created_ms, revoked_ms, last_used_ms FROM keys ORDER BY created_ms, id",
            (),
        )
        return [
            Key(
                id=id_,
                role=role,
                accounts=_accounts(accounts),
                created_at=_when(created),
                revoked_at=None if revoked is None else _when(revoked),
                last_used_at=None if used is None else _when(used),
            )
            for id_, role, accounts, created, revoked, used in rows
        ]

    def revoke(self, key_id: str) -> None:
        """Revokes the key and ends its sessions, at once. Idempotent. Raises ConfigError for an unknown id."""
        with self._writing("revoking a key") as connection:
            if not connection.execute("SELECT 1 FROM keys WHERE id = ?", (key_id,)).fetchall():
                raise ConfigError(f"no key has the id {key_id[:40]!r}", hint="`asgi-audit keys list` shows the ids.")
            connection.execute(
                "UPDATE keys SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (self._now_ms(), key_id)
            )
            connection.execute("DELETE FROM sessions WHERE key_id = ?", (key_id,))

    def authenticate(self, text: str) -> Grant | None:
        """The rights of the key; None when it is malformed, unknown, wrong or revoked. Blocks for one look-up in the
        file."""
        if not text.startswith(_PREFIX) or len(text) > _TEXT_MAX or not text.isascii():
            return None
        key_id, _, secret = text[len(_PREFIX) :].partition("_")
        version = self._is_at()  # before the look-up: what is written meanwhile must count as later
        rows = self._read(
            "looking up a key", "SELECT hash, role, accounts FROM keys WHERE id = ? AND revoked_ms IS NULL", (key_id,)
        )
        known, role, accounts = rows[0] if rows else (_DUMMY_HASH, "", "[]")
        right = hmac.compare_digest(_hash(secret), bytes(known))
        if not right or not rows:
            return None
        self._uses.note("key", key_id, self._now_ms())
        grant = _grant(key_id, role, accounts)
        if version is not None:
            self._remember(text, grant, version)
        return grant

    def recall(self, text: str) -> Grant | None:
        """The rights of a key that was looked up before, if the file was not written since; None when only
        `authenticate` can decide. Does not wait for the disk, nor for other threads and processes."""
        if len(text) > _TEXT_MAX or not text.isascii():
            return None
        version, grants = self._remembered
        grant = grants.get(_hash(text))
        if grant is None or self._is_at() != version:
            return None
        self._uses.note("key", grant.key_id, self._now_ms())
        return grant

    def _remember(self, text: str, grant: Grant, version: int) -> None:
        if grant.accounts is not None and len(grant.accounts) > _REMEMBERED_ACCOUNTS_MAX:
            return
        with self._lock:
            if version != self._remembered[0] or len(self._remembered[1]) >= _REMEMBERED_MAX:
                self._remembered = version, {}
            self._remembered[1][_hash(text)] = grant

    def _is_at(self) -> int | None:
        """A number that changes with each write to the file; None when it cannot be read at once."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._connection is None:
                return None
            self._connection.set_busy_timeout(0)
            try:
                return int(self._connection.pragma("data_version"))
            finally:
                self._connection.set_busy_timeout(BUSY_MS)
        except apsw.Error:
            return None  # `authenticate` says why
        finally:
            self._lock.release()

    def is_key(self, key_id: str) -> bool:
        """Whether a key has this id and is not revoked."""
        return bool(self._read("looking up a key", "SELECT 1 FROM keys WHERE id = ? AND revoked_ms IS NULL", (key_id,)))

    def close(self) -> None:
        """Writes pending times of last use, then closes. Idempotent."""
        self._uses.close()
        with self._write_lock, self._lock:
            self._closed = True
            for connection in (self._writer, self._connection):
                if connection is not None:
                    connection.close()
            self._connection = self._writer = None

    def _read(self, operation: str, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        with self._lock, store_errors(operation, self.path):
            if self._frozen:
                with open_frozen(self.path) as connection:
                    return connection.execute(sql, bindings).fetchall()
            if self._connection is None:
                raise self._unusable()
            return self._connection.execute(sql, bindings).fetchall()

    @contextlib.contextmanager
    def _writing(self, operation: str) -> Iterator[apsw.Connection]:
        with self._write_lock, store_errors(operation, self.path):
            if self._writer is None and not self._frozen and not self._closed:
                self._writer = open_database(self.path, self._access)
            if self._writer is None:
                raise self._unusable()
            with transaction(self._writer):
                yield self._writer

    def _unusable(self) -> StoreError:
        return StoreError(
            f"{self.path} is {'closed' if self._closed else 'read-only'}",
            retriable=False,
            hint="" if self._closed else "The directory must be writable for this user.",
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _grant(key_id: str, role: str, accounts: str) -> Grant:
    return Grant(key_id=key_id, role=role, accounts=_accounts(accounts))


def _when(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _accounts(stored: str) -> frozenset[str] | None:
    value = json.loads(stored)
    return None if value == "*" else frozenset(value)


def _checked(accounts: Iterable[str] | str) -> list[str] | str:
    names = [accounts] if isinstance(accounts, str) else list(accounts)
    if names == ["*"]:
        return "*"
    for name in names:
        if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable() or name == "*":
            raise ConfigError(
                f"account is {str(name)[:200]!r}; accepted: '*' alone, or names of 1 to 200 printable characters"
            )
    if not names:
        raise ConfigError("a key needs at least one account; accepted: '*' alone, or names of 1 to 200 characters")
    return sorted(set(names))
