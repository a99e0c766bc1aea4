"""What a type checker refuses: each line that ends in `# refused`, and no other. See `test_types`."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware

from asgi_audit import AuditMiddleware, install

app = FastAPI()

AuditMiddleware(app, servce="shop")  # refused
AuditMiddleware(app, delivery="durabel")  # refused
AuditMiddleware(app, detail=3)  # refused
AuditMiddleware(app, body_bytes_max="64k")  # refused
AuditMiddleware(app, retention_days=7)  # refused
AuditMiddleware(app, queue_max=7)  # refused
AuditMiddleware(3)  # refused
AuditMiddleware()  # refused

app.add_middleware(AuditMiddleware, servce="shop")  # refused
app.add_middleware(AuditMiddleware, region="us")  # refused
Middleware(AuditMiddleware, servce="shop")  # refused
Middleware(AuditMiddleware, port=8400)  # refused

install(app, servce="shop")  # refused
install(app, account_id=7)  # refused
install(app, retention_days=7)  # refused
install("shop:app")  # refused
starlette: Starlette = install(app)
fastapi: FastAPI = install(Starlette())  # refused
