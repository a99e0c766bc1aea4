"""Adversarial bodies: pieces that are significant in one of the grammars, repeated, nested and mixed so that they cost
time."""

from __future__ import annotations

import random
from collections.abc import Iterator

SIZE = 65_536
PIECES = (
    b"password", b"pwd", b"pin", b"token", b"secret", b":", b"=", b" is ", b'"', b"'", b"`", b"\\", b'\\"', b"\n", b"\r\n", b" ",
    b"\t", b",", b";", b"|", b"&", b"?", b"#", b"%", b"%25", b"%70", b"%22", b"\\u0070", b"\\\\u0070", b"&#112;", b"&amp;",
    b"{", b"}", b"[", b"]", b"(", b")", b"<", b">", b"</", b"/>", b"<a ", b"<td>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"-",
    b"- ", b"--", b"---", b"://", b"://u:p@", b"@", b"/", b"eyJ", b"eyJabcdefgh.", b"Bearer ", b"Basic ", b"ghp_", b"sk-", b"sk-ant-",
    b"xox", b"AKIA", b"-----BEGIN PRIVATE KEY-----", b"-----END", b"4111111111111111", b"4111 1111 1111 1112", b"4", b"41 ",
    b'"name":"password"', b'"value":"x"', b'{"name":"password","value":"x"},', b'"columns":["pin"],', b'"rows":[[1]],',
    b"data: ", b"event: x\n", b'data: {"password":1}\n\n', b'{"password":"abcd1234"}\n', b"INSERT INTO t (password) VALUES ('x'), ",
    b"('x', 'y'),", b"curl -u a:b ", b"--password x ", b"key: password\nvalue: x\n", b"password:\n  - x\n", b"password: |\n", b"  x\n",
    b"id,password\n", b"1,x\n", b"| password | x |\n", b"grant_type=x&code=", b"code=", b"password=x&", b"a=1&", b"cGFzc3dvcmQ", b"cGFzc3dvcmQ6IA==",
    b"input_value=", b"{{", b"}}", b"${", b"kind: Secret\n", b"data:\n", b"<password>", b"</password>", b"<input name=password ", b"value=x ",
    b"aaaaaaaa", b"A1b2", b"\xc3\xa9", b"0", b"1.5", b"null", b"true", b'"password":', b'"a":', b'"\\u0070assword":', b"hooks.slack.com/services/",
    b"password = '", b"''", b'""', b"a b c ",
    b'"password=x ', b"'token: x y ", b'Content-Disposition: form-data; name="pin"\n', b"\x1b[1m",
    b'"pin"], ', b'Content-Disposition: form-data; name="pin"\nx: y\n', b"INSERT INTO t (password) VALUES (0), ", b"id,pin,a\n",
    b"x,x,x,x,x,x,x,x,x,", b"- id: u1\n", b"\xef\xbc\x9a", b'\\"password=', b'"password=insert into t(password) values ',
)  # fmt: skip
KINDS = (
    b"application/json", b"text/plain", b"text/html", b"application/xml", b"text/csv", b"application/yaml",
    b"application/x-www-form-urlencoded", b"text/event-stream", b"application/x-ndjson", b"",
)  # fmt: skip


def bodies(count: int = 2_000, seed: int = 20) -> Iterator[tuple[bytes, bytes]]:
    """Yields (content type, body of at most 64 KiB)."""
    rng = random.Random(seed)
    for number in range(count):
        shape = number % 5
        few = rng.choices(PIECES, k=rng.randrange(1, 5))
        unit = b"".join(few)
        if shape == 0:  # one unit repeated
            data = unit * (SIZE // len(unit) + 1)
        elif shape == 1:  # a unit, then another one without an end
            other = b"".join(rng.choices(PIECES, k=2))
            data = unit * rng.randrange(1, 400) + other * (SIZE // len(other))
        elif shape == 2:  # units in random order
            data = b"".join(rng.choices(PIECES, k=rng.randrange(500, 9_000)))
        elif shape == 3:  # opened and never closed
            opener = rng.choice((b'{"a":', b"[", b"<a>", b"(", b"{'a': ", b'"', b"<!-- ", b"'"))
            data = opener * rng.randrange(1, 900) + unit * (SIZE // len(unit))
        else:  # in a JSON document, which is valid where the unit allows it
            text = unit.replace(b'"', b'\\"').replace(b"\n", b"\\n").replace(b"\t", b" ").replace(b"\r", b" ")
            item = rng.choice((b'"%b"', b'{"k":"%b"}', b'{"%b":1}', b'{"name":"%b","value":"x"}'))
            made = item.replace(b"%b", text)
            data = b"[" + b",".join([made] * (SIZE // (len(made) + 1) - 1)) + b"]"
        yield rng.choice(KINDS), data[:SIZE]
