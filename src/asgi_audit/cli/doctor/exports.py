"""The doctor's checks of exports: whether a runner exists, how exports ended, and whether clients can download them."""

from __future__ import annotations

from collections.abc import Iterator

from ...settings import Settings
from ...wiring.exports import public_url
from ...wiring.operations import open_control
from .checks import Finding

__all__ = ["exports"]


def exports(s: Settings) -> Iterator[Finding]:
    if not s.control_path.exists():
        return
    control = open_control(s)
    try:
        may_ask = any(key.role == "auditor" and key.revoked_at is None for key in control.list_keys())
        counts = {state.value: count for state, count in control.exports.counts().items() if count}
        is_running = control.exports.is_running()
    finally:
        control.close()
    url = public_url(s)
    if not url.startswith("https://") and (may_ask or counts or s.public_url) and not s.export_bucket:
        do = "Set public_url to the https address under which clients reach the API: clients download only over https."
        yield Finding("warn", "exports", f"URLs of exports begin with {url}", do)
    if not counts:
        if may_ask:
            yield Finding("ok", "exports", "none requested")
        return
    text = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    waiting = sum(counts.get(state, 0) for state in ("Requested", "Pending", "CreatingNewUrl"))
    if waiting and not is_running:
        yield Finding(
            "warn", "exports", f"{text}; no process runs them", "Start `asgi-audit serve` or `asgi-audit export`."
        )
    elif counts.get("Failed"):
        yield Finding("warn", "exports", text, "The log of `serve` says why they failed. Request them again.")
    else:
        yield Finding("ok", "exports", text)
