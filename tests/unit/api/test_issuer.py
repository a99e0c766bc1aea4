"""Tokens of an issuer, with real keys: which are valid, which are refused and why, and which rights the claims give."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.tokens import AUDIENCE, ISSUER, claims, issuer_of, jwk, key_set, part, private_key, signed, token

from asgi_audit.api.bearer import TOKEN_CHARACTERS_MAX
from asgi_audit.api.issuer import Issuer, rights
from asgi_audit.query.model import Grant

LEEWAY = 300.0
EVERY = ("RS256", "RS384", "PS256", "ES256", "ES384", "ES512", "EdDSA", "Ed448")
SET = key_set(*(jwk(name, name) for name in EVERY), jwk("ES256", "k1"), jwk("RS256", "only", alg="RS256"))


def issuer(keys: bytes = SET, **given: Any) -> Issuer:
    return issuer_of(*json.loads(keys)["keys"], **{"leeway_seconds": LEEWAY, **given})


def granted(text: str, keys: bytes = SET, **given: Any) -> Grant | None:
    return asyncio.run(issuer(keys, **given).grant(text))


@pytest.mark.parametrize("algorithm", EVERY)
def test_token_of_each_kind_of_key_gives_the_rights_of_its_claims(algorithm: str) -> None:
    found = granted(token(algorithm, algorithm, exp=10**10))
    assert found is not None
    assert (found.role, found.accounts, found.subject, found.principal) == (
        "auditor",
        frozenset({"acme"}),
        "ada",
        "ada",
    )
    assert found.key_id.startswith("jwt_")
    assert found.expires == 10**10 + LEEWAY


def test_caller_is_the_same_for_all_tokens_of_one_subject_and_another_for_others() -> None:
    ids = [
        found.key_id
        for text in (token(jti="1"), token(jti="2", role="reader"), token(sub="bob"))
        if (found := granted(text)) is not None
    ]
    other = granted(token(iss="https://other.test/"), issuer="https://other.test/")
    assert other is not None
    assert len({*ids, other.key_id}) == 3
    assert ids[0] == ids[1]


class From(NamedTuple):
    """Seconds from the time when the test runs, which may be long after it was collected."""

    now: float


def timed(given: dict[str, Any]) -> dict[str, Any]:
    return {name: int(time.time() + value.now) if isinstance(value, From) else value for name, value in given.items()}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"exp": From(-LEEWAY - 1)}, "it has expired"),
        ({"exp": None}, "it has no exp"),
        ({"exp": "tomorrow"}, "it is malformed"),
        ({"exp": 10**400}, "it is malformed"),
        ({"exp": [1]}, "it is malformed"),
        ({"nbf": From(LEEWAY + 600)}, "it is not valid yet"),
        ({"iat": From(LEEWAY + 600)}, "it is not valid yet"),
        ({"nbf": "x"}, "it is malformed"),
        ({"aud": "other"}, "its audience (aud) is another one"),
        ({"aud": ["other", "more"]}, "its audience (aud) is another one"),
        ({"aud": [AUDIENCE, 5]}, "its audience (aud) is another one"),
        ({"aud": {AUDIENCE: 1}}, "its audience (aud) is another one"),
        ({"aud": None}, "it has no aud"),
        ({"aud": []}, "it has no aud"),
        ({"iss": "https://issuer.test"}, "its issuer (iss) is another one"),
        ({"iss": [ISSUER]}, "its issuer (iss) is another one"),
        ({"iss": None}, "it has no iss"),
        ({"sub": None}, "it has no sub"),
        ({"sub": ""}, "its subject (sub)"),
        ({"sub": 7}, "it is malformed"),
        ({"sub": "a\nb"}, "its subject (sub)"),
        ({"sub": "a" * 201}, "its subject (sub)"),
        ({"sub": "\ud800"}, "its subject (sub)"),
    ],
)
def test_token_is_refused_when_a_claim_does_not_fit(
    given: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text = token(**timed(given))
    assert granted(text) is None
    assert f"a token was refused: {why}" in caplog.text
    assert not any(piece in caplog.text for piece in text.split("."))


@pytest.mark.parametrize(
    "given",
    [
        {"exp": From(-20)},
        {"nbf": From(20)},
        {"iat": From(20)},
        {"aud": ["other", AUDIENCE]},
        {"iat": None},
        {"exp": 1e10 + 0.5},
    ],
)
def test_token_is_valid_within_the_leeway_and_for_one_of_several_audiences(given: dict[str, Any]) -> None:
    assert granted(token(**timed(given))) is not None


def test_end_that_is_far_away_is_one_that_a_session_can_hold() -> None:
    found = granted(token(exp=10**17))
    assert found is not None
    assert found.expires is not None
    assert found.expires * 1000 < 1 << 63


def test_leeway_is_the_one_of_the_settings() -> None:
    assert granted(token(**timed({"exp": From(-20)})), leeway_seconds=0.0) is None
    assert granted(token(**timed({"exp": From(-20)})), leeway_seconds=10.0) is None
    assert granted(token(**timed({"exp": From(-20)})), leeway_seconds=300.0) is not None


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    return b".".join((part(json.dumps(header).encode()), part(json.dumps(claims()).encode()), signature)).decode()


def mac_with_the_public_key(form: bytes) -> str:
    """Algorithm confusion: HS256 with the published key as its secret."""
    import hashlib
    import hmac

    text = part(b'{"alg":"HS256","kid":"k1","typ":"JWT"}') + b"." + part(json.dumps(claims()).encode())
    return (text + b"." + part(hmac.digest(form, text, hashlib.sha256))).decode()


PUBLIC = private_key("ES256").public_key()
HEADER = b'{"alg":"ES256","kid":"k1","typ":"JWT"}'
WRONG = {
    "alg none": unsigned({"alg": "none"}),
    "alg None of another case": unsigned({"alg": "nOnE", "kid": "k1"}, part(b"x")),
    "no alg": unsigned({"kid": "k1"}, part(b"x")),
    "alg that is a list": unsigned({"alg": ["ES256"], "kid": "k1"}, part(b"x")),
    "HS256 with the PEM": mac_with_the_public_key(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with the DER": mac_with_the_public_key(PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
    "HS256 with the JWK": mac_with_the_public_key(json.dumps(jwk("ES256", "k1")).encode()),
    "another key of the kind": token("ES256", "k1", number=1),
    "the algorithm of another kind of key": token("RS256", "k1"),
    "another curve": token("ES384", "k1"),
    "another hash than the key is for": jwt.encode(claims(), private_key("RS256"), "RS512", headers={"kid": "only"}),
    "unknown kid": token(kid="k9"),
    "kid that is a number": unsigned({"alg": "ES256", "kid": 1}, part(b"x")),
    "kid of a thousand characters": token(kid="k" * 1000),
    "no kid, and several keys fit": token(kid=None),
    "no signature": unsigned({"alg": "ES256", "kid": "k1"}),
    "signature cut": token()[:-4],
    "signature of another token": token().rpartition(".")[0] + "." + token(sub="eve").rpartition(".")[2],
    "claims of another token": ".".join([token().split(".")[0], token(sub="eve").split(".")[1], token().split(".")[2]]),
    "crit": signed(b'{"alg":"ES256","kid":"k1","crit":["exp"]}', json.dumps(claims()).encode()),
    "b64": signed(b'{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}', json.dumps(claims()).encode()),
    "an extension that is known elsewhere": signed(
        b'{"alg":"ES256","kid":"k1","crit":["b64"],"b64":true}', json.dumps(claims()).encode()
    ),
    "a claim twice": signed(HEADER, json.dumps(claims()).encode()[:-1] + b',"accounts":"*"}'),
    "a claim of a claim twice": signed(HEADER, json.dumps(claims()).encode()[:-1] + b',"x":{"a":1,"a":2}}'),
    "NaN": signed(HEADER, json.dumps(claims(exp=float("nan"))).encode()),
    "Infinity": signed(HEADER, json.dumps(claims(exp=float("inf"))).encode()),
    "1e999": signed(HEADER, json.dumps(claims(exp="x")).encode().replace(b'"x"', b"1e999")),
    "claims that are a list": signed(HEADER, b"[1]"),
    "claims that are no UTF-8": signed(HEADER, b'{"sub":"\xff"}'),
    "claims that are deep": signed(HEADER, b"[" * 9000),
    "a header that is deep": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30.eA",
    "a header that is a list": signed(b'["alg"]', b"{}"),
    "no parts": "..",
    "words": "a.b.c",
    "more than is looked at": token(x="y" * TOKEN_CHARACTERS_MAX),
    "other letters": token().replace(".", ".é", 1),
    "encrypted": ".".join(["e30"] * 5),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_wrong_token_is_refused(text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert granted(text) is None
    assert "a token was refused: it" in caplog.text
    assert not any(piece in caplog.text for piece in text.split(".") if len(piece) > 5)


def test_algorithms_are_those_of_the_settings() -> None:
    assert granted(token(), algorithms=("RS256",)) is None
    assert granted(token("RS256", "RS256"), algorithms=("RS256",)) is not None


def test_token_without_kid_is_taken_when_one_key_fits() -> None:
    keys = key_set(jwk("RS256", "a"), jwk("ES256", "b"))
    assert granted(token(kid=None), keys) is not None
    assert granted(token(kid=None), key_set(jwk("ES256", None))) is not None


@pytest.mark.parametrize(
    ("given", "role", "accounts"),
    [
        ({"accounts": "acme"}, "auditor", {"acme"}),
        ({"accounts": "acme,beta"}, "auditor", {"acme,beta"}),  # one account: names may have commas
        ({"accounts": ["acme", "beta", "acme"]}, "auditor", {"acme", "beta"}),
        ({"accounts": "*"}, "auditor", None),
        ({"accounts": ["*"]}, "auditor", None),
        ({"role": "reader"}, "reader", {"acme"}),
        ({"role": ["reader"]}, "reader", {"acme"}),
        ({"role": ["reader", "auditor", "x", 5]}, "auditor", {"acme"}),
        ({"role": "openid reader"}, "reader", {"acme"}),
        # Claims that are not understood give no rights.
        ({"accounts": ["*", "acme"]}, "", set()),
        ({"accounts": []}, "", set()),
        ({"accounts": ""}, "", set()),
        ({"accounts": None}, "", set()),
        ({"accounts": 5}, "", set()),
        ({"accounts": True}, "", set()),
        ({"accounts": ["acme", 5]}, "", set()),
        ({"accounts": ["acme", ""]}, "", set()),
        ({"accounts": {"acme": 1}}, "", set()),
        ({"accounts": "a\tb"}, "", set()),
        ({"accounts": "a" * 201}, "", set()),
        ({"role": None}, "", set()),
        ({"role": "admin"}, "", set()),
        ({"role": "Auditor"}, "", set()),
        ({"role": {"auditor": True}}, "", set()),
        ({"role": True}, "", set()),
        ({"role": []}, "", set()),
    ],
)
def test_claims_give_role_and_accounts(given: dict[str, Any], role: str, accounts: set[str] | None) -> None:
    found = granted(token(**given))
    assert found is not None
    assert (found.role, found.accounts) == (role, None if accounts is None else frozenset(accounts))


@pytest.mark.parametrize(
    ("given", "of"),
    [
        ({"role_claim": "realm_access.roles"}, {"realm_access": {"roles": ["x", "auditor"]}}),
        ({"role_claim": "https://acme.example/roles"}, {"https://acme.example/roles": ["auditor"]}),
        ({"role_claim": "groups", "roles": {"8c7-4e": "auditor"}}, {"groups": ["1a2-3b", "8c7-4e"]}),
        ({"role_claim": "scope", "roles": {"audit:read": "auditor"}}, {"scope": "openid audit:read email"}),
        ({"role_claim": "group", "roles": {"Audit Admins": "auditor"}}, {"group": "Audit Admins"}),
    ],
)
def test_role_is_found_where_issuers_put_it(given: dict[str, Any], of: dict[str, Any]) -> None:
    assert rights(claims(role=None, **of), issuer(**given)._rules)[0] == "auditor"
    assert rights(claims(role="auditor"), issuer(**given)._rules)[0] == ""


def test_way_through_claims_ends_at_what_is_no_object() -> None:
    for value in (5, "x", ["roles"], None, {"roles": {"auditor": 1}}):
        assert rights(claims(realm=value), issuer(role_claim="realm.roles.auditor")._rules)[0] == ""


def test_failures_are_counted_for_key_id_and_subject() -> None:
    made = issuer()
    one = made.throttled_as(token())
    assert one == made.throttled_as(token(exp=5, number=3, aud="x"))
    assert len({one, made.throttled_as(token(sub="bob")), made.throttled_as(token(kid="k2"))}) == 3
    for text in ("..", "a.b.c", WRONG["a header that is deep"], WRONG["claims that are deep"], WRONG["other letters"]):
        assert made.throttled_as(text) == ""


def test_token_of_many_requests_is_decoded_once_to_throttle_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = jwt.decode_complete
    monkeypatch.setattr(jwt, "decode_complete", lambda *a, **k: (decoded.append(a[0]), decode(*a, **k))[1])
    made, one = issuer(), token()
    assert len({made.throttled_as(one) for _ in range(50)}) == 1
    assert decoded == [one]
    for n in range(3_000):
        made.throttled_as(f"{n}.b.c")
    assert len(made._throttled) <= 1_024
