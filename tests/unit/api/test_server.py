"""The server of the API, in this process."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

from tests.support.process import process_restored

from asgi_audit.api.server import Server


async def app(scope: Any, receive: Any, send: Any) -> None:
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def test_objects_of_the_start_are_not_traversed_again_while_it_serves() -> None:
    """A full collection traverses modules and models, which are never freed, and delays every client."""
    frozen: list[int] = []

    def beat() -> None:
        frozen.append(gc.get_freeze_count())
        server.should_exit = True

    server = Server(app, beat=beat)
    before = gc.get_freeze_count()
    with process_restored(), socket.create_server(("127.0.0.1", 0)) as listening:
        asyncio.run(server.serve([listening]))
    assert frozen[0] > before + 10_000
    assert gc.get_freeze_count() == 0
