"""Any ASGI application, without a framework. Run: uvicorn examples.any_asgi_app:app --port 8000"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgi_audit import install

Message = dict[str, Any]


async def hello(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello\n"})


app = install(hello, service="hello", account_id="acme")
