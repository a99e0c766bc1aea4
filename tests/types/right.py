"""What users write, and what a type checker passes: see `test_types`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from prometheus_client import CollectorRegistry
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

import asgi_audit
from asgi_audit import AuditMiddleware, ConfigError, annotate, current, install


async def hello(request: Request) -> PlainTextResponse:
    annotate(principal="alice", account_id="acme", order=7)
    return PlainTextResponse(str(current() is not None))


async def by_dicts(
    scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[[dict[str, Any]], Any]
) -> None: ...


async def by_mappings(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None: ...


async def by_starlette(scope: Scope, receive: Receive, send: Send) -> None: ...


wrapped = [AuditMiddleware(app) for app in (by_dicts, by_mappings, by_starlette)]
wrapped.append(AuditMiddleware(Starlette(), service="shop", home=Path("audit"), body_bytes_max=0))
wrapped.append(AuditMiddleware(Quart("shop"), delivery="durable", detail="headers", request_id_header=None))
wrapped.append(AuditMiddleware(FastAPI(), redact_names=["pin"], redact_paths="/a/{b}", metrics=CollectorRegistry()))
counters: dict[str, int] = wrapped[0].stats()
as_starlettes: ASGIApp = wrapped[0]

app = FastAPI()
app.add_middleware(AuditMiddleware)
app.add_middleware(AuditMiddleware, service="shop", region="eu", transport="kafka://broker:9092/audit-records")
app.add_middleware(AuditMiddleware, metrics=CollectorRegistry())

listed = Starlette(
    routes=[
        Route("/", hello, middleware=[Middleware(AuditMiddleware)]),
        Mount("/inner", app=AuditMiddleware(Starlette()), middleware=[Middleware(AuditMiddleware, enabled=False)]),
    ],
    middleware=[Middleware(AuditMiddleware), Middleware(AuditMiddleware, account_id="acme", instance_id="eu-1")],
)
litestar = Litestar([], middleware=[DefineMiddleware(AuditMiddleware, service="shop")])

installed: FastAPI = install(FastAPI(title="shop"), service="gateway", kafka_username="ann", kafka_password="…")
installed.title = install(installed).title
starlette: Starlette = asgi_audit.install(Starlette(), share_with_group="audit", scope="management")
around_quart: AuditMiddleware = install(Quart("shop"), service="shop")
around_litestar: AuditMiddleware = install(Litestar([]))
around_functions: list[AuditMiddleware] = [install(by_dicts), install(by_mappings), install(by_starlette)]

try:
    install(Starlette())
except ConfigError as e:
    advice: str = e.hint
