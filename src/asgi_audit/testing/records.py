"""The records of a test in a list: `AuditRecords`, and the pytest fixture that gives one."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from ..exchange.recorder import RecorderBase
    from ..settings import Settings

__all__ = ["AuditRecords", "audit_records"]

_MEMORY_BYTES = 256 << 20
_FLUSH_SECONDS = 5.0


class AuditRecords(Sequence[dict[str, Any]]):
    """The records of a test, decoded, in the order in which their exchanges were sealed.

    Each access first waits until everything that is sealed is written. So with an in-process client (TestClient,
    httpx's ASGITransport) the record of a finished request is in the list. With a server in another thread use
    `wait`."""

    def __init__(self) -> None:
        from ..transport.memory import MemoryJournal

        self._journal = MemoryJournal(bytes_max=_MEMORY_BYTES)
        self._source = self._journal.source()
        self._source.open({})
        self._transport = f"memory://{uuid.uuid4().hex}"
        self._recorders: list[RecorderBase] = []
        self._records: list[dict[str, Any]] = []

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._read()[at]

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<AuditRecords: {self._summary()}>"

    def wait(self, count: int = 1, timeout: float = 5.0) -> list[dict[str, Any]]:
        """Wait until there are at least `count` records, and return all. Raises AssertionError after `timeout`
        seconds."""
        deadline = time.monotonic() + timeout
        while True:
            records = self._read(max(0.0, deadline - time.monotonic()))
            if len(records) >= count:
                return list(records)
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{count} audit records were expected within {timeout:g} s, there are {self._summary()}"
                )
            time.sleep(0.002)

    def clear(self) -> None:
        """Forget the records so far."""
        self._read()
        self._records.clear()

    def stats(self) -> dict[str, int]:
        """The recorder's counters since the test began; {} before the first middleware."""
        return self._recorders[0].stats() if self._recorders else {}

    @contextlib.contextmanager
    def capturing(self) -> Iterator[AuditRecords]:
        """Within this block every middleware of this process records here."""
        from ..capture.middleware import live_captures
        from ..wiring import application

        original = application.recorder_of
        before = {capture: capture.recorder for capture in live_captures() if capture.recorder is not None}
        for capture in before:
            capture.recorder = self._recorder_of(capture.settings)
        application.recorder_of = self._recorder_of
        try:
            yield self
        finally:
            application.recorder_of = original
            for capture in live_captures():  # also those that were made during the test: later tests may use them
                capture.recorder = before[capture] if capture in before else original(capture.settings)
            self._read()
            for recorder in self._recorders[:1]:  # they share one thread
                recorder.stop()  # type: ignore[attr-defined]

    def _recorder_of(self, settings: Settings) -> RecorderBase:
        from ..recording.recorder import shared_recorder

        default = type(settings)()
        # Middlewares that share a journal must agree on these settings. In production these have journals of their own.
        mine = dataclasses.replace(
            settings,
            transport=self._transport,
            capture_bytes_max=default.capture_bytes_max,
            journal_bytes_max=default.journal_bytes_max,
        )
        recorder = shared_recorder(mine, self._journal.writer)
        self._recorders.append(recorder)
        return recorder

    def _read(self, timeout: float = _FLUSH_SECONDS) -> list[dict[str, Any]]:
        import orjson

        from ..transport.base import Kind

        if self._recorders:
            self._recorders[0].flush(timeout)
        while True:
            batch = self._source.poll(1000, 0.0)
            self._records += [orjson.loads(m.payload) for m in batch.messages if m.kind == Kind.RECORD]
            self._source.commit(batch.positions)
            if not batch.messages:
                return self._records

    def _summary(self) -> str:
        lines = [
            f"{r['request']['method']} {r['request']['path']} {r['response']['statusCode']}" for r in self._records
        ]
        return f"{len(lines)}" + (f" ({', '.join(lines[-10:])})" if lines else "")


try:
    import pytest
except ImportError:  # assert_transparent works without it
    pass
else:

    @pytest.fixture
    def audit_records() -> Iterator[AuditRecords]:
        """The audit records of this test, from every AuditMiddleware of this process; see `asgi_audit.testing`."""
        with AuditRecords().capturing() as records:
            yield records
