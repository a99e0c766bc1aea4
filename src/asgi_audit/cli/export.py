"""Run the exports requested through the API, until SIGTERM or Ctrl-C. `asgi-audit serve` starts this command itself.

  asgi-audit export                                  objects go to exports/ in the home
  asgi-audit export --export-bucket s3://bucket/prefix   objects go to a bucket; clients get its URLs

It may be killed at any time: the next one continues. Several may run at once.
"""

from __future__ import annotations

import argparse
import logging

from ..wiring.exports import build_runner
from ..wiring.operations import open_control
from .flags import add_settings, settings_of
from .processes import stop_by_signals

__all__ = ["SETTINGS", "add_arguments", "run"]

SETTINGS = ("export_path", "export_bucket", "export_endpoint", "export_days")
_log = logging.getLogger("asgi_audit.exports")
# Safe: unconfirmed data is written again at the next start.
_LATE = "the running export did not stop within %g s; it continues at the next start"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    add_settings(
        parser,
        "home",
        "share_with_group",
        "transport",
        "store",
        *SETTINGS,
        "log_format",
        aliases={"transport": ("--from",), "store": ("--to",)},
    )


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    stop = stop_by_signals(_log, _LATE, until_stdin_closes=arguments.until_stdin_closes)
    control = open_control(settings)
    try:
        runner = build_runner(settings, control)
        if not arguments.quiet:
            _log.info("running exports to %s", settings.export_bucket or settings.exports_path)
        runner.run(stop)
    finally:
        control.close()
    return 0
