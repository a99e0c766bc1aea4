"""Ordinary bodies, as services send them every day: only the secrets in them are masked. A record is evidence; masking
more than the secrets destroys it."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

BUILDER = make_builder()
M = "[REDACTED]"
UUID = "550e8400-e29b-41d4-a716-446655440000"
SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"

GITHUB_ISSUE = {
    "url": "https://api.github.com/repos/octocat/hello/issues/1347",
    "id": 1,
    "node_id": "MDU6SXNzdWUx",
    "number": 1347,
    "title": "Password reset sends an expired token",
    "state": "open",
    "labels": [{"id": 208045946, "name": "auth", "color": "f29513"}],
    "user": {"login": "octocat", "gists_url": "https://api.github.com/users/octocat/gists{/gist_id}", "type": "User"},
    "body": "The session is lost when the cookie is cleared.",
    "closed_at": None,
    "created_at": "2011-04-22T13:33:48Z",
}
GITHUB_ROOT = {
    "current_user_url": "https://api.github.com/user",
    "authorizations_url": "https://api.github.com/authorizations",
    "keys_url": "https://api.github.com/user/keys",
    "commit": {"sha": SHA, "verified": True},
}
STRIPE = {
    "id": "pi_3MtwBwLkdIwHu7ix28a3tqPa",
    "object": "payment_intent",
    "amount": 2000,
    "currency": "usd",
    "payment_method_options": {"card": {"installments": None, "network": None}},
    "status": "requires_payment_method",
    "payment_method_types": ["card"],
    "created": 1680800504,
    "livemode": True,
    "customer": "cus_NffrFeUfNV2Hib",
    "last_payment_error": {
        "code": "card_declined",
        "decline_code": "generic_decline",
        "type": "card_error",
        "param": "number",
    },
}
K8S_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-0", "uid": UUID, "labels": {"app": "web"}},
    "spec": {
        "automountServiceAccountToken": False,
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [
            {
                "name": "web",
                "image": "nginx@sha256:" + "ab12" * 16,
                "env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
                "volumeMounts": [
                    {"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
                ],
            }
        ],
        "volumes": [{"name": "tls", "secret": {"secretName": "web-tls"}}],
    },
}
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "1.0"},
    "paths": {
        "/auth/token": {
            "post": {
                "summary": "Log in",
                "operationId": "token",
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}}},
            }
        },
        "/password/reset": {
            "post": {
                "tags": ["password"],
                "parameters": [
                    {"name": "X-CSRF-Token", "in": "header", "required": True, "schema": {"type": "string"}}
                ],
            }
        },
    },
    "components": {
        "schemas": {
            "Token": {
                "type": "object",
                "title": "Token",
                "required": ["access_token", "token_type"],
                "properties": {
                    "access_token": {"type": "string", "title": "Access Token", "minLength": 8},
                    "password": {
                        "type": "string",
                        "format": "password",
                        "writeOnly": True,
                        "description": "At least 8",
                    },
                    "token_type": {"type": "string", "enum": ["bearer"]},
                },
            }
        },
        "securitySchemes": {
            "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "oauth": {"type": "oauth2", "flows": {"password": {"tokenUrl": "/auth/token", "scopes": {}}}},
        },
    },
    "security": [{"bearerAuth": []}],
}
PROBLEM = {
    "type": "https://example.com/probs/invalid-token",
    "title": "Invalid token",
    "status": 401,
    "detail": "The token is expired.",
    "instance": "/orders/17",
}
I18N = {
    "password.label": "Password",
    "login.password.placeholder": "Your password",
    "password.tooShort": "Too short",
    "forgotPassword": "Forgot your password?",
    "passwordRequired": "A password is required",
    "cookieConsent": "We use cookies",
    "password_mismatch": "They differ",
    "token": {"label": "Token", "hint": "From your mail", "invalid": "Not known"},
}

KEPT: dict[str, Any] = {
    "github issue": GITHUB_ISSUE,
    "github root": GITHUB_ROOT,
    "stripe intent": STRIPE,
    "kubernetes pod": K8S_POD,
    "kubernetes event": {"kind": "Event", "reason": "FailedMount", "message": 'secret "db" not found', "count": 3},
    "openapi": OPENAPI,
    "problem": PROBLEM,
    "problem of validation": {
        "title": "Your request is not valid.",
        "errors": [{"pointer": "#/age", "detail": "must be positive"}],
        "status": 422,
    },
    "problem of a password": {
        "type": "about:blank",
        "title": "Password expired",
        "instance": "/me",
        "detail": "Change it.",
    },
    "typed token": {"type": "token", "data": {"price": 12, "symbol": "ETH"}},
    "stream of tokens": [
        {"type": "token", "content": "Hel"},
        {"type": "token", "content": "lo"},
        {"type": "token", "data": "!"},
    ],
    "llm usage": {"model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 17}, "max_tokens": 100, "stop": ["END"]},
    "graphql": {"query": "query($id:ID!){order(id:$id){total items{sku}}}", "variables": {"id": "17"}},
    "graphql schema": {"data": {"__type": {"name": "User", "fields": [{"name": "email"}, {"name": "cart"}]}}},
    "order": {
        "order": 918273,
        "customer": {"name": "Mira Pass", "city": "Bath", "phone": "+44 20 7946 0000"},
        "total": 59.90,
        "lines": [
            {"sku": "PIN-12", "name": "Hat pin", "price": 4.5},
            {"sku": "C-1", "name": "Cookie jar", "price": 19.0},
        ],
    },
    "i18n": I18N,
    "i18n nested": {"login": {"password": {"label": "Password", "placeholder": "********", "error": "Wrong password"}}},
    "json schema": {
        "$schema": "x",
        "type": "object",
        "properties": {"pin": {"type": "integer", "minimum": 0}},
        "required": ["pin"],
    },
    "form state": {
        "password": {"label": "Password", "touched": True, "valid": False, "errors": ["too short"], "value": None}
    },
    "user": {
        "id": 1,
        "name": "Ann",
        "passwordChangedAt": "2024-01-01T00:00:00Z",
        "password_expires_at": None,
        "secretary": "Bo",
    },
    "oidc discovery": {
        "issuer": "https://id.example",
        "token_endpoint": "https://id.example/token",
        "jwks_uri": "https://id.example/keys",
        "authorization_endpoint": "https://id.example/auth",
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    },
    "oauth error": {"error": "invalid_grant", "error_description": "The refresh token is expired or revoked"},
    "analytics": {"name": "Password reset", "value": 3, "properties": {"page": "/login"}},
    "menu": [{"id": "settings", "label": "Token usage", "content": "x"}, {"label": "Cookie policy", "data": 1}],
    "table": {"columns": ["id", "city"], "rows": [[1, "Bath"], [2, "Oslo"]], "fields": ["a"], "data": [["b"]]},
    "numbers": {"ids": [1795348800123456789, 4111111111111112], "ratio": 0.12345678901234567, "sha": SHA, "uuid": UUID},
    "urls": {
        "a": "https://example.com:8443/a@b/c",
        "b": "git@github.com:o/r.git",
        "c": "https://x.org/@me",
        "d": "a:b@c",
    },
    "prices": {
        "text": "a high price, through people; high speed",
        "plan": "Basic information",
        "region": "ASIA",
        "size": "AIz",
    },
}

TEXTS = {
    "login form": (
        b"text/html",
        '<!doctype html><html><body><form action="/login" method="post"><label for="u">User</label>'
        '<input id="u" name="user">'
        '<label for="p">Password</label><input type="password" id="p" name="password" placeholder="Password" required>'
        '<a href="/password/reset">Forgot your password?</a><button>Sign in</button></form></body></html>',
    ),
    "log lines": (
        b"text/plain",
        "2024-05-01T10:00:00Z INFO login ok user=mira ip=192.0.2.1\n"
        "2024-05-01T10:00:01Z WARN password check failed for bob\n"
        "2024-05-01T10:00:02Z INFO 12 tokens used\n",
    ),
    "markdown": (b"text/markdown", "# Tokens\n\nA token is opaque. A password is hashed.\n\n* cookies\n* sessions\n"),
    "csv": (b"text/plain", "id,city,total\n1,Bath,3.50\n2,Oslo,4.50\n"),
    "yaml": (b"text/yaml", "required:\n- password\n- email\n- name\ntype: object\n"),
    "mail": (b"text/plain", "Dear Mira,\nyour password is about to expire. It was changed 90 days ago.\nYours"),
}


@pytest.mark.parametrize("name", KEPT)
def test_ordinary_document_is_kept_whole(name: str) -> None:
    document = KEPT[name]
    for data in (orjson.dumps(document), json.dumps(document, indent=1).encode()):
        x = make_exchange(
            "POST", body=data, content_type=b"application/json", answer=data, answer_type=b"application/json"
        )
        value = checked(BUILDER.build(x))
        assert value["request"]["body"] == document
        assert value["response"]["body"] == document
        assert "redacted" not in value["context"]


@pytest.mark.parametrize("name", TEXTS)
def test_ordinary_text_is_kept_whole(name: str) -> None:
    kind, text = TEXTS[name]
    value = checked(BUILDER.build(make_exchange("GET", answer=text.encode(), answer_type=kind)))
    assert value["response"]["body"] == text
    assert "redacted" not in value["context"]


@pytest.mark.parametrize(
    ("document", "kept"),
    [
        ({"user": "mira", "password": "Hx7q", "remember": True}, {"user": "mira", "password": M, "remember": True}),
        (
            {"access_token": "Hx7qHx7q", "token_type": "bearer", "expires_in": 3600, "scope": "a b"},
            {"access_token": M, "token_type": "bearer", "expires_in": 3600, "scope": "a b"},
        ),
        (
            {"id": "pi_1", "client_secret": "pi_1_secret_x", "amount": 5},
            {"id": "pi_1", "client_secret": M, "amount": 5},
        ),
        (
            {"properties": {"password": {"type": "string", "default": "Hx7q", "example": "Hx8q", "minLength": 8}}},
            {"properties": {"password": {"type": "string", "default": M, "example": M, "minLength": 8}}},
        ),
        (
            {"password": {"label": "Password", "value": "Hx7q", "touched": True}},
            {"password": {"label": "Password", "value": M, "touched": True}},
        ),
        (
            {"Token": {"type": "object", "properties": {"pin": {"type": "integer", "example": 1234}}}},
            {"Token": {"type": "object", "properties": {"pin": {"type": "integer", "example": M}}}},
        ),
        ({"password": {"label": "Password", "raw": "Hx7q"}}, {"password": M}),
        ({"/auth/token": {"post": {"token": "Hx7q", "n": 1}}}, {"/auth/token": {"post": {"token": M, "n": 1}}}),
        ({"/auth/token": "Hx7q"}, {"/auth/token": M}),
        ({"type": "token", "value": "Hx7q", "data": 5}, {"type": "token", "value": M, "data": 5}),
        ({"type": "password", "data": "Hx7q"}, {"type": "password", "data": M}),
        (
            {"errors": [{"loc": ["body", "pin"], "msg": "too short", "input": "12"}], "title": "Invalid PIN"},
            {"errors": [{"loc": ["body", "pin"], "msg": "too short", "input": M}], "title": "Invalid PIN"},
        ),
    ],
)
def test_only_the_secret_of_a_document_is_masked(document: Any, kept: Any) -> None:
    data = orjson.dumps(document)
    value = checked(BUILDER.build(make_exchange("POST", body=data, content_type=b"application/json")))
    assert value["request"]["body"] == kept
