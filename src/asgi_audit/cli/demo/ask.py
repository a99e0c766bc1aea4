"""The demo's questions: usage and trail over HTTP exactly as their documents say, and the search for leaked secrets."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ...errors import AuditError

__all__ = ["Answer", "Asked", "Client", "leaks", "needles"]


class Asked(NamedTuple):
    """A line of the table: what was asked, the status, and what came back in a few words."""

    request: str
    status: int
    answer: str


class Answer(NamedTuple):
    records: list[dict[str, Any]]
    pages: int


class Client:
    """Asks one question: POST starts an execution, GET polls and pages through its result."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.asked: list[Asked] = []

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None) -> Any:
        """(status, decoded JSON) of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
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
        """A line of the table."""
        self.asked.append(Asked(request, status, answer))

    def query(self, path: str, question: dict[str, Any], *, limit: int = 100, seconds: float = 20) -> Answer:
        """All pages of one question. Raises AuditError when the API answers otherwise than documented."""
        status, started = self.call("POST", path, question)
        shown = ", ".join(f"{k}: {v}" if k == "method" else k for k, v in question.items())
        if status != 200:
            raise AuditError(f"POST {path} was answered {status}: {started}")
        execution = started["queryExecutionId"]
        self.note(f"POST {path} {{{shown}}}", status, f"queryExecutionId {execution[:12]}…")
        result = f"{path.rstrip('/')}/query-result/{execution}"
        records: list[dict[str, Any]] = []
        token, pages = "", 0
        deadline = time.monotonic() + seconds
        while True:
            asked = f"?limit={limit}" + (f"&nextToken={quote(token)}" if token else "")
            status, page = self.call("GET", result + asked)
            if status != 200:
                raise AuditError(f"GET {path}/query-result/… was answered {status}: {page}")
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


def needles(name: str, secret: str) -> Iterator[tuple[str, bytes]]:
    """The secret as it could rest on disk: plain, hexadecimal, and inside base64 at each of the three alignments."""
    raw = secret.encode()
    yield name, raw
    yield f"{name} (hex)", raw.hex().encode()
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw)
        # The first characters mix with what stands before, the last with what comes after.
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
            continue  # the indexer removes what it has taken on
    for where, data in texts:
        search(where, data)
    return found, searched
