"""The seal: the moment when an exchange becomes a record, once, at the first sign of its end. Outcomes:

    completed     the server took the final message (with `durable` delivery: is about to take it)
    failed        the application raised, or returned without a response (status 500, as the server responds)
    interrupted   the application returned in the middle of its response
    disconnected  before the response was complete, `http.disconnect` came or `send` raised that the client is gone
                  (499 when the response had not started)
    cancelled     the server, or a timeout outside, cancelled the request (499 likewise)

A client that left is the cause of what follows, so `disconnected` takes precedence over `failed` and `cancelled`.
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
    """What the seal needs of one request. `handle.draft`: None after the seal."""

    config: CaptureConfig
    handle: RequestHandle
    scope: Scope
    client_left: bool  # the client left before the response was complete

    async def raised(self, error: BaseException) -> None:
        draft = self.handle.draft
        if draft is None:
            return
        cancelled = _is_cancellation(error)
        if not cancelled:
            draft.error = type(error).__name__, not isinstance(error, Exception)
        outcome = "disconnected" if self.client_left else "cancelled" if cancelled else "failed"
        if draft.start is None:
            draft.start = 500 if outcome == "failed" else 499, []
            # After an exception the server sends a complete 500, so the record must be durable before. A BaseException
            # that is not an Exception ends the task or the process: do not wait.
            if self.config.durable and isinstance(error, Exception) and not self.client_left:
                await self._seal_durably_and_redeliver(outcome)
        self.seal(outcome)  # does nothing the second time

    async def returned(self) -> None:
        """Called when the application returned and had not completed its response."""
        draft = self.handle.draft
        if draft is None:
            return
        if self.client_left:
            outcome = "disconnected"
        else:
            outcome = "failed" if draft.start is None else "interrupted"
        if draft.start is None:
            draft.start = 499 if self.client_left else 500, []
            if self.config.durable and not self.client_left:
                await self._seal_durably_and_redeliver(outcome)
        self.seal(outcome)  # does nothing the second time

    async def _seal_durably_and_redeliver(self, outcome: str) -> None:
        """Seal before the server responds by itself. A cancellation in here is raised later, so that it does not
        replace what the application raised or returned."""
        waiter = await self._seal_durably(outcome)
        if waiter is not None:
            waiter.redeliver_cancellation()

    async def _seal_durably(self, outcome: str) -> Waiter | None:
        """Seal, then wait until the record is on disk, until it is lost, or for a bounded time. Raises nothing: the
        waiter that is returned keeps a cancellation."""
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
            return None  # lost or excluded, and counted
        try:
            durable = await waiter.wait(self.config.wait_seconds)
            if not durable:
                recorder.unwaited()
        except Exception:
            self.config.internal_error("wait")
        return waiter

    def seal(self, outcome: str, wake: Wake | None = None) -> bool:
        """Seal the exchange, once. Returns True when it was put into the queue; then `wake` will be called."""
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
    """Whether it is a cancellation of asyncio or trio, a group that contains only such cancellations, or the closing of
    the coroutine."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(e) for e in error.exceptions)
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)
