"""Check everything that records pass through, and advise what to do; changes nothing.

  asgi-audit doctor                one line for each check
  asgi-audit doctor --json         the same for machines
  asgi-audit doctor --strict       warnings count as failures

Run it as the user of the application or of the indexer. Exit code 0: fine, or only warnings; 1: something is broken, or
there is a warning and --strict is set; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

from ...addresses import without_passwords
from ...errors import AuditError, ConfigError
from ...settings import Settings
from ..flags import JWT, KAFKA, add_settings, settings_of
from .access import access
from .checks import CHECKS, Check, Finding
from .exports import exports
from .issuer import issuer
from .kafka import kafka

__all__ = ["add_arguments", "examine", "run"]

ALL: Sequence[Check] = (
    *CHECKS[:3],
    kafka,
    *CHECKS[3:7],
    access,
    *CHECKS[7:],
    issuer,
    exports,
)  # in the order of a record's path
_LOOK = "Check that path, and run this as the user of the indexer. If the error persists, please report it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")
    add_settings(
        parser,
        "home",
        "transport",
        "journal",
        "store",
        *KAFKA,
        "journal_bytes_max",
        "share_with_group",
        "public_url",
        "export_path",
        "export_bucket",
        *JWT,
        aliases={"transport": ("--from",), "store": ("--to",)},
    )


def run(arguments: argparse.Namespace) -> int:
    found: list[Finding] = []
    try:
        settings = settings_of(arguments)
    except ConfigError as e:
        found.append(Finding("bad", "settings", str(e), e.hint or "Nothing else was checked: correct this first."))
        _show(found[0], arguments.json)
    else:
        for one in examine(settings):
            found.append(one)
            _show(one, arguments.json)
    failing = ("bad", "warn") if arguments.strict else ("bad",)
    is_broken = any(one.level in failing for one in found)
    if arguments.json:
        checks = [{"level": f.level, "about": f.about, "message": f.message, "do": f.do} for f in found]
        print(json.dumps({"ok": not is_broken, "checks": checks}, ensure_ascii=False, indent=2))
    return int(is_broken)


def examine(settings: Settings, checks: Sequence[Check] = ALL) -> Iterator[Finding]:
    """Yields the findings of all checks; a failed check does not stop the next. A cause that stops several checks, such
    as a missing index, is reported once, and at the end the checks that it stopped are listed."""
    said: dict[str, str] = {}
    kept: dict[str, list[str]] = {}
    for check in checks:
        about = check.__name__.replace("_", " ")
        try:
            yield from check(settings)
        except AuditError as e:
            if str(e) in said:
                kept.setdefault(said[str(e)], []).append(about)
            else:
                said[str(e)] = about
                yield Finding("bad", about, str(e), e.hint or _LOOK)
        except Exception as e:
            what = f"could not check: {type(e).__name__}: {without_passwords(str(e))}"
            yield Finding("bad", about, what, _LOOK)
    for first, others in kept.items():
        yield Finding("bad", "not checked", f"{', '.join(others)}: see {first!r}", "Correct that first.")


def _show(found: Finding, is_json: bool) -> None:
    if not is_json:
        line = f"{found.level:4}  {found.about:12}  {found.message}"
        # Columns are separated by two blanks, so remove only newlines.
        print(" ".join(line.splitlines()) + (f". {found.do}" if found.do else ""), flush=True)
