"""An operator's own names, forms and paths mask in the same places as the built-in ones."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.exchanges import make_body, make_builder, make_exchange
from tests.support.schema import checked
from tests.unit.redaction.cells import leaks

from asgi_audit.redaction import Redactor
from asgi_audit.redaction.budget import STEPS_MAX

FORM = "acme_live_k3j5h7k2n4"
BUILDER = make_builder(
    redact_names=("tax number", "user.badge", "straße-nr", "личный код"),
    redact_forms=(r"acme_(live|test)_[a-z0-9]{8,40}", r"tok[a-z0-9]{20}", r"sk_live_acme\d{8}", r"(?i)zz-[0-9a-f]{8}"),
    redact_paths=("/share/{token}", "/o/*/dl/{key}/x", "/sh%61red files/{id}".replace(" ", "")),
)
JSON = b"application/json"


@pytest.mark.parametrize(
    "given",
    [
        {"headers": [(b"x-note", b"see " + FORM.encode())]},
        {"query": b"note=" + FORM.encode()},
        {"query": b"note=" + quote(FORM).replace("k", "%6b").encode()},
        {"path": f"/notes/{FORM}"},
        {"path": f"/notes/x-{FORM[:3]}", "query": b"a=" + FORM.encode()},
        {"headers": [(b"cookie", f"{FORM}=1".encode())]},
        {"body": json.dumps({"a": [FORM]}).encode(), "content_type": JSON},
        {"body": json.dumps({FORM: 1}).encode(), "content_type": JSON},
        {"body": json.dumps({"a": base64.b64encode(json.dumps({"x": FORM}).encode()).decode(), "b": FORM}).encode()},
        {"body": f"<a><b>{FORM}</b></a>".encode(), "content_type": b"application/xml"},
        {"body": f"id,note\n1,{FORM}\n".encode(), "content_type": b"text/csv"},
        {"body": f"a line\nand {FORM}.\n".encode(), "content_type": b"text/plain"},
        {"answer": f"data: {json.dumps({'t': FORM})}\n\n".encode(), "answer_type": b"text/event-stream"},
        {"body": b"a=" + FORM.encode(), "content_type": b"application/x-www-form-urlencoded"},
    ],
)
def test_own_form_is_masked(given: Any) -> None:
    record = BUILDER.build(make_exchange("POST", given.pop("path", "/orders"), **given))
    checked(record)
    assert not leaks(FORM, record)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see tokabcdefghij0123456789.", "see [REDACTED]."),  # `token…` is a name as well
        ("sk_live_acme12345678", "[REDACTED]"),
        ("sk" + "_live_" + "a1" * 12, "[REDACTED]"),  # the built-in form whose beginning is the same
        ("ZZ-0123abCD", "[REDACTED]"),
        ("xacme_live_k3j5h7k2n4", "xacme_live_k3j5h7k2n4"),  # a letter before it
        ("acme_live_ab", "acme_live_ab"),  # too short
        ("api_key=acme", "api_key=[REDACTED]"),
        ("Tax-Number: 12 345", "Tax-Number: [REDACTED]"),
        ("user.badge=17", "user.badge=[REDACTED]"),
        ("Straße-Nr: 5x", "Straße-Nr: [REDACTED]"),
        ("Личный код: AB-12", "Личный код: [REDACTED]"),
    ],
)
def test_text(text: str, shown: str) -> None:
    x = make_exchange("POST", body=text.encode(), content_type=b"text/plain")
    assert checked(BUILDER.build(x))["request"]["body"] == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/share/geheim", "/share/[REDACTED]"),
        ("/api/v1/share/geheim/view", "/api/v1/share/[REDACTED]/view"),
        ("/share/share/geheim", "/share/[REDACTED]/[REDACTED]"),
        ("/o/17/dl/geheim/x", "/o/17/dl/[REDACTED]/x"),
        ("/o/17/dl/geheim/y", "/o/17/dl/geheim/y"),
        ("/share", "/share"),
        ("/shares/x", "/shares/x"),
        ("/sharedfiles/7", "/sharedfiles/[REDACTED]"),
    ],
)
def test_path(path: str, shown: str) -> None:
    x = make_exchange(path=path)
    request = checked(BUILDER.build(x))["request"]
    assert request["path"] == request["originalUrl"] == shown


def test_path_is_masked_in_its_escapes_and_wherever_else_it_stands() -> None:
    """In the URL as received, in headers that contain URLs, and where a body repeats it."""
    x = make_exchange(
        headers=[(b"referer", b"https://h.example/share/geheim-17b?x=1")],
        answer=b'{"seen":"geheim-17b","next":"geheim-18b"}',
        answer_headers=[(b"location", b"/share/geheim-18b")],
        answer_type=JSON,
    )
    x.path, x.raw_path = "/share/ge heim19", b"/sh%61re/ge%20heim19"
    record = BUILDER.build(x)
    value = checked(record)
    assert value["request"]["originalUrl"] == "/sh%61re/[REDACTED]"
    assert value["request"]["headers"]["referer"] == "https://h.example/share/[REDACTED]?x=1"
    assert b"geheim-17b" not in record
    assert b"geheim-18b" not in record
    assert b"heim19" not in record


def test_secret_of_an_own_form_that_is_cut_is_masked() -> None:
    x = make_exchange("POST", content_type=b"text/plain")
    x.request_body = make_body(b"see acme_live_k3j5h7k2n4", kept=18)
    assert checked(BUILDER.build(x))["request"]["body"] == "see [REDACTED]"


def test_near_misses_of_an_own_form_are_paid_for() -> None:
    """Counted: a form of 4,000 characters is not tried a thousand times."""
    redactor = Redactor(forms=[r"acme\.[a-z.]{8,4000}!"])
    record = redactor.record()
    assert record.text(b"acme." * 2_000) == b"[REDACTED]"
    assert record.left < 0
    record = redactor.record()
    assert record.text(b"acme." * 20 + b"acme.abcdefgh!") == b"[REDACTED]"
    assert record.left > STEPS_MAX // 2


def test_redactor_refuses_what_settings_refuse() -> None:
    for given in ({"names": ["--"]}, {"forms": ["(a+)+"]}, {"paths": ["/x"]}):
        with pytest.raises(ValueError, match="a "):
            Redactor(**given)
