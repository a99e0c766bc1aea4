"""The demo's queries: five dialects over HTTP exactly as documented, and the search for leaked secrets."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from ...errors import AuditError

__all__ = ["Answer", "Client", "TableRow", "leaks", "needles"]


class TableRow(NamedTuple):
    """A line of the table: the request, the status, and a summary of the response."""

    request: str
    status: int
    answer: str


class Answer(NamedTuple):
    records: list[dict[str, Any]]
    pages: int


class Client:
    """A client of the API on this port with one key. `session_id`: from TR50's login."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.asked: list[TableRow] = []
        self.session_id = ""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> Any:
        """(status, decoded JSON) of one call. `key`: '' for none, None for the client's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        key = self.key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            connection.request(method, path, body=data, headers=headers)
            response = connection.getresponse()
            content = response.read()
            try:
                return response.status, json.loads(content)
            except ValueError:
                return response.status, {"message": content[:200].decode("utf-8", "replace")}
        finally:
            connection.close()

    def note(self, request: str, status: int, answer: str) -> None:
        """Adds a line to the table."""
        self.asked.append(TableRow(request, status, answer))

    def query(self, path: str, question: dict[str, Any], *, limit: int = 100, seconds: float = 20) -> Answer:
        """All pages of one query. Raises AuditError when a response differs from the documentation."""
        status, started = self.call("POST", path, question)
        if status != 200:
            raise AuditError(f"POST {path} returned {status}: {started}")
        execution = started["queryExecutionId"]
        self.note(f"POST {path} {{{', '.join(question)}}}", status, f"queryExecutionId {execution[:8]}…")
        result = f"{path.rstrip('/')}/query-result/{execution}"
        records: list[dict[str, Any]] = []
        token, pages = "", 0
        deadline = time.monotonic() + seconds
        while True:
            asked = f"?limit={limit}" + (f"&nextToken={quote(token)}" if token else "")
            status, page = self.call("GET", result + asked)
            if status != 200:
                raise AuditError(f"GET {path}/query-result/… returned {status}: {page}")
            pages += 1
            records += page["data"]
            last = token
            token = page.get("nextToken", "")
            more = " + nextToken" if token else ", the last"
            shown = f"GET …/query-result/{execution[:4]}…?limit={limit}" + ("&nextToken=…" if last else "")
            self.note(shown, status, f"{len(page['data'])} records{more}")
            if not token:
                return Answer(records, pages)
            if time.monotonic() > deadline:
                raise AuditError(f"{path} was not read to its end in {seconds:g} s")

    def logs(self, service: str, window: dict[str, str]) -> list[dict[str, Any]]:
        """All entries of `GET /logs`, page by page."""
        filters = {"service": service, "startDate": window["from"], "endDate": window["to"], "limit": "100"}
        entries: list[dict[str, Any]] = []
        cursor = None
        while True:
            asked = {**filters, **({"cursor": cursor} if cursor else {})}
            status, page = self.call("GET", f"/logs?{urlencode(asked)}")
            if status != 200:
                raise AuditError(f"GET /logs returned {status}: {page}")
            found, paging = page["data"]["logs"], page["data"]["pagination"]
            entries += found
            more = "&cursor=…" if cursor else ""
            self.note(
                f"GET /logs?service={service}&limit=100{more}", status, f"{len(found)} of {paging['total']} entries"
            )
            cursor = paging["cursor"]
            if not cursor:
                return entries

    def begin_export(self, database: str, window: dict[str, str]) -> str:
        """Requests an export. Returns its id."""
        body = {
            "database": database,
            "time_start": window["from"],
            "time_end": window["to"],
            "idempotency_token": str(uuid.uuid4()),
        }
        status, answer = self.call("POST", "/api/v1/logs?type=query", body)
        if status != 200:
            raise AuditError(f"POST /api/v1/logs returned {status}: {answer}")
        self.note("POST /api/v1/logs?type=query", status, answer["state"])
        return str(answer["request_id"])

    def export(self, request_id: str, *, seconds: float = 60) -> bytes:
        """Polls a requested export, downloads and unpacks it. Returns its lines."""
        deadline = time.monotonic() + seconds
        state = ""
        while True:
            status, answer = self.call("GET", f"/api/v1/logs/{request_id}?type=query")
            if status != 200 or answer["state"] in ("Failed", "TimedOut", "DoesNotExist"):
                raise AuditError(f"GET /api/v1/logs/… returned {status}: {answer}")
            if answer["state"] != state:
                state = answer["state"]
                self.note(f"GET /api/v1/logs/{request_id[:8]}…?type=query", status, state)
            if state == "Complete":
                return self._download(answer["presigned_url"])
            if time.monotonic() > deadline:
                raise AuditError(f"the export was not complete in {seconds:g} s: {answer.get('reason', state)}")
            time.sleep(0.2)

    def _download(self, url: str) -> bytes:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}")
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise AuditError(f"GET {parts.path} returned {response.status}")
        self.note("GET its presigned_url", response.status, f"{len(content):,} bytes, gzip")
        return gzip.decompress(content)

    def listed(self, service: str, window: dict[str, str]) -> list[dict[str, Any]]:
        """All results of `usage.api.list`, by a login in the first request and its session in those that follow."""
        login = {"command": "api.authenticate", "params": {"username": "demo", "password": self.key}}
        results: list[dict[str, Any]] = []
        while True:
            auth = {"sessionId": self.session_id} if self.session_id else login
            params = {
                "service": service,
                "start": window["from"],
                "end": window["to"],
                "offset": len(results),
                "limit": 100,
            }
            status, answer = self.call(
                "POST", "/api", {"auth": auth, "list": {"command": "usage.api.list", "params": params}}, key=""
            )
            if status != 200 or not answer.get("list", {}).get("success"):
                raise AuditError(f"POST /api returned {status}: {answer}")
            self.session_id = self.session_id or answer["auth"]["params"]["sessionId"]
            found = answer["list"]["params"]
            self.note(
                f"POST /api {{auth, usage.api.list, offset: {len(results)}}}",
                status,
                f"{len(found['result'] or [])} of {found['count']} results",
            )
            results += found["result"] or []
            if not found["result"] or len(results) >= found["count"]:
                return results


def needles(name: str, secret: str) -> Iterator[tuple[str, bytes]]:
    """The secret in each form in which it could be on disk: plain, hexadecimal, and inside base64 at each of the three
    alignments."""
    raw = secret.encode()
    yield name, raw
    yield f"{name} (hex)", raw.hex().encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw)
        # The first characters also encode preceding bytes, the last ones following bytes.
        yield f"{name} (base64)", text[4 if shift else 0 : -4]


def leaks(secrets: dict[str, str], files: Iterable[Path], texts: Iterable[tuple[str, bytes]]) -> tuple[list[str], int]:
    """(what was found where, bytes searched) over whole files and named texts."""
    wanted = [needle for name, value in secrets.items() for needle in needles(name, value)]
    found: list[str] = []
    searched = 0

    def search(where: str, data: bytes) -> None:
        nonlocal searched
        searched += len(data)
        found.extend(f"{name} in {where}" for name, needle in wanted if needle in data)

    for path in files:
        try:
            search(str(path), path.read_bytes())
        except FileNotFoundError:
            continue  # the indexer removes indexed files
    for where, data in texts:
        search(where, data)
    return found, searched
