"""Settings: which parts of an exchange are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from . import checks
from .checks import setting

__all__ = ["Capture", "CaptureSettings"]

Texts = str | list[str] | tuple[str, ...] | set[str] | frozenset[str]


class CaptureSettings(TypedDict, total=False):
    detail: Literal["none", "metadata", "headers", "bodies"]
    body_bytes_max: int
    request_id_header: str | None
    redact_names: Texts
    redact_forms: Texts
    redact_paths: Texts
    capture_bytes_max: int


@dataclass(frozen=True, kw_only=True)
class Capture:
    detail: str = setting(
        "bodies",
        checks.choice("none", "metadata", "headers", "bodies"),
        "How much of request and response to record. With `none`, requests are only counted (as excluded).",
        only="middleware",
    )
    body_bytes_max: int = setting(
        65_536,
        checks.whole(0, 16_777_216, "bytes"),
        "Bytes to record of each request body and each response body, at most.",
        only="middleware",
    )
    request_id_header: str | None = setting(
        "x-request-id",
        checks.header,
        "Request-ID header: read from requests, added to responses; empty disables it.",
        only="middleware",
    )
    redact_names: tuple[str, ...] = setting(
        (),
        checks.redact_names,
        "Names of fields and headers to mask, in addition to the built-in ones.",
        only="middleware",
    )
    redact_forms: tuple[str, ...] = setting(
        (),
        checks.redact_forms,
        "Patterns of your own secrets, masked wherever they occur: `acme_[a-z0-9]{32}`. See docs/redaction.md.",
        only="middleware",
    )
    redact_paths: tuple[str, ...] = setting(
        (),
        checks.redact_paths,
        "Path templates with a segment to mask: `/share/{token}`. `*` matches any segment.",
        only="middleware",
    )
    capture_bytes_max: int = setting(
        33_554_432,
        checks.whole(65_536, 1 << 36, "bytes"),
        "Memory for bodies of all requests that are open or not yet written to the journal.",
        only="middleware",
    )
