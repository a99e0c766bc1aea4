"""A damaged document never raises, always makes a valid record, and a secret on a line of its own is masked in it.

Goal: input that the authors of the grammars did not think of. Method: hypothesis takes a document of the sets, changes
it in up to six places (inserts pieces of other grammars, removes bytes, repeats parts, cuts), and puts a line with a
secret between two of its lines. Few examples by default; ASGI_AUDIT_TEST_FULL=1 runs more.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.exchanges import make_body, make_builder, make_exchange
from tests.support.schema import checked
from tests.unit.redaction import ordinary, tame, wild

BUILDER = make_builder()
DOCUMENTS = [(kind, text) for _, kind, text in list(ordinary.documents())[::9]]
DOCUMENTS += list(tame.documents())[::3]
DOCUMENTS += [
    (wild.TYPES[kind].decode(), wild.filled(template, "Tulip40616Bulb", "Tulip40616Bulb"))
    for kind, templates in wild.TEMPLATES.values()
    for template in templates
]
PIECES = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b"<", b">", b"</", b"<!--", b"<![CDATA[", b"\n", b"\r\n", b"%7", b"%22", b"\\u00",
    b"&#1", b"&quot;", b"\xc3", b"\xff", b":", b"=", b"'", b"password=", b"token:", b"-", b"- ", b"|", b",", b";", b"\t", b"\x1b[1m",
    b"data: ", b"insert into t (pin) values (", b"-----BEGIN PRIVATE KEY-----", b"eyJ", b"Bearer ", b"://", b"@", b"curl -u ",
    b"\xe3\x80\x80", b"\xe2\x80\x8b", b"$(", b"${", b"`", b"?", b"&", b"+", b"\0",
)  # fmt: skip
LINES = (
    '{{"password":"{}"}}', '"api_key": "{}",', "password={}", "client_secret: {}", "<password>{}</password>", "token = '{}'",
    "export DB_PASSWORD={}", "Authorization: Bearer {}",
)  # fmt: skip


@st.composite
def broken(draw: Any) -> tuple[str, bytes]:
    kind, text = draw(st.sampled_from(DOCUMENTS))
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 4))
        if how <= 1:
            data[at:at] = draw(st.sampled_from(PIECES))
        elif how == 2:
            del data[at : at + draw(st.integers(1, 8))]
        elif how == 3:
            data[at:at] = data[at : at + 60]
        else:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
    return draw(st.sampled_from([kind, kind, "text/plain", "application/json", "text/html", ""])), bytes(data)


@pytest.mark.parametrize("cut", [False, True])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(document=broken(), line=st.sampled_from(LINES), number=st.integers(10**6, 10**7), place=st.integers(0, 10**6))
def test_broken_document_makes_a_valid_record_without_its_secret(
    caplog: pytest.LogCaptureFixture, cut: bool, document: tuple[str, bytes], line: str, number: int, place: int
) -> None:
    kind, data = document
    secret = f"zQ{number}Rose7k"
    lines = data.split(b"\n")
    at = place % (len(lines) + 1)
    body = b"\n".join([*lines[:at], line.format(secret).encode(), *lines[at:]])
    x = make_exchange("POST", content_type=kind.encode(), answer=data, answer_type=kind.encode())
    x.request_body = make_body(body, kept=len(body) - place % 9 if cut else None)
    with caplog.at_level(logging.WARNING, "asgi_audit"):
        record = BUILDER.build(x)
    checked(record)
    assert not caplog.records
    assert secret[:10].encode() not in record, body
