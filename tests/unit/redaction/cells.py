"""The cells of the promise: each plants a secret in a place of an exchange, in a way that identifies it as a secret.

`PROMISE` is the table in `docs/redaction.md`: for each place the ways that are promised. Every cell is made from a
seed, so that a leak can be reproduced: `cell(place, way, seed)`.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import random
import re
import string
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote_to_bytes

from tests.support.exchanges import make_body, make_exchange

from asgi_audit.exchange.sealed import Exchange

WAYS = ("name", "form", "percent", "json", "html", "base64")
PROMISE: dict[str, tuple[str, ...]] = {
    "header": ("name", "form"),
    "cookie": ("name", "form", "percent"),
    "query": ("name", "form", "percent", "base64"),
    "path": ("name", "form", "percent"),
    "form": ("name", "form", "percent", "base64"),
    "json value": ("name", "form", "percent", "json", "base64"),
    "json key": ("form", "json"),
    "label": ("name", "json"),
    "json table": ("name", "json"),
    "xml": ("name", "form", "html"),
    "html": ("name", "form", "html"),
    "csv": ("name", "form"),
    "yaml": ("name", "form", "base64"),
    "text pair": ("name", "form"),
    "sentence": ("name", "form"),
    "command": ("name", "form"),
    "sql": ("name", "form"),
    "sse": ("name", "form", "json"),
    "multipart": ("name", "form"),
    "reflected": ("name", "percent", "json", "html", "base64"),
    "cut body": ("name", "form", "json"),
}
NAMES = (
    "password", "newPassword", "user_password", "PASSWD", "client_secret", "clientSecret", "access_token",
    "refreshToken", "csrf_token", "api_key", "apiKey", "x-api-key", "private_key", "secretAccessKey", "sessionId", "pin",
    "card_pin", "cvv", "otp", "passphrase", "jwt", "connection_string", "db_pass", "Password", "signing_key",
    "webhookSecret", "auth_token", "license_key", "psk", "app_key", "passwort", "mfa_code", "recovery_code",
    "encryptionKey", "DB_PASSWORD", "credential", "secret", "token", "ssn", "card_number", "account_key",
)  # fmt: skip
PLAIN_NAMES = ("note", "comment", "x", "ref", "field", "description", "item", "city", "memo")
_LETTERS = string.ascii_letters + string.digits


class Cell(NamedTuple):
    place: str
    way: str
    secret: str
    exchange: Exchange


def word(rng: random.Random, size: int, letters: str = _LETTERS) -> str:
    return "".join(rng.choices(letters, k=size))


def secret_by_name(rng: random.Random) -> str:
    """A secret as people or machines choose it; never an ordinary word."""
    kind = rng.randrange(6)
    if kind == 0:
        return "Zq" + word(rng, 10) + "/+" + word(rng, 4)
    if kind == 1:
        return f"tulip-{rng.randrange(10**6)}-bulb"
    if kind == 2:
        return f"Zq{rng.randrange(10**9)}$x!{word(rng, 3)}"
    if kind == 3:
        return str(rng.randrange(10**9, 10**10))
    if kind == 4:
        return f"zürich{rng.randrange(10**6)}ß"
    return "Zq" + word(rng, rng.randrange(8, 40)) + "7"


def secret_by_form(rng: random.Random) -> tuple[str, str]:
    """Returns (value, the part of it that must not occur anywhere). Assembled at run time, so that scanners do not
    report this file as a leak."""
    upper = string.ascii_uppercase + "234567"
    body = word(rng, 36)
    value = rng.choice(
        [
            "AK" + "IA" + word(rng, 16, upper), "gh" + "p_" + body, "github" + "_pat_" + word(rng, 40),
            "glp" + "at-" + word(rng, 20), "xo" + "xb-123456789012-" + word(rng, 24), "sk" + "_live_" + word(rng, 24),
            "rk" + "_test_" + word(rng, 24), "whs" + "ec_" + word(rng, 32), "AI" + "zaSy" + word(rng, 33),
            "GOC" + "SPX-" + word(rng, 28), "ya" + "29." + word(rng, 40), "sk-" + "ant-api03-" + word(rng, 40),
            "sk-" + "proj-" + word(rng, 40), "npm" + "_" + word(rng, 36), "hf" + "_" + word(rng, 34, string.ascii_letters),
            "SG" + "." + word(rng, 22) + "." + word(rng, 43), "hv" + "s." + word(rng, 24), "gl" + "rt-" + word(rng, 20),
            "shp" + "at_" + word(rng, 32, "0123456789abcdef"), "dop" + "_v1_" + word(rng, 64, "0123456789abcdef"),
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + word(rng, 43), "Bearer " + word(rng, 30) + "7",
            "Basic " + base64.b64encode(f"mira:{word(rng, 14)}".encode()).decode(), "4111111111111111",
            "5555 5555 5555 4444", "https://mira:" + word(rng, 12) + "@db.example/x",
            "https://hooks.sl" + "ack.com/services/T00000000/B00000000/" + word(rng, 24),
        ]
    )  # fmt: skip
    if value.startswith("https://mira"):
        return value, value[13:25]
    if value.startswith("https://hooks"):
        return value, value.rpartition("/")[2]
    return value, value.partition(" ")[2] if value[0] == "B" else value


def spelled(rng: random.Random, name: str) -> str:
    return rng.choice([name, name, name.upper(), name.title() if "_" in name else name, name.replace("_", "-")])


def json_escaped(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return json.dumps(text[:at])[1:-1] + f"\\u{ord(text[at]):04x}" + json.dumps(text[at + 1 :])[1:-1]


def percented(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return "".join(
        quote(c, safe="") if k != at else "".join(f"%{b:02X}" for b in c.encode()) for k, c in enumerate(text)
    )


def entities(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return html.escape(text[:at]) + f"&#{ord(text[at])};" + html.escape(text[at + 1 :])


Made = dict[str, Any]


def body(rng: random.Random, text: str, kind: bytes) -> Made:
    if rng.random() < 0.5:
        return {"body": text.encode(), "content_type": kind}
    return {"answer": text.encode(), "answer_type": kind}


JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"


def _header(rng: random.Random, way: str, n: str, s: str) -> Made:
    if way == "form":
        n = rng.choice(["x-note", "x-forwarded-for-what", "link", "x-trace-note"])
    name, value = n.replace("_", "-").encode(), s.encode()
    if rng.random() < 0.3 and way == "name":
        return {"headers": [(b"referer", f"https://h.example/p?a=1&{n}={quote(s, safe='')}".encode())]}
    return {rng.choice(["headers", "answer_headers"]): [(name, value)]}


def _cookie(rng: random.Random, way: str, n: str, s: str) -> Made:
    value = percented(rng, s) if way == "percent" else quote(s, safe="")
    n = n if way != "form" else "pref"
    if rng.random() < 0.5:
        return {"headers": [(b"cookie", f"theme=dark; {n}={value}; a=b".encode())]}
    return {"answer_headers": [(b"set-cookie", f"{n}={value}; Path=/; HttpOnly".encode())]}


def _query(rng: random.Random, way: str, n: str, s: str) -> Made:
    return {"query": pairs(rng, way, n, s).encode()}


def pairs(rng: random.Random, way: str, n: str, s: str) -> str:
    name, value = quote(n, safe="[]"), rng.choice([quote_plus, lambda t: quote(t, safe="")])(s)
    if way == "form":
        name = rng.choice(PLAIN_NAMES)
    elif way == "percent":
        name, value = percented(rng, n), percented(rng, s)
    elif way == "base64":
        value = quote(base64.b64encode(json.dumps({n: s, "a": 1}).encode()).decode(), safe="")
        name = rng.choice(PLAIN_NAMES)
    elif rng.random() < 0.2:
        name, value = "next", quote(f"https://h.example/cb?a=1&{n}={quote(s, safe='')}", safe="")
    elif rng.random() < 0.2:
        name, value = "payload", quote(json.dumps({"u": [{n: s}]}), safe="")
    out = [f"{name}={value}", "page=2", "q=a+b", "flag", "e="]
    rng.shuffle(out)
    return "&".join(out)


def _path(rng: random.Random, way: str, n: str, s: str) -> Made:
    value = percented(rng, s) if way == "percent" else quote(s, safe="")
    path = rng.choice(["/x;{}={}", "/x/{}={}", "/a/{}={}/b"]).format(quote(n, safe=""), value)
    if way == "form":
        path = f"/notes/{value}/more"
    elif way == "name" and rng.random() < 0.4:
        made = word(rng, 24) + "7a8B"
        path = rng.choice(["/reset-password/{}", "/verify/{}", "/invite/{}", "/magic-link/{}", "/otp/{}"]).format(made)
        return {"path": path, "secret": made}
    return {"path": unquote_to_bytes(path).decode(), "raw_path": path.encode()}


def _form(rng: random.Random, way: str, n: str, s: str) -> Made:
    return body(rng, pairs(rng, way, n, s), FORM)


def wrapped(rng: random.Random, text: str) -> str:
    for _ in range(rng.randrange(3)):
        text = rng.choice(
            [
                lambda t: f"[1,{t}]",
                lambda t: f'{{"user":{t},"n":1.50}}',
                lambda t: f'{{\n  "items": [ {t} ],\n  "ok": true\n}}',
                lambda t: json.dumps({"payload": t}),
            ]
        )(text)
    return text


def _json_value(rng: random.Random, way: str, n: str, s: str) -> Made:
    value = json.dumps(s, ensure_ascii=rng.random() < 0.5)
    if way == "form":
        text = rng.choice([f'{{"note":{value},"n":1}}', f'{{"a":["x",{json.dumps("see " + s + " there")}]}}'])
    elif way == "percent":
        text = json.dumps({"url": f"https://h.example/p?{percented(rng, n)}={quote(s, safe='')}&a=1"})
    elif way == "json":
        text = f'{{"{json_escaped(rng, n)}":"{json_escaped(rng, s)}","a":1}}'
    elif way == "base64":
        text = json.dumps({"data": base64.b64encode(json.dumps({n: s, "a": 1}).encode()).decode()})
    else:
        inner = rng.choice([value, value, value, f"[{value},1]", f'{{"a":{{"b":[{value}]}}}}'])
        text = rng.choice(
            [
                f'{{"{n}":{inner},"user":"mira"}}',
                f'{{"user":"mira", "{n}" : {inner}}}',
                json.dumps({"log": f"set {n}={s}"}),
                json.dumps({"url": f"https://h.example/p?{quote(n)}={quote(s, safe='')}"}),
                json.dumps({"query": f"mutation{{login({re.sub('[^A-Za-z0-9_]', '_', n)}:{json.dumps(s)}){{ok}}}}"}),
            ]
        )
    return body(rng, wrapped(rng, text), rng.choice([JSON, JSON, b"application/problem+json", b""]))


def _json_key(rng: random.Random, way: str, n: str, s: str) -> Made:
    return body(rng, wrapped(rng, f'{{"{json_escaped(rng, s) if way == "json" else s}":{{"uses":3}}}}'), JSON)


def _label(rng: random.Random, way: str, n: str, s: str) -> Made:
    value = json.dumps(s, ensure_ascii=way == "json" or rng.random() < 0.5)
    n = json_escaped(rng, n) if way == "json" else n
    text = rng.choice(
        [
            f'[{{"name":"{n}","value":{value}}}]',
            f'{{"value":{value},"key":"{n}"}}',
            f'{{"loc":["body","{n}"],"msg":"too short","input":{value}}}',
            f'{{"field":"{n}","old":{value},"new":"x"}}',
            f'{{"headers":[["{n}",{value}],["Accept","x"]]}}',
        ]
    )
    return body(rng, wrapped(rng, text), JSON)


def _json_table(rng: random.Random, way: str, n: str, s: str) -> Made:
    value = json.dumps(s, ensure_ascii=way == "json" or rng.random() < 0.5)
    n = json_escaped(rng, n) if way == "json" else n
    text = rng.choice(
        [
            f'{{"columns":["id","{n}"],"rows":[[1,{value}],[2,"x"]]}}',
            f'{{"rows":[[1,{value}]],"columns":["id","{n}"]}}',
            f'[["{n}","email","id"],[{value},"x",1]]',
            f'{{"fields":[{{"name":"id"}},{{"name":"{n}"}}],"data":[[1,{value}]]}}',
        ]
    )
    return body(rng, wrapped(rng, text), JSON)


def _xml(rng: random.Random, way: str, n: str, s: str) -> Made:
    name = re.sub(r"[^\w.-]", "_", n)
    value = entities(rng, s) if way == "html" else html.escape(s)
    if way == "form":
        text = f"<a><b x='1'>{value}</b></a>"
    else:
        text = rng.choice(
            [
                f"<a><{name}>{value}</{name}></a>",
                f"<a><ns:{name} x='1'>{value}</ns:{name}></a>",
                f'<a {name}="{value}"/>',
                f"<{name}><v>{value}</v></{name}>",
                f"<k>{name}</k>\n<v>{value}</v>",
                f'<setting key="{name}"><value>{value}</value></setting>',
                f"<member><name>{name}</name><value><string>{value}</string></value></member>",
            ]
        )
        if way == "name" and rng.random() < 0.15:
            text = f"<{name}><![CDATA[{s}]]></{name}>"
    return body(rng, '<?xml version="1.0"?>\n<r>' + text + "</r>", rng.choice([b"application/xml", b"text/xml"]))


def _html(rng: random.Random, way: str, n: str, s: str) -> Made:
    name = re.sub(r"[^\w.-]", "_", n)
    value = entities(rng, s) if way == "html" else html.escape(s)
    if way == "form":
        text = rng.choice([f"<p>x <i>{value}</i></p>", f'<a title="{value}">x</a>'])
    else:
        text = rng.choice(
            [
                f'<form><input name="{name}" id="f" class="form-control" value="{value}"></form>',
                f'<input value="{value}" type="text" name="{name}">',
                f'<input type="password" name="p" value="{value}">',
                f'<meta name="{name}" content="{value}">',
                f"<table><tr><td><b>{name}</b></td><td><span>{value}</span></td></tr></table>",
                f"<table><tr><th>id</th><th>{name}</th></tr><tr><td>1</td><td>{value}</td></tr></table>",
                f"<dl><dt>{name}:</dt><dd>{value}</dd></dl>",
                f"<p>{name}: <b>{value}</b></p>",
                f'<label for="x">{name}</label><input id="x" value="{value}">',
                f'<textarea name="{name}">{value}</textarea>',
                f'<div data-{name.lower()}="{value}"></div>',
                f"<script>var c = {{{json.dumps(name)}: {json.dumps(s)}}}</script>",
            ]
        )
    return body(rng, "<!doctype html>\n<html><body>" + text + "</body></html>", b"text/html; charset=utf-8")


def _csv(rng: random.Random, way: str, n: str, s: str) -> Made:
    mark, kind = rng.choice(
        [(",", b"text/csv"), (";", b"text/csv"), ("\t", b"text/tab-separated-values"), (",", b"text/plain"),
         ("|", b"text/csv"), (" | ", b"text/plain"), (" | ", b"text/markdown")]
    )  # fmt: skip
    n = "note" if way == "form" else n
    rows = [["id", n, "name"], ["1", s, "ada"], ["2", "x", "bo"]]
    if rng.random() < 0.3 and mark == ",":
        rows[1][1] = f'"{s}"'
    lines = [mark.join(row) for row in rows]
    if mark == " | ":
        lines.insert(1, rng.choice(["---|---|---", "----+----+----"]))
        if rng.random() < 0.5:
            lines = [f"| {line} |" for line in lines]
    return body(rng, "\n".join(lines) + "\n", kind)


def _yaml(rng: random.Random, way: str, n: str, s: str) -> Made:
    quoted = json.dumps(s, ensure_ascii=False)
    if way == "form":
        text = rng.choice([f"a: 1\nnote: {quoted}\n", f"items:\n  - {quoted}\n  - x\n"])
    elif way == "base64":
        text = "kind: Secret\ndata:\n  x: " + base64.b64encode(s.encode()).decode() + "\n"
    else:
        text = rng.choice(
            [
                f"{n}: {quoted}",
                f"a:\n  b:\n    {n}: {quoted}\n  c: 1",
                f"a:\n  {n}:\n    - {quoted}\n    - x\nb: 2",
                f"{n}: |\n  {s}\n  x\nb: 1",
                f"{n}: >-\n\n  {s}\nb: 1",
                f"- name: {n}\n  value: {quoted}\n- name: a\n  value: b",
                f"{n}:\n  one: x\n  two: {quoted}\nb: 2",
                f"kind: Secret\nmetadata:\n  name: x\nstringData:\n  anything: {quoted}\n",
            ]
        )
    return body(rng, text + "\n", rng.choice([b"application/yaml", b"text/yaml", b"text/plain"]))


def _text_pair(rng: random.Random, way: str, n: str, s: str) -> Made:
    quoted = json.dumps(s, ensure_ascii=False)
    if way == "form":
        text = rng.choice([f"first\nnote = {s}\nlast", f"INFO saw {s} in it", s])
    else:
        text = rng.choice(
            [
                f"{n}={s}", f"{n}: {s}", f"{n} = {quoted}", f"[auth]\n{n} = {quoted}\n[b]\nx = 1",
                f"export {n.upper().replace('-', '_')}={quoted}", f"INFO user=bob {n}={s}", f"{n} => {s}",
                f"2024 {n}: {s}", f"- {n}: {quoted}", f"{n}:\n\n  {s}", f"{n}\t=\t{s}",
                f'{{"a":1}}\n{{"{n}":{quoted}}}\n', f"{{'{n}': '{s}'}}", f'x("{n}", {quoted})',
                f"connect?user=bob&{n}={quote(s, safe='')}",
            ]
        )  # fmt: skip
    if rng.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return body(rng, rng.choice(["", "first\n", "# note: x\n"]) + text, b"text/plain; charset=utf-8")


def _sentence(rng: random.Random, way: str, n: str, s: str) -> Made:
    said = rng.choice(["password", "API key", "PIN", "verification code", "access token", "secret"])
    text = rng.choice([f"Your {said} is {s}", f"Dear Mira,\nyour {said} is: {s}\nYours", f"The new {said} was {s}."])
    if way == "form":
        text = f"Please use {s} for it, thanks."
    if rng.random() < 0.5:
        return body(rng, text, b"text/plain")
    return body(rng, json.dumps({"content": text}), JSON)


def _command(rng: random.Random, way: str, n: str, s: str) -> Made:
    name = n.replace("_", "-").lower()
    if way == "form":
        text = f"$ tool --note {s.replace(' ', '+')} --x"
    else:
        text = rng.choice(
            [
                f"tool --{name} {s} --x", f"tool --{name}={s} --x", f"curl -H '{n}: {s}' https://h.example",
                f"curl -u mira:{s} https://h.example", f"mysql -u root -p{s} shop", f"sshpass -p {s} ssh h",
                f"docker login -u mira -p {s} r.example", f"{n.upper().replace('-', '_')}={s} ./run",
            ]
        )  # fmt: skip
    return body(rng, rng.choice(["", "Run this:\n"]) + text + "\n", b"text/plain")


def _sql(rng: random.Random, way: str, n: str, s: str) -> Made:
    name, value = n.replace("-", "_"), s.replace("'", "''")
    if way == "form":
        text = f"SELECT * FROM t WHERE note = '{value}'"
    else:
        text = rng.choice(
            [
                f"INSERT INTO users (id, {name}, city) VALUES (1, '{value}', 'Oslo'), (2, 'x', 'Bath');",
                f"UPDATE users SET {name} = '{value}' WHERE id = 1",
                f"SELECT id FROM users WHERE {name} = '{value}' AND a = 1",
                f"ALTER USER mira WITH PASSWORD '{value}'",
                f"CREATE USER 'mira'@'%' IDENTIFIED BY '{value}'",
            ]
        )
    if rng.random() < 0.5:
        return body(rng, text, rng.choice([b"text/plain", b"application/sql"]))
    return body(rng, json.dumps({"sql": text}), JSON)


def _sse(rng: random.Random, way: str, n: str, s: str) -> Made:
    if way == "form":
        events: list[Any] = [{"note": s}]
    elif way == "json":
        return body(rng, f'data: {{"{json_escaped(rng, n)}":"{json_escaped(rng, s)}"}}\n\n', b"text/event-stream")
    elif rng.random() < 0.4:
        half = len(s) // 2
        pieces = ["Your password", " is: ", s[:half], s[half:], " ", "ok"]
        events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    else:
        events = [{"a": 1}, {n: s, "b": 2}, {"c": 3}]
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    if rng.random() < 0.5:
        return body(rng, "".join(f"data: {line}\n\n" for line in lines), b"text/event-stream")
    return body(rng, "".join(f"{line}\n" for line in lines), b"application/x-ndjson")


def _multipart(rng: random.Random, way: str, n: str, s: str) -> Made:
    name = "note" if way == "form" else n
    text = (
        f'--q7\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{s}\r\n'
        f'--q7\r\nContent-Disposition: form-data; name="city"\r\n\r\nBath\r\n--q7--\r\n'
    )
    return {
        "body": text.encode(),
        "content_type": b"multipart/form-data; boundary=q7",
        "answer": json.dumps({"echo": s}).encode(),
        "answer_type": JSON,
    }


def _reflected(rng: random.Random, way: str, n: str, s: str) -> Made:
    echo = {
        "name": json.dumps({"seen": s, "n": 1}),
        "percent": json.dumps({"next": f"/p?a={quote(s, safe='')}"}),
        "json": json.dumps(json.dumps([s])),
        "html": f"<p>no such user: {html.escape(s)}</p>",
        "base64": json.dumps({"raw": base64.b64encode(f"xy{s}z".encode()).decode()}),
    }[way]
    made: Made = rng.choice(
        [
            lambda: {"body": json.dumps({n: s}).encode(), "content_type": JSON},
            lambda: {"body": f"{quote(n)}={quote_plus(s)}".encode(), "content_type": FORM},
            lambda: {"query": f"{quote(n)}={quote(s, safe='')}".encode()},
            lambda: {"headers": [(b"x-api-key", s.encode())]},
            lambda: {"body": f"id,{n}\n1,{s}\n".encode(), "content_type": b"text/csv"},
        ]
    )()
    made.update(answer=echo.encode(), answer_type=b"text/html" if way == "html" else JSON)
    return made


def _cut(rng: random.Random, way: str, n: str, s: str) -> Made:
    made = rng.choice([_json_value, _label, _json_table, _html, _xml, _yaml, _csv, _form])(
        rng, way if way == "name" else "name", n, s
    )
    if way == "form":
        made = rng.choice([_json_value, _text_pair])(rng, "form", n, s)
    elif way == "json":
        made = rng.choice([_json_value, _label])(rng, "json", n, s)
    side = "body" if "body" in made else "answer"
    made["cut"] = (side, rng.randrange(1, len(made[side]) + 1))
    return made


_PLACES: dict[str, Callable[[random.Random, str, str, str], Made]] = {
    "header": _header, "cookie": _cookie, "query": _query, "path": _path, "form": _form, "json value": _json_value,
    "json key": _json_key, "label": _label, "json table": _json_table, "xml": _xml, "html": _html, "csv": _csv,
    "yaml": _yaml, "text pair": _text_pair, "sentence": _sentence, "command": _command, "sql": _sql, "sse": _sse,
    "multipart": _multipart, "reflected": _reflected, "cut body": _cut,
}  # fmt: skip


def cell(place: str, way: str, seed: int) -> Cell:
    rng = random.Random(f"{place} {way} {seed}")
    name = spelled(rng, rng.choice(NAMES))
    by_form = way == "form" or place == "json key"
    secret, hidden = secret_by_form(rng) if by_form else (secret_by_name(rng),) * 2
    if not by_form and place in ("sentence", "command", "header"):
        secret = hidden = "Zq" + word(rng, 9) + "7"
    if place == "csv":
        secret, hidden = secret.replace(";", ""), hidden.replace(";", "")
    made = _PLACES[place](rng, way, name, secret)
    hidden = made.pop("secret", hidden)
    side, kept = made.pop("cut", ("", 0))
    raw_path = made.pop("raw_path", None)
    x = make_exchange("POST", made.pop("path", "/orders"), **made)
    if raw_path is not None:
        x.raw_path = raw_path
    if side:
        setattr(x, "request_body" if side == "body" else "response_body", make_body(made[side] + b" " * 10, kept=kept))
    return Cell(place, way, hidden, x)


def spellings(secret: str) -> set[bytes]:
    """The forms in which a secret must not be stored, in lower case: plain, percent-encoded, JSON, HTML, base64; and
    parts of it."""
    raw = secret.encode()
    found = {
        raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), json.dumps(secret)[1:-1].encode(),
        json.dumps(json.dumps(secret))[3:-3].encode(), html.escape(secret).encode(),
        "".join(f"%{b:02x}" for b in raw).encode(), "".join(f"\\u{ord(c):04x}" for c in secret).encode(),
        secret.replace(" ", "").encode(),
    }  # fmt: skip
    for offset in range(3):
        code = base64.b64encode(b"\0" * offset + raw).rstrip(b"=")
        found.add(code[(0, 2, 3)[offset] : len(code) - 1])
    if len(raw) >= 16:
        found |= {raw[: len(raw) // 2], raw[len(raw) // 2 :]}
    return {form.lower() for form in found if len(form) >= 6}


def leaks(secret: str, record: bytes) -> list[bytes]:
    low = record.lower()
    told = [form for form in spellings(secret) if form in low]
    at = record.find(b"\x1f\x8b")
    if at >= 0:  # we compress nothing: a compressed stream on disk is searched, too
        told += [form for form in spellings(secret) if form in gzip.decompress(record[at:]).lower()]
    return told


def promise_table() -> str:
    """Returns the promise as it is in `docs/redaction.md`."""
    lines = ["| place | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    for place, ways in PROMISE.items():
        word = "omitted, searched for" if place == "multipart" else "masked"
        lines.append(f"| {place} | " + " | ".join(word if way in ways else "–" for way in WAYS) + " |")
    return "\n".join(lines)
