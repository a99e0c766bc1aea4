"""Send the journal to Kafka, until SIGTERM or Ctrl-C, from a process beside the applications that write it.

  asgi-audit forward --from journal:////var/lib/app/journal --to kafka://broker:9092/audit-records
  asgi-audit forward --once --to kafka://broker:9092/audit-records          until nothing is left, then exit

An application whose transport is Kafka forwards its own journal while it runs. This command sends the journals of dead
processes, and of applications whose transport is a journal. Acknowledged entries are removed. Exit code 1 when it is
stopped before everything was acknowledged, or with --once when that takes longer than --seconds: the rest stays in the
journal. At SIGTERM it sends the rest for at most 10 s, and not at all while Kafka is unreachable. With --metrics-port
it serves /metrics, /health/live and /health/ready, without a key. It is not ready while Kafka does not accept records;
it notices an unreachable Kafka only when it has something to send.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping

from ..errors import AuditError, ConfigError
from ..metrics import Collector, Values, of_stats
from ..settings import Settings
from ..wiring.environment import extra
from ..wiring.kafka import open_forwarder, stats_of
from ..wiring.operations import journal_measures, look_at_journal
from .flags import KAFKA, add_settings, settings_of
from .processes import on_closed_stdin
from .sidecar import serving

__all__ = ["add_arguments", "run"]

_log = logging.getLogger("asgi_audit.forward")
_STOP_SECONDS = 10.0
_SAY_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--once", action="store_true", help="exit when the journal is empty and everything is acknowledged"
    )
    parser.add_argument(
        "--seconds", type=float, default=3600.0, metavar="N", help="time limit of --once (default: %(default)g)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only warnings and errors")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    add_settings(
        parser,
        "home",
        "share_with_group",
        "journal",
        "transport",
        *KAFKA,
        "kafka_compression",
        "kafka_linger_seconds",
        "metrics_host",
        "metrics_port",
        "log_format",
        aliases={"journal": ("--from",), "transport": ("--to",)},
    )


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.seconds <= 0:
        raise ConfigError(f"--seconds is {arguments.seconds:g}; accepted: more than 0")
    forwarder = open_forwarder(settings, drain=arguments.once)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.until_stdin_closes:
        on_closed_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    if not arguments.quiet:
        _log.info("forwarding from %s to %s", settings.absolute().journal_path, settings.transport)
    with contextlib.ExitStack() as shown:
        if settings.metrics_port is not None:
            with extra():
                of_it = _ForwardData(settings, lambda: stats_of(forwarder))
            shown.enter_context(serving(of_it, settings.metrics_host, settings.metrics_port))
        forwarder.start()
        said = 0
        left = arguments.seconds if arguments.once else float("inf")
        while left > 0 and not stop.wait(min(0.2 if arguments.once else _SAY_SECONDS, left)):
            left -= 0.2 if arguments.once else 0.0
            if forwarder.join(0):  # with --once: everything is sent; else: it failed unexpectedly
                break
            acknowledged = forwarder.stats().acknowledged
            if acknowledged != said and not arguments.quiet and not arguments.once:
                said = acknowledged
                _log.info("%d entries sent, %s", acknowledged, forwarder.state.value)
        # While Kafka is unreachable it reads nothing and cannot tell whether the journal is empty.
        is_all = forwarder.stop(_STOP_SECONDS) or _is_empty(settings)
    stats = forwarder.stats()
    if not arguments.quiet:
        _log.info("%d entries sent, %d refused", stats.acknowledged, stats.refused)
    if not is_all:
        _log.warning("not everything was sent; the rest stays in %s. %s", settings.journal_path, stats.last_error)
    return 0 if is_all else 1


def _is_empty(settings: Settings) -> bool:
    try:
        return not any(journal.waiting_bytes for journal in look_at_journal(settings))
    except AuditError:
        return False


class _ForwardData:
    """For `serving`: the forwarder's counters, and the state of the journal."""

    def __init__(self, settings: Settings, stats: Callable[[], Mapping[str, int]]) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self.registry.register(Collector(self._values))
        self._settings = settings
        self._stats = stats

    def unready(self) -> str:
        is_connected = self._stats()["forward_connected"]
        return "" if is_connected else "Kafka accepts nothing now; the log says why. The records are in the journal"

    def complete_age(self) -> float | None:
        return None  # there is no index here

    def _values(self) -> Values:
        return {**journal_measures(self._settings), **of_stats(self._stats())}
