"""How the commands log, on standard error: text for people, or one JSON object a line for machines.

JSON lines have `time` (RFC 3339, UTC, ms), `level`, `logger`, `message`, and the fields passed in `extra={"fields":
{…}}`. For an exception they hold its type and code locations, never its text, which may quote values.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..addresses import without_passwords
from ..wiring.environment import log_format

__all__ = ["JsonFormatter", "configure", "is_json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OWN = ("time", "level", "logger", "message")
_FRAMES = 8


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_passwords(record.getMessage()),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update((str(name), value) for name, value in fields.items() if name not in _OWN)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-_FRAMES:]
            line["where"] = [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames)]
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """One line per message; a traceback follows on separate lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = without_passwords(record.message.rstrip()).replace("\r", "\\r").replace("\n", "\\n")
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return without_passwords(super().formatException(ei))


def configure(flag: str | None) -> None:
    """Configures logging. `flag`: the command-line value; without it the environment decides."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format(flag) == "json" else TextFormatter(_TEXT))
    # Like `basicConfig`: keeps a logging configuration that exists already.
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def is_json() -> bool:
    """Whether this process logs JSON."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers)
