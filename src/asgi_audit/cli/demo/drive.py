"""The demo's requests to its application: real HTTP with the standard library, each identified by its request id.

Most requests send an `X-Request-ID`; others read theirs from the response. A `Sent` keeps what the client saw of each
request, for comparison with the records.
"""

from __future__ import annotations

import http.client
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlencode

__all__ = ["Drive", "Secrets", "Sent"]

_FORM = "application/x-www-form-urlencoded"
_CLIENTS = 8
_EACH = 18


class Secrets:
    """Secrets that must appear nowhere: random for each run, so that finding one proves a leak."""

    def __init__(self) -> None:
        self.password = "pw-" + secrets.token_hex(12)
        self.wrong_password = "no-" + secrets.token_hex(12)
        self.query_token = "qt-" + secrets.token_hex(12)
        self.bearer = "be-" + secrets.token_hex(12)
        self.cookie = ""  # the session's, once logged in
        self.csrf = ""  # the form's, and its cookie's

    def named(self) -> dict[str, str]:
        found = {
            "the password": self.password,
            "the wrong password": self.wrong_password,
            "the token in the query": self.query_token,
            "the bearer token": self.bearer,
            "the session cookie": self.cookie,
            "the form's token": self.csrf,
        }
        return {name: value for name, value in found.items() if value}


class Sent(NamedTuple):
    """One request as its client saw it. `path` is without the query."""

    request_id: str
    method: str
    path: str
    status: int
    bytes: int
    group: str


class Drive:
    """Sends all requests and appends each to `sent`. Raises OSError or HTTPException when the application is
    unreachable."""

    def __init__(self, port: int, hidden: Secrets, run: str) -> None:
        self.port = port
        self.hidden = hidden
        self.run = run
        self.sent: list[Sent] = []
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._number = 0

    def groups(self) -> Sequence[tuple[str, Callable[[], None]]]:
        """The steps in order: (label, function)."""
        return (
            ("pages", self._pages),
            ("JSON API", self._json),
            ("errors", self._errors),
            ("login with a password", self._login),
            ("tokens in query and header", self._tokens),
            ("large download", self._download),
            (f"{_CLIENTS} clients at once", self._concurrent),
        )

    def request(
        self,
        group: str,
        method: str,
        target: str,
        *,
        expect: int | None = 200,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        connection: http.client.HTTPConnection | None = None,
        named: bool = True,
    ) -> http.client.HTTPResponse:
        """One request; the response is read to its end. `named` False: the request id is the application's choice."""
        with self._lock:
            self._number += 1
            request_id = f"demo-{self.run}-{self._number:04}"
        send = dict(headers or {})
        if named:
            send["X-Request-ID"] = request_id
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            own.request(method, target, body=body, headers=send)
            response = own.getresponse()
            size = 0
            while chunk := response.read(65_536):
                size += len(chunk)
        finally:
            if connection is None:
                own.close()
        answered = response.headers.get("X-Request-ID", "")
        path = target.split("?", 1)[0]
        with self._lock:
            self.sent.append(Sent(request_id if named else answered, method, path, response.status, size, group))
            if expect is not None and response.status != expect:
                self.wrong.append(f"{method} {path} returned {response.status}, expected {expect}")
            if (named and answered != request_id) or not answered:
                self.wrong.append(f"{method} {path} returned the X-Request-ID {answered!r}, not its own")
        return response

    def _pages(self) -> None:
        get = "pages", "GET"
        for target in ("/", "/shop", "/shop/customers", "/shop/orders?customer=7", "/-/static/app.css", "/-/login"):
            self.request(*get, target)
        for n in range(1, 13):
            self.request(*get, f"/shop/customers/{n}", named=n % 3 > 0)
        self.request("pages", "HEAD", "/shop")
        self.request("pages", "OPTIONS", "/shop")

    def _json(self) -> None:
        for n in range(12):
            self.request("JSON API", "GET", f"/shop/orders.json?_size=20&_shape=array&id__gt={n * 100}")
        query = urlencode({"sql": "select city, count(*) from customers group by city"})
        self.request("JSON API", "GET", f"/shop.json?{query}")
        self.request("JSON API", "GET", "/-/versions.json")

    def _errors(self) -> None:
        for target, expect in (
            ("/nowhere", 404),
            ("/shop/none", 404),
            ("/shop/customers/999999", 404),
            ("/shop.json?sql=select+nothing+from+nowhere", 400),
            ("/shop?sql=drop+table+customers", 400),
            ("/shop/salaries", 403),
            ("/shop/salaries.json", 403),
        ):
            self.request("errors", "GET", target, expect=expect)
        for method in ("PUT", "PATCH", "DELETE"):
            self.request("errors", method, "/shop/customers", expect=405, body=b'{"name":"nobody"}')
        # A cookie without the form's token: refused. (Rejected requests are audited like all others.)
        forged = {"Cookie": "ds_csrftoken=forged", "Content-Type": _FORM}
        self.request("errors", "POST", "/shop/customers", expect=403, headers=forged, body=b"name=nobody")
        self.request("errors", "POST", "/shop/customers", expect=None, headers={"Content-Type": _FORM}, body=b"a=1")

    def _login(self) -> None:
        group = "login with a password"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/-/login", headers={"X-Request-ID": f"demo-{self.run}-form"})
        response = connection.getresponse()
        page = response.read().decode()
        self.sent.append(Sent(f"demo-{self.run}-form", "GET", "/-/login", response.status, len(page), group))
        field = re.search(r'name="csrftoken" value="([^"]+)"', page)
        csrf_cookie = (response.headers.get("Set-Cookie") or "").split(";", 1)[0]
        self.hidden.csrf = field[1] if field else ""
        form = {"csrftoken": self.hidden.csrf, "username": "root"}
        headers = {"Cookie": csrf_cookie, "Content-Type": _FORM}
        for password, expect in ((self.hidden.wrong_password, 200), (self.hidden.password, 302)):
            body = urlencode({**form, "password": password}).encode()
            response = self.request(
                group, "POST", "/-/login", expect=expect, headers=headers, body=body, connection=connection
            )
        cookie = (response.headers.get("Set-Cookie") or "").split(";", 1)[0]
        name, _, self.hidden.cookie = cookie.partition("=")
        if name != "ds_actor":
            self.wrong.append("the login with the right password set no session cookie")
        for target in ("/shop/salaries", "/shop/salaries.json", "/"):
            self.request(group, "GET", target, headers={"Cookie": f"{csrf_cookie}; {cookie}"}, connection=connection)
        connection.close()

    def _tokens(self) -> None:
        group = "tokens in query and header"
        token = self.hidden.query_token
        for _ in range(2):  # Datasette itself accepts a token in the URL
            self.request(group, "GET", f"/-/auth-token?token={token}", expect=403)
        self.request(group, "GET", f"/shop/customers.json?_size=3&_access_token={token}")
        # Datasette takes `token` for a column to filter by: the response quotes its value as the SQL parameter `p1`.
        for n in range(3):
            self.request(group, "GET", f"/shop/customers.json?_size=3&id={n}&token={token}")
        bearer = {"Authorization": f"Bearer {self.hidden.bearer}"}
        self.request(group, "GET", "/shop/customers.json?_size=3", headers=bearer)
        self.request(group, "GET", "/shop/customers.json?_size=3", headers={"X-API-Key": self.hidden.bearer})

    def _download(self) -> None:
        group = "large download"
        before = len(self.sent)
        self.request(group, "GET", "/shop/readings.csv?_stream=on")
        if self.sent[before].bytes < 2_000_000:
            self.wrong.append(f"the large download had {self.sent[before].bytes} bytes only")

    def _concurrent(self) -> None:
        group = f"{_CLIENTS} clients at once"

        def one_client(client: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for n in range(_EACH):
                if n % 3 == 0:
                    target = f"/shop/orders.json?_size=5&_shape=array&customer={client * 20 + n}"
                elif n % 3 == 1:
                    target = f"/shop/customers/{client * 20 + n + 1}"
                else:
                    target = f"/-/versions.json?client={client}"
                self.request(group, "GET", target, connection=connection)
            connection.close()

        with ThreadPoolExecutor(_CLIENTS) as pool:
            for done in [pool.submit(one_client, c) for c in range(_CLIENTS)]:
                done.result()
