"""Random requests with a secret in a place where a person would recognise it as one, sent through the real middleware.
The record must not contain the secret: not plain, escaped, percent-encoded or in base64.

Goal: to find leaks that no table of examples has. Method: a seeded generator chooses a place (header, cookie, query,
path, body of some syntax), a name, a nesting and an encoding; the application's response contains the secret in some
form. A failure prints its seed. `ASGI_AUDIT_TEST_FULL=1` runs 2,000 other seeds each time, `ASGI_AUDIT_TEST_SEEDS=5000`
that many.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import os
import random
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
import pytest
from tests.conftest import is_ci, is_full
from tests.support.exchanges import assert_absent

from asgi_audit import AuditMiddleware
from asgi_audit.testing import AuditRecords

SEEDS = int(os.environ.get("ASGI_AUDIT_TEST_SEEDS") or (2000 if is_full() else 150))
NAMES = (
    "password",
    "newPassword",
    "user_password",
    "PASSWD",
    "client_secret",
    "clientSecret",
    "access_token",
    "refreshToken",
    "csrf_token",
    "api_key",
    "apiKey",
    "x-api-key",
    "private_key",
    "secretAccessKey",
    "sessionId",
    "pin",
    "card_pin",
    "cvv",
    "otp",
    "passphrase",
    "jwt",
    "connection_string",
    "db_pass",
    "Password",
    "signing_key",
    "webhookSecret",
    "auth_token",
)
HARMLESS = ("id", "name", "note", "items", "user", "value", "data", "city", "type", "loc", "π", "a b", "", "x.y", "0")
Made = tuple[bytes, bytes]


def secret_of(rng: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    kind = rng.randrange(6)
    if kind == 0:
        return "Zq" + "".join(rng.choices(letters, k=10)) + "/+" + "".join(rng.choices(letters, k=4))
    if kind == 1:
        return f"zürich-{rng.randrange(10**9)}-ß"
    if kind == 2:
        return f"Zq{rng.randrange(10**9)}&x=<y>;\"'"
    if kind == 3:
        return f"{rng.randrange(10**9, 10**10)}"
    if kind == 4:
        return f"zq {rng.randrange(10**9)} horse staple"
    return "Zq" + "".join(rng.choices(letters, k=rng.randrange(8, 40)))


def harmless(rng: random.Random, depth: int = 2) -> Any:
    kind = rng.randrange(8)
    if kind == 0 and depth:
        return [harmless(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 1 and depth:
        return {rng.choice(HARMLESS): harmless(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice([None, True, 1.50, -17, "", "Bath", 'a "b" \\ c', "é☃", "2024-05-01", "x=1", "http://h/p?q=1"])


def member(rng: random.Random, secret: str) -> str:
    """A member of an object, as JSON text, with a sensitive name."""
    name = json.dumps(rng.choice(NAMES))[1:-1]
    if rng.random() < 0.2:
        at = rng.randrange(len(name))
        name = name[:at] + f"\\u{ord(name[at]):04x}" + name[at + 1 :]
    value = rng.choice(
        [secret, secret, secret, [secret], [1, None, {"k": secret}], {"k": {"0": [secret]}}, json.dumps({"a": secret})]
    )
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    planted = f'"{name}"{rng.choice(["", " ", chr(9)])}:{rng.choice(["", " ", chr(10)])}{text}'
    return f'"{name}":"x",' + planted if rng.random() < 0.15 else planted


def document(rng: random.Random, secret: str) -> str:
    text = rng.choice(
        [
            lambda: "{" + member(rng, secret) + "}",
            lambda: json.dumps([{"name": rng.choice(NAMES), "value": secret}]),
            lambda: json.dumps({"loc": ["body", rng.choice(NAMES)], "input": secret, "msg": f"not {secret}"}),
            lambda: json.dumps({"columns": ["id", rng.choice(NAMES)], "rows": [[1, secret], [2, "x"]]}),
            lambda: json.dumps(
                {"query": f"mutation{{login({rng.choice(NAMES).replace('-', '_')}:{json.dumps(secret)}){{ok}}}}"}
            ),
            lambda: json.dumps({"query": "mutation($p:String!){login(password:$p){ok}}", "variables": {"p": secret}}),
            lambda: json.dumps({"grant_type": "authorization_code", "code": secret}),
            lambda: json.dumps({"headers": [["Authorization", f"Bearer {secret}"], ["Accept", "x"]]}),
            lambda: json.dumps({"url": f"https://h/p?{rng.choice(NAMES)}={quote(secret, safe='')}"}),
            lambda: json.dumps({"dsn_of_it": f"postgres://u:{quote(secret, safe='')}@h/db"}),
            lambda: json.dumps({"log": f"set {rng.choice(NAMES)}={secret}"}),
        ]
    )()
    for _ in range(rng.randrange(4)):
        key = json.dumps(rng.choice(HARMLESS), ensure_ascii=rng.random() < 0.5)
        around = json.dumps(harmless(rng))
        text = rng.choice(
            [
                f"[{around},{text}]",
                f"{{{key}:{text}}}",
                f'{{"z":{around},\n {key} : {text} , "y":[]}}',
                f"[[{text}]]",
                json.dumps({"payload": text}),
            ]
        )
    return text


def in_json(rng: random.Random, secret: str) -> Made:
    text = document(rng, secret).encode()
    if rng.random() < 0.1:
        text = b"\xef\xbb\xbf" + text
    kind = rng.choice(
        [b"application/json", b"application/vnd.api+json", b"text/plain", b"", b"application/json; charset=utf-8"]
    )
    return text, kind


def in_broken_json(rng: random.Random, secret: str) -> Made:
    text = document(rng, secret)
    name = rng.choice(NAMES)
    text = rng.choice(
        [
            text[: rng.randrange(len(text))],
            text + "}",
            text + "\n" + text,
            f"{{'{name}': '{secret}'}}",
            f"{{{name}: {json.dumps(secret)}}}",
            text.replace("{", "{ // note\n", 1),
            text[:-1] + ",]",
            '{"a":' + text,
            f'{{"{name}": {json.dumps(secret)},}}',
            f'{{\n  "a": 1,\n  "{name}":\n    {json.dumps(secret)},\n  "b": 2,,\n}}',
            "NaN" + text,
            f'("{name}", {json.dumps(secret)})',
        ]
    )
    return text.encode(), rng.choice(
        [b"application/json", b"text/plain", b"application/x-ndjson", b"text/event-stream"]
    )


def in_form(rng: random.Random, secret: str) -> Made:
    name = rng.choice([*NAMES, "user[password]", "user.password", "f[0][pin]"])
    value = rng.choice([quote_plus, lambda s: quote(s, safe=""), lambda s: "".join(f"%{b:02x}" for b in s.encode())])(
        secret
    )
    if rng.random() < 0.2:
        name = "".join(f"%{ord(c):02X}" for c in name)
    if rng.random() < 0.2:
        name, value = "payload", quote_plus(document(rng, secret))
    pairs = [f"{name}={value}", "page=2", "q=a+b", "flag", "e="]
    rng.shuffle(pairs)
    return "&".join(pairs).encode(), b"application/x-www-form-urlencoded"


def in_text(rng: random.Random, secret: str) -> Made:
    name, key = rng.choice(NAMES), rng.choice(NAMES)
    quoted = json.dumps(secret, ensure_ascii=False)
    text = rng.choice(
        [
            f"{name}={secret}",
            f"{name}: {secret}",
            f"{name} = {quoted}",
            f"[auth]\n{name} = {quoted}\n[b]\nx = 1",
            f"a:\n  b:\n    {name}: {quoted}\n  c: 1",
            f"a:\n  {name}:\n    - {quoted}\n    - x\nb: 2",
            f"{name}: |\n  {secret}\n  x\nb: 1",
            f"export {name.upper().replace('-', '_')}={quoted}",
            f"INFO user=bob {name}={secret}",
            f"{name} => {secret}",
            f"2024 {name}: {secret} done",
            f"- {name}: {quoted}",
            f"{name}:\n\n  {secret}",
            f"id,{name},b\n1,{quoted},2\n",
            f"x\n{name} = '''\n{secret}\n'''\ny",
            f"curl -H '{name}: {secret}' http://h",
            f'{{"a":1}}\n{{"{name}":{quoted}}}\n',
            f"data: {json.dumps({name: secret})}\n\n",
            f"{name}?={secret}",
            f"{key}: x\n{name}: {secret}\n{key}=y",
            f"{name}\t=\t{secret}",
        ]
    )
    if rng.random() < 0.3:
        text = text.replace("\n", "\r\n")
    kind = rng.choice(
        [
            b"text/plain",
            b"text/plain; charset=utf-8",
            b"application/yaml",
            b"text/yaml",
            b"application/toml",
            b"text/csv",
        ]
    )
    return (rng.choice(["", "first\n", "# note: x\n"]) + text).encode(), kind


def in_markup(rng: random.Random, secret: str) -> Made:
    name = rng.choice(NAMES).replace(" ", "_")
    s = html.escape(secret)
    text = rng.choice(
        [
            f"<a><{name}>{s}</{name}></a>",
            f"<a><ns:{name} x='1'>{s}</ns:{name}></a>",
            f'<a {name}="{s}"/>',
            f"<{name}><v>{s}</v></{name}>",
            f'<form><input name="{name}" value="{s}"></form>',
            f'<input value="{s}" id="{name}">',
            f"<k>{name}</k><v>{s}</v>",
            f"<{name}><![CDATA[{secret}]]></{name}>",
            f'<p name="{name}">{s}</p>',
            f"<td>{name}</td>\n<td>{s}</td>",
            f'<div data-{name}="{s}"></div>',
            f"<script>var c = {{{json.dumps(name)}: {json.dumps(secret)}}}</script>",
            f"<!-- {name}: {s} -->",
            f'<meta name="{name}" content="{s}">',
            f"<p>{name}: {s}</p>",
            f'<setting key="{name}"><value>{s}</value></setting>',
        ]
    )
    kind = rng.choice([b"text/html", b"application/xml", b"text/xml", b"application/soap+xml", b"text/plain"])
    return (rng.choice(["", '<?xml version="1.0"?>\n', "<!doctype html>\n"]) + text).encode(), kind


def echo(rng: random.Random, secret: str) -> Made:
    return rng.choice(
        [
            (orjson.dumps({"seen": secret, "n": 1}), b"application/json"),
            (f"no such user: {secret}".encode(), b"text/plain"),
            (f"<p>{html.escape(secret)}</p>".encode(), b"text/html"),
            (b"{}", b"application/json"),
            (b"", b""),
            (orjson.dumps({"u": f"/x?q={quote_plus(secret)}"}), b"application/json"),
            (orjson.dumps({"b": base64.b64encode(secret.encode()).decode()}), b"application/json"),
            (json.dumps(json.dumps([secret])).encode(), b"application/json"),
        ]
    )


BODIES: tuple[Callable[[random.Random, str], Made], ...] = (in_json, in_broken_json, in_form, in_text, in_markup)


class Case:
    """A request and its response; both contain `secret`."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.secret = secret = secret_of(rng)
        self.path, self.query, self.chunks = "/orders", b"", [b""]
        self.headers: list[tuple[bytes, bytes]] = [(b"host", b"h")]
        self.answer_headers: list[tuple[bytes, bytes]] = []
        self.answer, kind = echo(rng, secret)
        raw = quote(secret, safe="").encode()
        name = rng.choice(NAMES).encode()
        place = rng.randrange(12)
        body: Made | None = None
        if place == 0:
            self.headers.append((rng.choice([b"authorization", b"x-api-key", b"x-auth-token"]), secret.encode()))
        elif place == 1:
            self.headers.append((b"cookie", b"theme=dark; " + name + b"=" + raw + b"; a=b"))
        elif place == 2:
            self.query = b"page=1&" + in_form(rng, secret)[0]
        elif place == 3:
            self.path = rng.choice(["/x;{}={}", "/x/{}={}", "/a/{}={}/b"]).format(name.decode(), raw.decode())
        elif place == 4:
            self.headers.append((b"referer", b"https://h/p?a=1&" + name + b"=" + raw))
        elif place == 5:
            self.answer_headers.append((b"set-cookie", name + b"=" + raw + b"; Path=/"))
        elif place == 6:
            self.answer, kind = rng.choice(BODIES)(rng, secret)
        else:
            made = rng.choice(BODIES)
            body = made(rng, secret)
            if made not in (in_json, in_form):
                # A value masked in text is not known exactly enough to be found again in other encodings.
                self.answer = b"{}"
        if body is not None:
            data, sent = body
            if sent:
                self.headers.append((b"content-type", sent))
            if rng.random() < 0.1:
                data = data + b" " * 70_000  # cut at the limit
                self.answer = b"{}"
            cut = rng.randrange(len(data) + 1)
            self.chunks = [data[:cut], data[cut:]]
        if kind:
            self.answer_headers.append((b"content-type", kind))
        self.shown = repr(
            (self.path, self.query, self.headers, [c[:600] for c in self.chunks], self.answer, self.answer_headers)
        )

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self.answer_headers})
        await send({"type": "http.response.body", "body": self.answer})

    async def run(self) -> None:
        chunks = list(self.chunks)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            return None

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query,
            "headers": self.headers,
            "client": ("192.0.2.1", 5),
            "server": ("h", 80),
            "state": {},
        }
        await AuditMiddleware(self.app)(scope, receive, send)


def test_planted_secret_is_in_no_record(audit_records: AuditRecords) -> None:
    first = random.SystemRandom().randrange(10**9) if SEEDS != 150 and not is_ci() else 20
    leaks: list[str] = []

    async def all_of_them() -> None:
        for seed in range(first, first + SEEDS):
            case = Case(seed)
            await case.run()
            record = orjson.dumps(audit_records.wait(1)[-1])
            try:
                assert_absent(case.secret, record)
            except AssertionError:
                leaks.append(f"seed {seed}: {case.secret!r} in {case.shown}")

    asyncio.run(all_of_them())
    if leaks:
        pytest.fail(f"{len(leaks)} of {SEEDS} from seed {first}:\n" + "\n".join(leaks[:40]), pytrace=False)
