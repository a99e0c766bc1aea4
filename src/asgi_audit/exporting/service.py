"""The API's side of exports: accepts requests, reports their progress, creates their URLs.

Place: api -> **ExportService** -> control.exports and the target. Invariants: a key sees only exports of keys with the
same accounts; a request that got a 200 is in `control.db`. Blocks on files: do not call it in an event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from ..control import Control
from ..control.exports import Export, ExportRequest, State
from ..control.subjects import is_subject_of
from ..errors import QueryError, StoreError
from ..metrics import Values
from ..query.model import Grant
from .base import Presigned, Target, is_id
from .links import LINK_SECONDS, Link, Links

__all__ = ["Download", "ExportService", "NotRunning"]


class NotRunning(Exception):
    """No process runs exports."""


class Download(NamedTuple):
    """A file to serve, and the URL of the manifest beside it."""

    link: Link
    export: Export
    path: Path
    manifest_url: str


class ExportService:
    """`regions`: region by region group, `*` for all. `days`: how long ended exports stay visible. `issuer`: of the
    tokens that are accepted, '' for none. Thread-safe."""

    def __init__(
        self,
        control: Control,
        target: Target,
        *,
        public_url: str,
        regions: dict[str, str],
        days: int = 7,
        issuer: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._control = control
        self._issuer = issuer
        self._exports = control.exports
        self._target = target
        self._links = Links(control.secret(), public_url)
        self._secret = hmac.digest(control.secret(), b"asgi-audit export lists", hashlib.sha256)
        self.regions = regions
        self._days = days
        self._clock = clock

    def request(self, grant: Grant, asked: ExportRequest) -> tuple[Export, bool]:
        """Creates an export. Returns (export, whether it is new). Raises NotRunning, QueryError 'busy'."""
        if asked.token and (known := self._exports.with_token(grant, asked.token)) is not None:
            return known, False
        if not self._exports.is_running():
            raise NotRunning
        return self._exports.request(grant, asked)

    def find(self, grant: Grant, id_: str) -> Export:
        """The export with this id. Raises QueryError 'missing'."""
        found = self._exports.find(grant, id_, days=self._days) if is_id(id_) else None
        if found is None:
            raise _missing()
        return found

    def page(
        self, grant: Grant, states: Collection[State], token: str | None, limit: int, group: str | None = None
    ) -> tuple[list[Export], str | None]:
        """A page of exports, newest first, and the token of the next page. Raises QueryError for a token that was not
        issued to a key with the same accounts."""
        before = None if token is None else self._position(grant, token)
        found, more = self._exports.page(grant, states, before, limit, group=group, days=self._days)
        return found, self._token(grant, found[-1]) if more and found else None

    def presign(self, grant: Grant, export: Export) -> tuple[Presigned, str]:
        """A fresh URL of a complete export's object, and one of its manifest; they end with the caller's token. Raises
        TargetError."""
        now = self._clock()
        left = LINK_SECONDS if grant.expires is None else int(grant.expires - now)
        seconds = max(1, min(LINK_SECONDS, left))
        there = self._target.presign(export.id, seconds, now)
        beside = self._target.presign(export.id, seconds, now, manifest=True)
        if there is not None and beside is not None:
            return there, beside.url
        link = self._links.new(export.id, grant.key_id, now, seconds)
        return Presigned(self._links.url(link), link.expires), self._links.url(link, manifest=True)

    def open(self, id_: str, given: dict[str, str], *, manifest: bool = False) -> Download:
        """The file that a signed URL gives access to. Raises QueryError: 'forbidden' for a URL that is not valid (any
        more), or whose key was revoked; 'missing' when the export is gone."""
        link = self._links.opened(id_, given, self._clock(), manifest=manifest)
        if link is None or not self._may_still(link.key_id):
            raise QueryError(
                "this URL is not of this API, was changed or has expired, or its key was revoked",
                kind="forbidden",
                hint="Poll the export again: each response has a new URL, valid for an hour.",
            )
        found = self._exports.get(id_, days=self._days)
        path = self._target.open_path(id_, manifest=manifest)
        if found is None or path is None:
            raise _missing()
        return Download(link, found, path, self._links.url(link, manifest=True))

    def _may_still(self, key_id: str) -> bool:
        """Whether the key is not revoked, or the issuer of the token is still accepted."""
        return is_subject_of(self._issuer, key_id) or self._control.is_key(key_id)

    def is_first_download(self, link: Link) -> bool:
        """True on the first download through this URL, which is marked as used."""
        return self._exports.is_first_download(f"{link.export}.{link.nonce}", link.expires * 1000)

    def measures(self) -> Values:
        """Metrics: the number of exports per state, and the progress of those being written. Never raises; unreadable
        values are omitted."""
        try:
            totals_in_progress, counts = self._exports.totals_in_progress(), self._exports.counts()
            running = self._exports.is_running()
        except StoreError:
            return {}
        return {
            "asgi_audit_exports": {state.value: float(count) for state, count in counts.items()},
            "asgi_audit_exports_writing_records": float(totals_in_progress.records),
            "asgi_audit_exports_writing_bytes": float(totals_in_progress.bytes),
            "asgi_audit_exports_running": float(running),
        }

    def _token(self, grant: Grant, last: Export) -> str:
        position = f"{last.created_ms}.{last.id}"
        return f"{position}.{self._mac(grant, position)}"

    def _position(self, grant: Grant, token: str) -> tuple[int, str]:
        position, _, mac = token.rpartition(".")
        if not token.isascii() or not hmac.compare_digest(mac, self._mac(grant, position)):
            raise QueryError(
                "page_token: it is not a page token of this API, or was changed",
                field="page_token",
                hint="Send the token of the previous page unchanged, or omit it for the first page.",
            )
        created, _, id_ = position.partition(".")
        return int(created), id_

    def _mac(self, grant: Grant, position: str) -> str:
        accounts = "*" if grant.accounts is None else "\n".join(sorted(grant.accounts))
        return hmac.digest(self._secret, f"{position}\n{accounts}".encode(), hashlib.sha256).hex()[:32]


def _missing() -> QueryError:
    return QueryError(
        "there is no such export, or it was removed",
        kind="missing",
        hint="Use a key with the same accounts. Exports are removed some days after their end.",
    )
