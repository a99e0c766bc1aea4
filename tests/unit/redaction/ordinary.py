"""Ordinary documents without a secret, many of which mention secrets. Whatever is masked in them is damage.

Families of documents that services exchange every day, each in several variants that are made from a seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from . import blind

VARIANTS = 9
JSON = "application/json"
TOPICS = (
    "Password reset sends an expired token", "Cookie banner overlaps the menu", "Add a secret santa mode",
    "Session timeout is too short", "API key page shows the wrong date", "PIN pad does not accept zero",
    "Tokenizer drops the last token", "Signature field is not printed", "Rotate the signing key each month",
    "Credentials dialog opens twice", "OTP mail arrives late", "Card number field has no label",
    "Passport scans are rotated", "Bearer tokens in the docs are outdated", "CSRF check fails behind the proxy",
)  # fmt: skip
PEOPLE = ("mira", "ann", "bo", "chen", "dara", "emil", "farid", "gita", "hugo")
CITIES = ("Bath", "Oslo", "Porto", "Kyoto", "Quito", "Turin")


def _sha(r: random.Random) -> str:
    return f"{r.getrandbits(160):040x}"


def _uuid(r: random.Random) -> str:
    h = f"{r.getrandbits(128):032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def _date(r: random.Random) -> str:
    return f"2026-{r.randrange(1, 13):02}-{r.randrange(1, 28):02}T{r.randrange(24):02}:{r.randrange(60):02}:07Z"


def issue(r: random.Random) -> Any:
    return {
        "url": f"https://api.example.com/repos/o/hello/issues/{r.randrange(9999)}", "id": r.randrange(10**9),
        "title": r.choice(TOPICS), "state": "open", "node_id": "MDU6SXNzdWU" + str(r.randrange(99)),
        "labels": [{"id": r.randrange(10**9), "name": r.choice(["auth", "token", "session", "ui"]), "color": "f29513"}],
        "user": {"login": r.choice(PEOPLE), "type": "User", "gists_url": "https://api.example.com/users/o/gists{/gist_id}"},
        "body": "The session is lost when the cookie is cleared. " + r.choice(TOPICS) + ".", "created_at": _date(r),
    }  # fmt: skip


def commit(r: random.Random) -> Any:
    return {
        "sha": _sha(r), "commit": {"message": r.choice(TOPICS), "tree": {"sha": _sha(r)},
        "verification": {"verified": True, "reason": "valid", "signature": None}},
        "author": {"login": r.choice(PEOPLE), "site_admin": False}, "authorizations_url": "https://api.example.com/authorizations",
        "keys_url": "https://api.example.com/user/keys", "parents": [{"sha": _sha(r)}],
    }  # fmt: skip


def openapi(r: random.Random) -> Any:
    name = r.choice(["password", "api_key", "access_token", "pin", "secret", "otp"])
    return {
        "openapi": "3.1.0", "info": {"title": "Shop", "version": "1.0"},
        "paths": {
            "/auth/token": {"post": {"summary": "Log in for an access token", "operationId": "token", "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}}}}},
            "/password/reset": {"post": {"tags": ["password"], "parameters": [{"name": "X-CSRF-Token", "in": "header", "required": True, "schema": {"type": "string"}}]}},
            "/users/{id}/api-keys": {"get": {"parameters": [{"name": "id", "in": "path", "required": True}, {"name": name, "in": "query", "description": "As the form has it"}]}},
        },
        "components": {
            "schemas": {
                "Token": {"type": "object", "title": "Token", "required": ["access_token", "token_type"], "properties": {
                    "access_token": {"type": "string", "title": "Access Token", "minLength": 8},
                    name: {"type": "string", "format": "password", "writeOnly": True, "description": "At least 8"},
                    "token_type": {"type": "string", "enum": ["bearer"]}}},
            },
            "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "oauth": {"type": "oauth2", "flows": {"password": {"tokenUrl": "/auth/token", "scopes": {}}}}},
        },
        "security": [{"bearerAuth": []}],
    }  # fmt: skip


def json_schema(r: random.Random) -> Any:
    name = r.choice(["pin", "password", "token", "secret", "cvv"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {name: {"type": "string", "minLength": 4, "title": name.title()}, "email": {"type": "string", "format": "email"}},
            "required": [name, "email"], "additionalProperties": False}  # fmt: skip


def chat(r: random.Random) -> Any:
    said = r.choice(
        ["Set max_tokens: 4096 for it", "prompt_tokens=12 completion_tokens=34", "tokenizer: bpe", "def f(token: str) -> int",
         "```python\ndef login(user: str, password: str) -> Token:\n    ...\n```", "A password manager keeps your passwords.",
         "The token is opaque; the session ends with it.", "Use `id-token: write` in the workflow.",
         "Secrets should be rotated. Never log the Authorization header.", "The capital of France is Paris."]
    )  # fmt: skip
    return {"id": f"chatcmpl-{r.randrange(10**9)}", "object": "chat.completion", "created": 1780000000 + r.randrange(10**6), "model": "m-4",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": r.randrange(9999), "completion_tokens": r.randrange(999), "total_tokens": r.randrange(9999),
                      "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": r.randrange(99)}}}  # fmt: skip


def chat_request(r: random.Random) -> Any:
    return {"model": "m-4", "max_tokens": r.choice([256, 1024, 4096]), "temperature": 0.2, "stop": ["END"],
            "messages": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": r.choice(TOPICS)}],
            "tools": [{"type": "function", "function": {"name": "reset_password", "description": "Sends the reset mail",
            "parameters": {"type": "object", "properties": {"user": {"type": "string"}}, "required": ["user"]}}}]}  # fmt: skip


def payment(r: random.Random) -> Any:
    return {"id": "pi_3Mtw" + str(r.randrange(10**6)), "object": "payment_intent", "amount": r.randrange(10**5), "currency": "usd",
            "payment_method_options": {"card": {"installments": None, "network": None}}, "payment_method_types": ["card"], "livemode": True,
            "last_payment_error": {"code": "card_declined", "decline_code": "generic_decline", "type": "card_error", "param": "number"},
            "payment_method_details": {"card": {"brand": "visa", "last4": "4242", "exp_year": 2030, "checks": {"cvc_check": "pass"}}}}  # fmt: skip


def webhook(r: random.Random) -> Any:
    return {"event": r.choice(["token.created", "password.changed", "session.expired", "order.paid"]), "occurred_at": _date(r),
            "id": _uuid(r), "data": {"object": {"id": r.randrange(10**6), "token_type": "bearer", "expires_in": 3600, "password_changed_at": _date(r)}},
            "attempt": 1, "signature_required": True, "webhook_secret_version": 2}  # fmt: skip


def ordinary_fields(r: random.Random) -> Any:
    return {"signature_date": "2026-11-28", "signatures_count": 3, "signature_status": "signed", "csrf_enabled": True, "jwt_expiry": 3600,
            "credential_type": "badge", "credential_id": 12, "password_reset_required": True, "password_attempts": r.randrange(5),
            "token_symbol": "USDC", "token_decimals": 6, "token_price": "1.02", "token_id": 7, "season_pass": "2026/27", "training_session": "Room 4",
            "api_key_id": 12, "api_key_name": "ci", "secret_version": 2, "pin_attempts": 2, "otp_required": True, "credit_card_type": "visa",
            "author": "Ada", "passenger": r.choice(PEOPLE), "keyboard": "de", "session_count": 3, "compass": "N", "secretary": "Bo",
            "shipping": "fast", "prompt_tokens": "12", "token_count": 17, "public_key_id": 4, "primary_key": "id", "cache_key": "a:b:1"}  # fmt: skip


def problem(r: random.Random) -> Any:
    return {"type": "https://example.com/probs/invalid-token", "title": r.choice(["Invalid token", "Password expired", "Session not found", "Wrong PIN"]),
            "status": 401, "detail": r.choice(["The token is expired.", "Change it.", "The password does not match.", "Your session has ended."]), "instance": f"/orders/{r.randrange(99)}"}  # fmt: skip


def validation(r: random.Random) -> Any:
    return {"detail": [{"type": "missing", "loc": ["body", r.choice(["password", "token", "name"])], "msg": "Field required"},
                       {"type": "string_too_short", "loc": ["body", "city"], "msg": "String should have at least 3 characters", "input": "Os", "ctx": {"min_length": 3}}]}  # fmt: skip


def graphql(r: random.Random) -> Any:
    return {
        "query": "query($id:ID!){order(id:$id){total items{sku} customer{name passwordChangedAt}}}",
        "variables": {"id": str(r.randrange(99))},
        "operationName": None,
    }


def graphql_schema(r: random.Random) -> Any:
    return {
        "data": {
            "__type": {
                "name": "User",
                "fields": [
                    {"name": "email", "type": {"name": "String"}},
                    {"name": r.choice(["password", "token", "cart"]), "type": {"name": "String", "kind": "SCALAR"}},
                ],
            }
        }
    }


def pod(r: random.Random) -> Any:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "uid": _uuid(r), "labels": {"app": "web"}},
            "spec": {"automountServiceAccountToken": False, "imagePullSecrets": [{"name": "registry"}],
            "containers": [{"name": "web", "image": "nginx@sha256:" + "ab12" * 16,
            "env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}, {"name": "TOKEN_TTL", "value": "3600"}],
            "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
            "volumes": [{"name": "tls", "secret": {"secretName": "web-tls", "defaultMode": 420}}]}}  # fmt: skip


def i18n(r: random.Random) -> Any:
    return {"password.label": "Password", "login.password.placeholder": "Your password", "password.tooShort": "Too short",
            "forgotPassword": "Forgot your password?", "passwordRequired": "A password is required", "cookieConsent": "We use cookies",
            "password_mismatch": "They differ", "token": {"label": "Token", "hint": "From your mail", "invalid": "Not known"}, "greeting": "Hello " + r.choice(PEOPLE)}  # fmt: skip


def oidc(r: random.Random) -> Any:
    return {"issuer": "https://id.example", "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/keys",
            "authorization_endpoint": "https://id.example/auth", "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
            "id_token_signing_alg_values_supported": ["RS256"], "claims_supported": ["sub", "iss"], "code_challenge_methods_supported": ["S256"]}  # fmt: skip


def order(r: random.Random) -> Any:
    return {"order": r.randrange(10**6), "customer": {"name": r.choice(PEOPLE), "city": r.choice(CITIES), "phone": "+44 20 7946 0000"}, "total": 59.90,
            "lines": [{"sku": f"PIN-{r.randrange(99)}", "name": "Hat pin", "price": 4.5, "ean": "4006381333931"}, {"sku": "C-1", "name": "Cookie jar", "price": 19.0}]}  # fmt: skip


def table(r: random.Random) -> Any:
    return {
        "columns": ["id", "city", "prompt_tokens"],
        "rows": [[i, r.choice(CITIES), r.randrange(99)] for i in range(5)],
    }


def settings(r: random.Random) -> Any:
    return {"password_policy": {"min_length": 12, "require_digit": True, "max_age_days": 90}, "session_timeout": 900, "token_lifetime": "15m",
            "cookie_domain": ".example.com", "cookie_samesite": "Lax", "csrf_protection": True, "features": {"passwordless": True, "two_factor_required": r.random() < 0.5}}  # fmt: skip


def numbers(r: random.Random) -> Any:
    return {"ids": [1795348800123456789, 4111111111111112], "ratio": 0.12345678901234567, "sha": _sha(r), "uuid": _uuid(r), "etag": f'W/"{_sha(r)}"',
            "urls": ["https://example.com:8443/a@b/c", "git@github.com:o/r.git", "https://x.org/@me"]}  # fmt: skip


def errors_by_field(r: random.Random) -> Any:
    return {
        "message": "The given data was invalid.",
        "errors": {
            "password": ["is too short", "must contain a digit"],
            "token": ["has expired"],
            "city": [f"must not be {r.choice(CITIES)}"],
        },
    }


def package(r: random.Random) -> Any:
    return {
        "name": "shop",
        "version": f"1.{r.randrange(99)}.0",
        "dependencies": {
            "jsonwebtoken": "^9.0.2",
            "cookie-parser": "~1.4.6",
            "csrf-tokens": "2.0.0",
            "express-session": "^1.17.3",
        },
    }


def logprobs(r: random.Random) -> Any:
    return {
        "logprobs": {
            "content": [
                {"token": w, "logprob": -0.3, "bytes": [72], "top_logprobs": []}
                for w in ("Hello", " ", r.choice(CITIES))
            ]
        },
        "tokens": ["The", " quick", "fox", "."],
    }


DOCUMENTS: tuple[Callable[[random.Random], Any], ...] = (
    issue, commit, openapi, json_schema, chat, chat_request, payment, webhook, ordinary_fields, problem, validation,
    graphql, graphql_schema, pod, i18n, oidc, order, table, settings, numbers,
    errors_by_field, package, logprobs,
)  # fmt: skip


def sse(r: random.Random) -> str:
    words = r.choice(
        [
            "The token is opaque and a session ends",
            "Your password must have twelve letters",
            "Use the API key page to make one",
        ]
    ).split()
    return "".join(
        "data: " + json.dumps({"choices": [{"delta": {"content": w + " "}}], "usage": {"prompt_tokens": 9, "completion_tokens": i, "total_tokens": 9 + i}}) + "\n\n"
        for i, w in enumerate(words)
    ) + "data: [DONE]\n\n"  # fmt: skip


def sse_typed(r: random.Random) -> str:
    return "".join(
        f"event: token\nid: {i}\ndata: {json.dumps({'type': 'token', 'content': w})}\n\n"
        for i, w in enumerate(["Hel", "lo ", r.choice(CITIES)])
    )


def ndjson(r: random.Random) -> str:
    return "".join(
        json.dumps(
            {
                "ts": _date(r),
                "level": "info",
                "msg": r.choice(TOPICS),
                "user": r.choice(PEOPLE),
                "tokens_used": r.randrange(99),
            }
        )
        + "\n"
        for _ in range(8)
    )


def form(r: random.Random) -> str:
    return f"name={r.choice(PEOPLE)}&city={r.choice(CITIES)}&page={r.randrange(9)}&token_type=bearer&max_tokens=100&next=%2Fpassword%2Freset&q=api+key+rotation&code=A17"


def csv(r: random.Random) -> str:
    return "user,prompt_tokens,completion_tokens\n" + "".join(
        f"{r.choice(PEOPLE)},{r.randrange(99)},{r.randrange(9)}\n" for _ in range(6)
    )


def csv_orders(r: random.Random) -> str:
    return "id;city;pass_type;total\n" + "".join(
        f"{i};{r.choice(CITIES)};season;{r.randrange(99)},50\n" for i in range(6)
    )


def manifest(r: random.Random) -> str:
    return ("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      serviceAccountName: web\n"
            "      containers:\n      - name: web\n        env:\n        - name: DB_PASSWORD\n          valueFrom:\n            secretKeyRef:\n              name: db\n"
            "              key: password\n      volumes:\n      - name: tls\n        secret:\n          secretName: web-tls\n" f"  replicas: {r.randrange(9)}\n")  # fmt: skip


def ci(r: random.Random) -> str:
    return ("name: release\non: [push]\npermissions:\n  contents: read\n  id-token: write\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n"
            "      - uses: actions/checkout@v4\n      - run: make test\n        env:\n          TOKEN: ${{ secrets.REGISTRY_TOKEN }}\n"
            "      - uses: x/publish@v1\n        with:\n          password: ${{ secrets.PYPI }}\n" f"          retries: {r.randrange(5)}\n")  # fmt: skip


def compose(r: random.Random) -> str:
    return (
        "services:\n  db:\n    image: postgres:17\n    environment:\n      POSTGRES_PASSWORD: ${DB_PASSWORD}\n    secrets:\n      - db_password\nsecrets:\n  db_password:\n    file: ./db.txt\n"
        + f"# {r.choice(TOPICS)}\n"
    )


def yaml_schema(r: random.Random) -> str:
    return (
        "required:\n- password\n- email\n- name\ntype: object\nproperties:\n  password:\n    type: string\n    minLength: 8\n"
        + f"title: {r.choice(CITIES)}\n"
    )


def log(r: random.Random) -> str:
    lines = ("INFO login ok user=mira ip=192.0.2.1", "WARN password check failed for bob", "INFO 12 tokens used", "DEBUG session opened for user ann",
             "INFO csrf check passed", "ERROR token expired at 12:00, refresh needed", "INFO rotating secrets in 3 days", "INFO GET /password/reset 200 12ms",
             "INFO tokenizer loaded in 1.2s", "WARN api key quota at 80%", "INFO cookie consent given", "INFO signature verified in 3 ms")  # fmt: skip
    return "".join(f"{_date(r)} {r.choice(lines)}\n" for _ in range(12))


def syslog(r: random.Random) -> str:
    return "".join(
        f"Nov {i + 1} 10:00:0{i} web sshd[{r.randrange(9999)}]: Failed password for invalid user bob from 192.0.2.{i} port 5{i}22 ssh2\n"
        for i in range(6)
    )


def login_page(r: random.Random) -> str:
    return ('<!doctype html><html><head><meta name="viewport" content="width=device-width"></head><body><form action="/login" method="post">'
            '<label for="u">User</label><input id="u" name="user"><label for="p">Password</label>'
            '<input type="password" id="p" name="password" placeholder="Password" required minlength="8" autocomplete="current-password">'
            f'<a href="/password/reset">Forgot your password?</a><button>Sign in</button></form><p>{r.choice(TOPICS)}</p></body></html>')  # fmt: skip


def page(r: random.Random) -> str:
    return ("<html><body><h1>API tokens</h1><table><tr><th>Name</th><th>Token type</th><th>Created</th></tr>"
            f"<tr><td>ci</td><td>bearer</td><td>{_date(r)}</td></tr></table><p>A password is hashed. Keep your secrets safe.</p>"
            f"<ul><li>{r.choice(TOPICS)}</li><li>Cookies</li></ul><script>var pages = 3; function reset(token) {{ return token.length }}</script></body></html>")  # fmt: skip


def xml(r: random.Random) -> str:
    return f'<?xml version="1.0"?><orders><order id="{r.randrange(99)}"><city>{r.choice(CITIES)}</city><passenger>Ann</passenger><tokenType>bearer</tokenType><note>{r.choice(TOPICS)}</note></order></orders>'


def markdown(r: random.Random) -> str:
    return f"# Tokens\n\nA token is opaque. A password is hashed.\n\n* cookies\n* sessions\n\n## {r.choice(TOPICS)}\n\n| field | type |\n|---|---|\n| password | string |\n| token | string |\n\nSee [reset](/password/reset).\n"


def readme(r: random.Random) -> str:
    return f"Set `API_KEY` in the environment, then run:\n\n    export API_KEY=$KEY\n    tool --token $TOKEN --city {r.choice(CITIES)}\n\nThe password is asked for. `max_tokens: 100` bounds the answer.\n"


def code(r: random.Random) -> str:
    return ("from app import hash_password\n\ndef login(user: str, password: str) -> Token:\n    if not check(password):\n        raise Invalid('token')\n"
            f"    return make_token(user, ttl={r.randrange(99)})\n\nclass Session:\n    token: str\n    expires: int = 0\n")  # fmt: skip


def javascript(r: random.Random) -> str:
    return f"export function login(user, password) {{\n  const token = getToken(user);\n  return fetch('/login', {{ method: 'POST' }});\n}}\nconst pages = {r.randrange(9)};\n"


def sql(r: random.Random) -> str:
    return f"SELECT id, city FROM users WHERE city = '{r.choice(CITIES)}' AND token_count > 5;\nCREATE TABLE users (id INT, password VARCHAR(60) NOT NULL, token TEXT);\nSELECT password FROM users WHERE id = $1;\n"


def mail(r: random.Random) -> str:
    return f"Dear {r.choice(PEOPLE)},\nyour password is about to expire. It was changed 90 days ago.\nThe token was refreshed and your session is active.\nNever share your PIN or password.\nYours\n"


def sentences(r: random.Random) -> str:
    return (
        "A high price of the basic plan, through people. "
        + r.choice(TOPICS)
        + ". The secret is to keep it short. Bearer of good news, basic JavaScript.\n"
    )


def ini(r: random.Random) -> str:
    return f"[session]\ntimeout = 900\n\n[tokens]\nttl = {r.randrange(999)}\nalgorithm = HS256\n\n[password]\nmin_length = 12\n"


def i18n_properties(r: random.Random) -> str:
    return f"password.label=Password\nlogin.forgot=Forgot your password?\ntoken.expired=The token is expired\ncity={r.choice(CITIES)}\n"


def diff(r: random.Random) -> str:
    return f"--- a/app.py\n+++ b/app.py\n@@ -1,3 +1,3 @@\n-def f(token: str):\n+def f(token: bytes):\n index {_sha(r)[:8]}\n"


def terraform(r: random.Random) -> str:
    return f'resource "aws_db_instance" "x" {{\n  username = "app"\n  password = var.db_password\n  port = {r.randrange(9999)}\n}}\nvariable "db_password" {{\n  type = string\n  sensitive = true\n}}\n'


def css(r: random.Random) -> str:
    return f".password-field{{color:red}}\n.token:hover{{margin:0 {r.randrange(9)}px}}\n#secret{{display:none}}\n"


def ansible(r: random.Random) -> str:
    return f'- name: set password\n  user:\n    name: {r.choice(PEOPLE)}\n    password: "{{{{ vault_password }}}}"\n  no_log: true\n'


def java(r: random.Random) -> str:
    return f'public class Login {{\n  private String password;\n  void setPassword(String password) {{\n    this.password = password;\n  }}\n  String token = request.getHeader("X-Token");\n  int n = {r.randrange(9)};\n}}\n'


def event_text(r: random.Random) -> str:
    return f'Warning FailedMount: secret "db-password" not found in {r.choice(CITIES)}\ncurl -H "Authorization: Bearer $TOKEN" https://x.example\n'


TEXTS: tuple[tuple[Callable[[random.Random], str], str], ...] = (
    (sse, "text/event-stream"), (sse_typed, "text/event-stream"), (ndjson, "application/x-ndjson"),
    (form, "application/x-www-form-urlencoded"), (csv, "text/csv"), (csv_orders, "text/csv"),
    (manifest, "application/yaml"), (ci, "text/yaml"), (compose, "application/yaml"), (yaml_schema, "text/yaml"),
    (log, "text/plain"), (syslog, "text/plain"), (login_page, "text/html"), (page, "text/html"), (xml, "application/xml"),
    (markdown, "text/markdown"), (readme, "text/markdown"), (code, "text/plain"), (javascript, "application/javascript"),
    (sql, "application/sql"), (mail, "text/plain"), (sentences, "text/plain"), (ini, "text/plain"),
    (i18n_properties, "text/plain"), (diff, "text/plain"), (terraform, "text/plain"), (css, "text/css"), (ansible, "application/yaml"), (java, "text/plain"),
    (event_text, "text/plain"),
)  # fmt: skip


def documents() -> Iterator[tuple[str, str, str]]:
    """Yields (family, content type, text)."""
    for make in DOCUMENTS:
        for seed in range(VARIANTS):
            value = make(random.Random(seed))
            yield make.__name__, JSON, json.dumps(value, indent=(None, 1, 2)[seed % 3])
    for write, kind in TEXTS:
        for seed in range(VARIANTS):
            yield write.__name__, kind, write(random.Random(seed))
    for make in DOCUMENTS[:8]:  # the same text as a string in another document
        yield make.__name__ + " in a string", JSON, json.dumps({"payload": json.dumps(make(random.Random(1)))})
    for template in blind.read("ordinary"):
        yield f"strangers {template.kind}", blind.TYPES[template.kind].decode(), template.text
