"""Answer queries over HTTP, and index the journal of the home in a process beside it.

  asgi-audit serve                          everything in .asgi-audit, on http://127.0.0.1:8400
  asgi-audit serve --from kafka://broker:9092/audit-records
  asgi-audit serve --no-index               answer only: `asgi-audit index` runs elsewhere

The first start without any key makes one and prints it, once, with curl lines that use it; not with
--log-format json, whose lines are collected and must hold no secret.
"""

from __future__ import annotations

import argparse
import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable

from .. import __version__
from ..errors import AuditError, ConfigError
from ..settings import Settings
from ..wiring.operations import forget_index, open_control, open_source
from ..wiring.server import build_api, build_server
from .curls import curl_lines, shown_host
from .flags import KAFKA, add_new_index, add_settings, settings_of
from .logs import is_json
from .processes import Child, on_closed_stdin

__all__ = ["IndexerBeside", "add_arguments", "run"]

_log = logging.getLogger("asgi_audit.serve")
# After the server has ended, which took 2 s at most. A batch that is cut off is taken again by the next indexer.
_INDEXER_SECONDS = 2.0
_RESTART_SECONDS = (0.5, 30.0)  # first and longest wait before the indexer is started again
_HEALTHY_SECONDS = 60.0  # after so long a run the next wait is the first again


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_new_index(parser)
    parser.add_argument("--no-index", action="store_true", help="do not index; answer what another process indexes")
    parser.add_argument(
        "--account", metavar="NAME", help="account of the first key; default: the setting account_id, '*' means all"
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    add_settings(
        parser,
        "home",
        "share_with_group",
        "transport",
        "store",
        *KAFKA,
        "kafka_group_id",
        "retention_days",
        "host",
        "port",
        "query_wait_seconds",
        "execution_seconds",
        "dialects",
        "dialect_hosts",
        "page_bytes_max",
        "log_format",
        aliases={"transport": ("--from",)},
    )


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if not arguments.no_index:
        open_source(settings).close()  # a wrong URL is said here, not by the indexer again and again
    if arguments.new_index:
        forget_index(settings)
    beside: IndexerBeside | None = None
    app = build_api(
        settings, unready=lambda: "the indexer beside is not running" if beside and not beside.running() else ""
    )
    listening = _listen(settings.host, settings.port)
    port = listening.getsockname()[1]
    base = f"http://{shown_host(settings.host)}:{port}"
    beside = None if arguments.no_index else IndexerBeside(settings, new_index=arguments.new_index)
    server = build_server(app, stopping=beside.ask_to_stop if beside else lambda: None)

    def stop() -> None:
        server.should_exit = True

    if arguments.until_stdin_closes:
        on_closed_stdin(stop)
    # uvicorn raises the signal that stopped it again when it is done: without these, SIGTERM would end us before the
    # indexer.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
    try:
        if is_json():
            _log.info("asgi-audit %s answers on %s", __version__, base, extra={"fields": {"home": str(settings.home)}})
        else:
            print(f"asgi-audit {__version__} answers on {base}, home {settings.home}", flush=True)
        _first_key(settings, base, arguments.account)
        server.run(sockets=[listening])
    finally:
        listening.close()
        if beside is not None:
            beside.stop(_INDEXER_SECONDS)
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    """Bound and listening, so that who reads our first line can connect. Raises ConfigError, AuditError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
        listening.set_inheritable(False)
    except OSError as e:
        listening.close()
        if e.errno == errno.EADDRINUSE:
            raise AuditError(
                f"port {port} of {host} is in use", hint="choose another one with --port, or 0 for any free one"
            ) from e
        if e.errno == errno.EACCES:
            raise AuditError(f"port {port} of {host} may not be used by this user", hint="choose one above 1023") from e
        raise ConfigError(f"setting host is {host!r}: {e.strerror or e}; accepted: an address of this machine") from e
    return listening


def _first_key(settings: Settings, base: str, account: str | None) -> None:
    control = open_control(settings)
    try:
        if control.list_keys():
            return
        if is_json():  # what collects these lines must not get a secret
            _log.warning("there is no key yet: make one with `asgi-audit keys create --role reader --account NAME`")
            return
        name = account or settings.account_id
        clear = control.create_key("auditor" if name == "*" else "reader", [name])[1]
    finally:
        control.close()
    whose = "every account" if name == "*" else f"account {name!r}"
    print(f"\nThis is the first key, for {whose}; it is shown this once. Ask with it what was recorded:\n")
    for line in curl_lines(base, clear, settings.service, settings.instance_id):
        print("  " + line)
    print("\nMore keys: asgi-audit keys create --role reader --account NAME\n", flush=True)


class IndexerBeside:
    """`asgi-audit index` as a child, started again when it ends by itself.

    Not a thread: while 120,000 records were indexed beside, a POST and its first page took 187 ms at p99 with a
    thread and 24 ms with a child (2 cores)."""

    def __init__(
        self,
        settings: Settings,
        *,
        new_index: bool = False,
        start: Callable[[list[str]], Child] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._arguments = ["index", "--home", str(settings.home), "--until-stdin-closes", "--quiet"]
        self._arguments += ["--retention-days", str(settings.retention_days), "--log-format", settings.log_format]
        self._arguments += ["--from", settings.transport_url, "--to", settings.store_url]
        if settings.share_with_group is not None:
            self._arguments += ["--share-with-group", str(settings.share_with_group)]
        for name in (*KAFKA, "kafka_group_id") if settings.is_kafka else ():  # the passwords it has from where we do
            if value := getattr(settings, name):
                self._arguments += ["--" + name.replace("_", "-"), str(value)]
        self._start = start or (lambda arguments: Child("indexer", "asgi_audit", arguments))
        self._stopping = threading.Event()
        # Once: an index that is gone when the indexer is started again is not meant to be.
        self._child = self._start([*self._arguments, "--new-index"] if new_index else self._arguments)
        self._thread = threading.Thread(target=self._watch, name="asgi-audit-indexer", daemon=True)
        self._thread.start()

    def running(self) -> bool:
        return self._child.running()

    def ask_to_stop(self) -> None:
        """The indexer ends after its batch, and is not started again. Does not wait."""
        self._stopping.set()
        self._child.ask_to_stop()

    def stop(self, seconds: float = 10) -> None:
        """Lets the indexer finish its batch: so many seconds at most."""
        self._stopping.set()
        self._thread.join()
        self._child.stop(seconds)

    def _watch(self) -> None:
        wait = _RESTART_SECONDS[0]
        started = self._monotonic()
        while not self._stopping.wait(0.2):
            if self._child.running():
                continue
            if self._monotonic() - started >= _HEALTHY_SECONDS:
                wait = _RESTART_SECONDS[0]
            _log.error(
                "the indexer ended with code %s; starting it again in %g s", self._child.process.returncode, wait
            )
            if self._stopping.wait(wait):
                return
            self._child.stop()  # it has ended; this closes our end of its pipe
            wait = min(wait * 2, _RESTART_SECONDS[1])
            started = self._monotonic()
            self._child = self._start(self._arguments)
