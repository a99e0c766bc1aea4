"""An application whose middleware is created late, with a wrong setting if the environment contains one."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_audit import AuditMiddleware


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def make() -> Starlette:
    app = Starlette(routes=[Route("/", hello)])
    app.add_middleware(AuditMiddleware)
    return app


app = make()
