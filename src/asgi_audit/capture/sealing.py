"""The seal: once for each exchange, at its end, whichever comes first.

Outcomes. `completed`: the server took the final message (with `durable` it is about to: the record has to stand before
that). `failed`: the application raised (status 500 when it had not started a response: the server answers so), or
returned without starting one. `interrupted`: it returned in the middle of its response. `disconnected`:
`http.disconnect` came, or `send` raised that the client is gone, before the response was complete (499 when none was
started). `cancelled`: the server or a timeout outside us cancelled the request (499 likewise). A client that left
explains whatever follows, so `disconnected` goes before `failed` and `cancelled`.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from ..exchange.sealed import Wake
from .asgi import Scope
from .config import CaptureConfig
from .handle import RequestHandle
from .identity import framework_route, principal_of
from .waiter import Waiter, new_waiter

__all__ = ["Sealing"]


class Sealing(msgspec.Struct, eq=False):
    """What the seal needs of one request. `handle.draft` is None once it is sealed."""

    config: CaptureConfig
    handle: RequestHandle
    scope: Scope
    gone: bool  # the client left before the response was complete

    async def raised(self, error: BaseException) -> None:
        draft = self.handle.draft
        if draft is None:
            return
        cancelled = _is_cancellation(error)
        if not cancelled:
            draft.error = type(error).__name__, not isinstance(error, Exception)
        outcome = "disconnected" if self.gone else "cancelled" if cancelled else "failed"
        if draft.start is None:
            draft.start = 500 if outcome == "failed" else 499, []
            # The server answers an exception with a 500 that the client sees complete. Whatever is no Exception ends
            # the process or the task: nothing waits then.
            if self.config.durable and isinstance(error, Exception) and not self.gone:
                await self._seal_durably_and_hand_on(outcome)
        self.seal(outcome)  # does nothing the second time

    async def returned(self) -> None:
        """The application returned without having completed its response."""
        draft = self.handle.draft
        if draft is None:
            return
        if self.gone:
            outcome = "disconnected"
        else:
            outcome = "failed" if draft.start is None else "interrupted"
        if draft.start is None:
            draft.start = 499 if self.gone else 500, []
            if self.config.durable and not self.gone:
                await self._seal_durably_and_hand_on(outcome)
        self.seal(outcome)  # does nothing the second time

    async def _seal_durably_and_hand_on(self, outcome: str) -> None:
        """Before the server answers by itself: what the application raised or returned comes before a cancellation."""
        waiter = await self._seal_durably(outcome)
        if waiter is not None:
            waiter.hand_on()

    async def _seal_durably(self, outcome: str) -> Waiter | None:
        """Seal, then wait until the record is on disk, never will be, or the bound is reached. Raises nothing; a
        cancellation is kept by the waiter that it returns."""
        try:
            waiter = new_waiter()
        except Exception:
            waiter = None
            self.config.internal_error("wait")
        recorder = self.handle.recorder
        if waiter is None:
            if self.seal(outcome):
                recorder.unwaited()
            return None
        if not self.seal(outcome, waiter.wake):
            return None  # lost or excluded: counted already
        try:
            durable = await waiter.wait(self.config.wait_seconds)
            if not durable:
                recorder.unwaited()
        except Exception:
            self.config.internal_error("wait")
        return waiter

    def seal(self, outcome: str, wake: Wake | None = None) -> bool:
        """Make the exchange a record, once; True when it was enqueued (and `wake` will be called)."""
        handle = self.handle
        draft = handle.draft
        if draft is None:
            return False
        handle.draft = None
        route = endpoint = principal = None
        try:
            scope = self.scope
            route = scope.get("route")
            endpoint = scope.get("endpoint")
            if "user" in scope:
                principal = principal_of(scope["user"])
            if "fastapi" in scope if route is not None else endpoint is None:
                route, endpoint = framework_route(scope, route, endpoint)
        except Exception:
            self.config.internal_error("identity")
        try:
            return handle.recorder.seal(draft, outcome, route, endpoint, principal, handle.notes, wake)
        except Exception:
            self.config.internal_error("seal")
            return False


def _is_cancellation(error: BaseException) -> bool:
    """Of asyncio or trio, alone or as nothing but a group of them; also a coroutine that its driver closes."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(e) for e in error.exceptions)
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)
