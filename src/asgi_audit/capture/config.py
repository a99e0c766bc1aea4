"""What all requests of one middleware share, computed once."""

from __future__ import annotations

import logging
import sys

import msgspec

from ..errors import types_and_places
from ..exchange.draft import SMALL_BYTES
from ..exchange.recorder import RecorderBase
from ..policy.decision import Decision
from ..settings import Settings

__all__ = ["CaptureConfig", "config_of"]

_log = logging.getLogger("asgi_audit")
_logged: list[str] = []


class CaptureConfig(msgspec.Struct, eq=False):
    """What all requests of one middleware share."""

    recorder: RecorderBase
    detail: Decision
    durable: bool
    wait_seconds: float
    request_limit: int
    response_limit: int
    request_small: int  # largest body (bytes) that is kept in one step, and counted at the seal
    response_small: int
    header_in: bytes
    header_out: bytes | None
    crowded: CaptureConfig | None = None  # used while many requests are open: no body counts as small
    opened: int = -1  # the value of `middleware._forks` when the recorder was opened

    def __deepcopy__(self, memo: object) -> CaptureConfig:
        return self  # a copy of the application has the same recorder, which belongs to the process

    def internal_error(self, where: str) -> None:
        """Count an error; called while its exception is handled. The first one of a process is logged, without its
        text, because objects of the application may have raised it and the text may contain their values."""
        try:
            self.recorder.count("internal_errors")
            if not _logged:
                _logged.append(where)
                error = sys.exception()
                what = "" if error is None else types_and_places(error)
                _log.error("asgi-audit failed at %r (%s); the application is not affected", where, what)
        except Exception:
            pass


def config_of(settings: Settings, recorder: RecorderBase, decision: Decision) -> CaptureConfig:
    limit = settings.body_bytes_max
    request = limit if decision.request == "bodies" else 0
    response = limit if decision.response == "bodies" else 0
    header = settings.request_id_header
    out = header.encode("ascii") if header is not None else None
    config = CaptureConfig(
        recorder=recorder,
        detail=decision,
        durable=settings.delivery == "durable" and not decision.excluded,
        wait_seconds=settings.durable_wait_seconds,
        request_limit=request,
        response_limit=response,
        request_small=min(request, SMALL_BYTES),
        response_small=min(response, SMALL_BYTES),
        header_in=out or b"x-request-id",
        header_out=out,
    )
    config.crowded = msgspec.structs.replace(config, request_small=-1, response_small=-1)
    return config
