"""Answers of security questions, codes of a device, password files, and arguments of commands: the secret is masked,
and the text beside it is kept."""

from __future__ import annotations

import json

import pytest

from asgi_audit.redaction import Redactor

JSON, FORM, TEXT = b"application/json", b"application/x-www-form-urlencoded", b"text/plain"
MASK = "[REDACTED]"


def masked(text: str, kind: bytes = TEXT) -> str:
    out = Redactor().record().body(text.encode(), kind, "b", valid=kind == JSON)
    return "" if out is None else bytes(out).decode()


@pytest.mark.parametrize(
    "document",
    [
        '{"securityQuestions":[{"question":"pet?","answer":§}]}',
        '{"securityQuestions":[{"id":3,"answer":§},{"id":4,"answer":§}]}',
        '{"user":{"security_question":{"question":"Your first pet","answer":§}}}',
        '{"challengeQuestions":{"items":[{"question":"pet","value":§}]}}',
        '{"secretQuestions":[{"q":"pet?","a":§}]}',
        '{"recovery_question":"pet?","answer":§}',
        '{"securityQuestions":{"q1":"pet?","a1":§}}',
        '{"securityQuestions":{"What was your first pet?":§}}',
    ],
)
@pytest.mark.parametrize("answer", ["fluffy2", "rex", "Rex the dog", 'a "b" \\ c'])
def test_answer_of_a_security_question_is_masked(document: str, answer: str) -> None:
    expected = document.replace("§", json.dumps(MASK))
    assert masked(document.replace("§", json.dumps(answer)), JSON) == expected
    outer = json.dumps({"text": document.replace("§", json.dumps(answer))})
    assert masked(outer, JSON) == json.dumps({"text": expected})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("security_question=pet&answer=§&x=1", FORM),
        ("securityQuestions[0][answer]=§&securityQuestions[0][question]=pet", FORM),
        (
            "security_questions:\n  - question: pet\n    answer: §\n  - question: city\n    answer: §\nname: mira\n",
            TEXT,
        ),
    ],
)
def test_answer_in_other_formats_is_masked(text: str, kind: bytes) -> None:
    assert masked(text.replace("§", "fluffy2"), kind) == text.replace("§", MASK)


@pytest.mark.parametrize(
    "document",
    [
        '{"faq":[{"question":"pet?","answer":"fluffy2"}]}',
        '{"faq":[{"q":"pet?","a":"fluffy2"}]}',
        '{"securityQuestions":["What was your first pet?"],"securityQuestionCount":3}',
        '{"securityQuestions":[{"id":1,"text":"What was your first pet?"}]}',
        '{"securityQuestions":[{"value":1,"label":"What was your first pet?"}]}',
        '{"securityQuestions":{"type":"array","items":{"properties":{"answer":{"type":"string"}}}}}',
        '{"securityQuestions":[{"question":"pet?","answer":null,"answered":true}]}',
    ],
)
def test_questions_without_an_answer_are_kept(document: str) -> None:
    assert masked(document, JSON) == document


@pytest.mark.parametrize("code", ["WDJB-MJHT", "WDJBMJHT", "123-456", "abcd"])
@pytest.mark.parametrize("name", ["user_code", "userCode", "device_code", "deviceCode"])
def test_code_of_the_device_flow_is_masked_whatever_it_looks_like(name: str, code: str) -> None:
    assert masked(json.dumps({name: code, "interval": 5}), JSON) == json.dumps({name: MASK, "interval": 5})
    assert masked(f"{name}={code}&client_id=x", FORM) == f"{name}={MASK}&client_id=x"
    assert masked(f"go to https://h/device?{name}={code} now") == f"go to https://h/device?{name}={MASK} now"


@pytest.mark.parametrize(
    "text",
    [
        "openssl enc -aes-256-cbc -k § -in a -out b",
        "openssl enc -aes-256-cbc -pass pass:§ -in a",
        "openssl rsa -passin pass:§ -passout pass:§ -in k",
        "kubectl create secret generic s --from-literal=password=§ --from-literal=other=x",
        "kubectl create secret generic s --from-literal=user=bob --from-literal=password=§ --from-literal=a=b",
        "wget --http-user mira --http-passwd § https://h",
        "wget --http-password=§ --http-passwd § https://h",
        "tool --token=§ --other x --http-passwd § https://h",
        "helm install x --set db.password=§,db.user=mira chart",
        "docker run -e DB_PASSWORD=§ image",
        "Your credentials:\n- user: bob\n- **Password:** §\n",
        "- user: bob\n- **Password:** §\n- host: h\n",
        "* __Password:__ §\n* user: bob\n",
        "localhost:5432:shop:mira:§",
        "# of psql\n*:*:*:mira:§\ndb.example.com:5432:*:bob:§\n",
        'echo "10.0.0.1:5432:shop:mira:§" > ~/.pgpass',
    ],
)
@pytest.mark.parametrize("secret", ["tulip9", "Hx7sunflower9Zq"])
def test_value_alone_is_masked(text: str, secret: str) -> None:
    assert masked(text.replace("§", secret)) == text.replace("§", MASK)
    expected = json.dumps({"log": text.replace("§", MASK)})
    assert masked(json.dumps({"log": text.replace("§", secret)}), JSON) == expected


@pytest.mark.parametrize(
    "text",
    [
        "openssl req -new -key k.pem -out c.pem",
        "db:5432:shop:mira",
        "2001:5432:db8:1:2",
        "fe80:5432:db8:1:2:3:4:5",
        "at db:5432:shop: mira: connected",
        "db:5432:shop:mira:connected: yes",
        "12:30:45:5432:17",
        "- user: bob\n- **Host:** h\n",
    ],
)
def test_ordinary_text_of_the_same_shape_is_kept(text: str) -> None:
    assert masked(text) == text
    assert masked(json.dumps({"log": text}), JSON) == json.dumps({"log": text})
