"""asgi-audit: an audit trail for ASGI applications. Public names only, imported on first use.

The path of a record through the packages:

    1 capture ─► 2 encoding ─► 3 recording ─► 4 transport ─► 5 indexing ─► 6 store ─► 7 query ─► 8 api
      request      bytes of      thread,        journal,       sidecar      SQLite      scope,     dialects
                   a record      journal        Kafka                                   pages

Beside it: `policy` decides what is recorded, `redaction` masks secrets, `exchange` is what capture and recording share,
`record` defines the record, `control` holds keys and sessions, `exporting` writes export files, `settings` defines the
settings, `wiring` builds everything, `cli` holds the commands, `client` calls the API, `testing` helps applications'
tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "AuditMiddleware", "AuditRecord", "ConfigError", "__version__", "annotate", "create_app", "current", "install",
]  # fmt: skip

if TYPE_CHECKING:
    from .capture.annotate import annotate
    from .capture.handle import current
    from .errors import ConfigError
    from .record.model import AuditRecord
    from .wiring.application import AuditMiddleware, install
    from .wiring.mounted import create_app

_WHERE = {
    "AuditMiddleware": "wiring.application",
    "AuditRecord": "record.model",
    "install": "wiring.application",
    "annotate": "capture.annotate",
    "create_app": "wiring.mounted",
    "current": "capture.handle",
    "ConfigError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
