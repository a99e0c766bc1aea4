"""Serve queries over HTTP; index the journal of the home and run exports in child processes.

  asgi-audit serve                          everything in .asgi-audit, on http://127.0.0.1:8400
  asgi-audit serve --from kafka://broker:9092/audit-records
  asgi-audit serve --no-index               queries only: `asgi-audit index` runs elsewhere
  asgi-audit serve --workers 4              four processes serve requests

If there is no key yet, it creates one and prints it once, with example commands; not with --log-format json, because
collected logs must not contain secrets, and not when an issuer of tokens is set (--jwt-issuer).
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import __version__
from ..errors import AuditError, ConfigError
from ..metrics import Values
from ..settings import Settings
from ..wiring.issuer import open_issuer
from ..wiring.operations import forget_index, open_control, open_source
from ..wiring.server import Siblings, build_api, build_server, check_dialects
from ..wiring.shared_memory import METRICS_SECONDS, PARTS, Text
from . import export
from .ask_lines import ask_lines, shown_host
from .flags import JWT, KAFKA, add_new_index, add_settings, settings_of
from .logs import is_json
from .processes import Child, on_closed_stdin, share_one_heap
from .supervised import Supervised
from .workers import Workers

__all__ = ["SupervisedExporter", "SupervisedIndexer", "add_arguments", "run"]

_log = logging.getLogger("asgi_audit.serve")
# Time for children after the server has ended (at most 2 s). The next indexer repeats an interrupted batch, the next
# exporter an interrupted chunk.
_CHILD_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_new_index(parser)
    parser.add_argument("--no-index", action="store_true", help="do not index; another process does it")
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
        "workers",
        "query_wait_seconds",
        "execution_seconds",
        "dialects",
        "dialect_hosts",
        *JWT,
        "public_url",
        *export.SETTINGS,
        "export_regions",
        "page_bytes_max",
        "log_format",
        aliases={"transport": ("--from",)},
    )


def run(arguments: argparse.Namespace) -> int:
    share_one_heap()
    settings = settings_of(arguments)
    check_dialects(settings)
    open_issuer(settings)  # report a wrong setting here, not repeatedly in the workers
    if not arguments.no_index:
        open_source(settings).close()  # report a wrong URL here, not repeatedly in the indexer
    if arguments.new_index:
        forget_index(settings)
    control = open_control(settings)  # likewise unreadable keys
    listening = _listen(settings.host, settings.port)
    settings = dataclasses.replace(settings, port=listening.getsockname()[1])  # for URLs in responses
    base = f"http://{shown_host(settings.host)}:{settings.port}"
    home = str(settings.absolute().home)
    stop = threading.Event()
    if arguments.until_stdin_closes:
        on_closed_stdin(stop.set)
    # uvicorn re-raises the signal that stopped it: without these handlers SIGTERM would end this process before the
    # indexer.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = Text.make()
    children: dict[str, Supervised] = {}
    try:
        if not arguments.no_index:
            children["indexer"] = SupervisedIndexer(settings, new_index=arguments.new_index, metrics=metrics)
        children["exporter"] = SupervisedExporter(settings)
        if is_json():
            _log.info("asgi-audit %s listens on %s", __version__, base, extra={"fields": {"home": home}})
        else:
            print(f"asgi-audit {__version__} listens on {base}, home {home}", flush=True)
        _first_key(control, settings, base, arguments.account)
        control.close()
        if settings.workers > 1:
            return Workers(settings, listening, children, metrics).run(stop)
        return _serve_in_process(settings, listening, children, metrics, stop)
    finally:
        listening.close()
        for child in children.values():
            child.ask_to_stop()
        for child in children.values():
            child.stop(_CHILD_SECONDS)
        control.close()


def _serve_in_process(
    settings: Settings,
    listening: socket.socket,
    children: Mapping[str, Supervised],
    metrics: Text,
    stop: threading.Event,
) -> int:
    """Serves in this process."""
    indexer = children.get("indexer")

    def restarts() -> Values:
        counts = {part: float(child.restarts) for part, child in children.items()}
        return {"asgi_audit_serve_workers": 1.0, "asgi_audit_serve_restarts": dict.fromkeys(PARTS, 0.0) | counts}

    def stopping() -> None:
        for child in children.values():
            child.ask_to_stop()

    siblings = Siblings(
        unready=lambda: "the indexer process is not running" if indexer and not indexer.running() else "",
        measures=restarts,
        text=lambda: metrics.read(METRICS_SECONDS),
    )
    server = build_server(build_api(settings, siblings), stopping=stopping)

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, name="asgi-audit-stop", daemon=True).start()
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    """A bound and listening socket, so that clients can connect once the first line is printed. Raises ConfigError,
    AuditError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol: only then does asyncio set TCP_NODELAY on accepted connections; without it each response waits
    # 40 ms for the client's acknowledgement of its headers.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
            raise AuditError(f"this user may not use port {port} of {host}", hint="choose one above 1023") from e
        raise ConfigError(f"setting host is {host!r}: {e.strerror or e}; accepted: an address of this machine") from e
    return listening


def _first_key(control: Any, settings: Settings, base: str, account: str | None) -> None:
    """Creates the first key and prints it with example commands; on later starts prints how to create another one."""
    more = "asgi-audit keys create --role auditor --account NAME"
    if settings.accepts_tokens and account is None and not control.list_keys():
        if not is_json():  # no key without a request for one
            print(f"Query with a token of {settings.jwt_issuer}, or create a key: {more}", flush=True)
        return
    if control.list_keys():
        if not is_json():
            print(f"Query with an existing key (`asgi-audit keys list`), or create one: {more}", flush=True)
        return
    if is_json():  # log collectors must not get a secret
        _log.warning("there is no key yet; create one with `%s`", more)
        return
    name = account or settings.account_id
    clear = control.create_key("auditor", [name])[1]
    whose = "every account" if name == "*" else f"account {name!r}"
    print(f"\nThis is the first key, for {whose}; it is shown only once. Query the records with it:\n")
    for line in ask_lines(base, clear):
        print("  " + line)
    print(f"\nMore keys: {more}\n", flush=True)


class SupervisedIndexer(Supervised):
    """`asgi-audit index` as a child process, restarted when it ends by itself. `metrics`: where it writes its metrics.

    Not a thread: while 120,000 records were being indexed, a POST with its first page took 187 ms at p99 with a thread
    and 24 ms with a child process (2 cores)."""

    def __init__(
        self,
        settings: Settings,
        *,
        new_index: bool = False,
        metrics: Text | None = None,
        start: Callable[[list[str]], Child] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arguments = ["index", "--home", str(settings.home), "--until-stdin-closes", "--quiet"]
        self._arguments += ["--retention-days", str(settings.retention_days), "--log-format", settings.log_format]
        self._arguments += ["--from", settings.transport_url, "--to", settings.store_url]
        if settings.share_with_group is not None:
            self._arguments += ["--share-with-group", str(settings.share_with_group)]
        for name in (
            (*KAFKA, "kafka_group_id") if settings.is_kafka else ()
        ):  # it reads the passwords from the environment, as this process does
            if value := getattr(settings, name):
                self._arguments += ["--" + name.replace("_", "-"), str(value)]
        descriptors = [] if metrics is None else [metrics.fd]
        for fd in descriptors:
            self._arguments += ["--metrics-to", str(fd)]
        self._start_with = start or (
            lambda arguments: Child("indexer", "asgi_audit", arguments, descriptors=descriptors)
        )
        # At the first start only: an index that is missing at a restart was not meant to be replaced.
        self._once = ["--new-index"] if new_index else []
        super().__init__("indexer", self._start_indexer, monotonic=monotonic)

    def _start_indexer(self) -> Child:
        child = self._start_with([*self._arguments, *self._once])
        self._once = []
        return child


class SupervisedExporter(Supervised):
    """`asgi-audit export` as a child process, restarted when it ends by itself. Not a thread, for the same reason as
    the indexer."""

    def __init__(
        self,
        settings: Settings,
        *,
        start: Callable[[list[str]], Child] = lambda arguments: Child("exporter", "asgi_audit", arguments),
    ) -> None:
        arguments = ["export", "--home", str(settings.home), "--until-stdin-closes", "--quiet"]
        arguments += ["--from", settings.transport_url, "--to", settings.store_url]
        arguments += ["--log-format", settings.log_format]
        for name in ("share_with_group", *export.SETTINGS):
            value = getattr(settings, name)
            if value not in (None, ""):
                arguments += ["--" + name.replace("_", "-"), str(value)]
        super().__init__("exporter", lambda: start(arguments))
