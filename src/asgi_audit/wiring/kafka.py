"""Builds forwarders, sources and topics of Kafka from settings.

Place: the recorder writes to the local journal, whatever the transport; with `kafka://` a forwarder thread in each OS
process sends its journal to Kafka, and the journals of dead processes beside it. Invariants: the start of an
application never waits for a broker; a process forwards its own journal and those of dead processes, never that of
another living process; records not acknowledged when the process ends stay in the journal for the next forwarder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..addresses import shown_value
from ..errors import ConfigError
from ..settings import Settings
from .environment import extra

if TYPE_CHECKING:
    from ..transport.base import Position
    from ..transport.kafka.config import KafkaConfig
    from ..transport.kafka.forwarder import Forwarder
    from ..transport.kafka.source import KafkaSource
    from ..transport.kafka.topics import Topic

__all__ = [
    "Forwarding",
    "forward_stats",
    "forwarded_positions",
    "forwarding_of",
    "kafka_of",
    "open_forwarder",
    "open_kafka_source",
    "open_topic",
    "stats_of",
]


def kafka_of(settings: Settings, *, client_id: str = "asgi-audit", url: str = "") -> KafkaConfig:
    """The connection settings of the topic. Raises ConfigError; does not connect."""
    from ..transport.kafka.config import kafka_config

    return kafka_config(
        url or settings.transport,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        key_password=settings.kafka_key_password,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password,
        client_id=client_id,
        group_id=settings.kafka_group_id,
    )


log = logging.getLogger("asgi_audit")
_CONNECT_SECONDS = 2.0
_RESTART_SECONDS = (0.2, 15.0)
_GAUGES = ("forward_connected", "forward_pending")


class Forwarding:
    """The forwarder of this OS process for one journal, recreated after fork. The constructor raises ConfigError for
    problems found without a broker: a missing package, unusable TLS files."""

    def __init__(self, settings: Settings) -> None:
        # Here and not in the recorder's thread: aiokafka takes 0.1 s to import, and requests would wait for the GIL.
        with extra():
            from ..transport.kafka import forwarder  # noqa: F401
            from ..transport.kafka.client import connection_options
        self._settings = settings
        self._config = kafka_of(settings)
        connection_options(self._config)
        # (counts of ended forwarders, forwarders that may still count, the current one last): replaced as one tuple, so
        # that a concurrent reader never sees a counter decrease.
        self._counted: tuple[Mapping[str, int], tuple[Forwarder, ...]] = {}, ()
        self._pid = 0
        self._process = ""  # the process whose journal is forwarded
        self._begin_process()

    def _begin_process(self) -> None:
        self._lock = threading.Lock()
        self._is_ending = threading.Event()
        self._restarts = 0
        self._launched_at, self._pause = 0.0, _RESTART_SECONDS[0]

    def start(self, process: str) -> None:
        """Start forwarding the journal of `process` (this process). Called in the recorder's thread."""
        from ..transport.base import Position
        from ..transport.files import Files
        from ..transport.journal.position import Forwarded, write_forwarded

        if self._pid != os.getpid():
            self._begin_process()
        elif old := self._counted[1]:
            old[-1].stop(0.0)  # the journal was reopened; the rest of the old one is adopted
        self._is_ending.clear()
        root = _journal_of(self._settings)
        files = Files.shared(self._settings.access)
        with contextlib.suppress(OSError):  # then others may read it too, and the index drops duplicates
            write_forwarded(root / process, Forwarded(Position(0, b""), by_itself=True), files)
        with self._lock:
            self._process = process
            self._launch(process)

    def _launch(self, process: str) -> None:
        before, old = self._counted if self._pid == os.getpid() else ({}, ())
        forwarder = _forwarder(
            self._settings,
            self._config,
            _journal_of(self._settings),
            only=process,
            on_broken=lambda e: self._launch_again(process, e),
        )
        self._launched_at = time.monotonic()
        ended = [one for one in old if one.join(0)]
        going = [one for one in old if one not in ended]
        self._counted = _added(before, *ended), (*going, forwarder)
        self._pid = os.getpid()
        try:
            forwarder.start()
        except (RuntimeError, MemoryError) as e:
            # The journal stays open and in use: this process cannot open a second one.
            log.error("asgi-audit: cannot start the forwarder's thread; records wait in the journal: %s", e)

    def _launch_again(self, process: str, error: BaseException) -> None:
        """Called in the thread of a failed forwarder: starts another one at the committed position. Entries sent but
        not committed are sent twice and indexed once."""
        if self._is_ending.is_set():
            return
        # Log no exception text: it may contain contents of an entry.
        log.error("asgi-audit: the forwarder's thread failed (%s) and is restarted", type(error).__name__)
        if time.monotonic() - self._launched_at > 2 * _RESTART_SECONDS[1]:
            self._pause = _RESTART_SECONDS[0]
        is_ending = self._is_ending.wait(self._pause)
        self._pause = min(2 * self._pause, _RESTART_SECONDS[1])
        with self._lock:
            if not is_ending and self._process == process and self._pid == os.getpid():
                self._launch(process)
                self._restarts += 1  # last: a reader that sees the number also sees the counters of the new forwarder

    def closed(self, seconds: float, is_end: bool) -> None:
        """Called after the last entry is written: sends the rest, for at most `seconds`. With `is_end` the forwarder
        then ends."""
        _, forwarders = self._counted
        if not forwarders or self._pid != os.getpid():
            return
        forwarder = forwarders[-1]
        if is_end:
            self._is_ending.set()
            if not forwarder.stop(seconds):
                for one in forwarders:
                    one.park()
        else:
            forwarder.flush(seconds)

    def send_now(self) -> None:
        """The journal has a statement that announces this process: send it without waiting for a larger batch."""
        _, forwarders = self._counted
        if forwarders and self._pid == os.getpid():
            forwarders[-1].send_now()

    def held_reason(self) -> str:
        """Why the journal is not being emptied, as far as this process knows; '' when nothing is known."""
        _, forwarders = self._counted
        if not forwarders or self._pid != os.getpid():
            return "nothing is sent to Kafka yet."
        stats = forwarders[-1].stats()
        if stats.state.name == "RUNNING":
            return "records arrive faster than Kafka accepts them."
        return f"Kafka accepts no records: {stats.last_error or 'no response yet'}."

    def stats(self) -> dict[str, int]:
        """Counters since this process began to forward, also after the end; {} before."""
        before, forwarders = self._counted
        if not forwarders or self._pid != os.getpid():
            return {}
        return _added(before, *forwarders) | {"forward_restarts": self._restarts}


def _added(before: Mapping[str, int], *forwarders: Forwarder) -> dict[str, int]:
    """The sums of counters; gauges from the last forwarder."""
    found = dict(before)
    for now in map(stats_of, forwarders):
        found |= {name: n if name in _GAUGES else n + found.get(name, 0) for name, n in now.items()}
    return found


def stats_of(forwarder: Forwarder) -> dict[str, int]:
    """A forwarder's counters under the names of `AuditMiddleware.stats()`."""
    s = forwarder.stats()
    return {
        "forward_connected": int(s.state.name == "RUNNING"),
        "forward_acknowledged": s.acknowledged,
        "forward_pending": s.pending,
        "forward_refused": s.refused,
        "forward_retries": s.retries,
        "lost_refused": s.refused_records,
    }


_forwardings: dict[str, Forwarding] = {}


def forwarding_of(settings: Settings) -> Forwarding:
    """The forwarding of this process to the settings' topic; created on the first call. Raises ConfigError."""
    found = _forwardings.get(settings.transport)
    if found is None:
        found = _forwardings[settings.transport] = Forwarding(settings)
    return found


def forward_stats(settings: Settings) -> dict[str, int]:
    """The counters of this process's forwarding; {} when it forwards nothing."""
    found = _forwardings.get(settings.transport)
    return found.stats() if found is not None else {}


def open_forwarder(settings: Settings, *, drain: bool) -> Forwarder:
    """A forwarder for the command `forward`: sends the journals of all processes except those that forward their own.
    Raises ConfigError."""
    with extra():
        from ..transport.kafka import forwarder  # noqa: F401
    if not settings.is_kafka:
        hint = "Set the topic with --to kafka://host:port[,host:port]/topic, or with ASGI_AUDIT_TRANSPORT."
        if not settings.transport:
            raise ConfigError("no Kafka topic is set to send the journal to", hint=hint)
        raise ConfigError(f"{shown_value(settings.transport)} is not a Kafka topic", hint=hint)
    return _forwarder(settings, kafka_of(settings), _journal_of(settings), drain=drain)


def _forwarder(
    settings: Settings,
    config: KafkaConfig,
    root: Path,
    *,
    only: str = "",
    drain: bool = False,
    on_broken: Callable[[BaseException], object] | None = None,
) -> Forwarder:
    from ..transport.files import Files
    from ..transport.journal import JournalSource
    from ..transport.kafka.forwarder import Forwarder

    return Forwarder(
        JournalSource(root, only=only, keeps_positions=True, files=Files.shared(settings.access)),
        config,
        dead_letters=settings.dead_letters_path,
        access=settings.access,
        linger_seconds=settings.kafka_linger_seconds,
        drain=drain,
        on_broken=on_broken,
    )


def _journal_of(settings: Settings) -> Path:
    root = settings.journal_path
    if root is None:
        raise ConfigError("there is no journal to send; accepted: journal:///path")
    return root


def open_kafka_source(settings: Settings) -> KafkaSource:
    """A source of the topic, not yet connected. Raises ConfigError."""
    with extra():
        from ..transport.kafka.source import KafkaSource

    # A short timeout: between attempts the indexer checks whether to stop, and it must end within 10 s.
    return KafkaSource(kafka_of(settings, client_id="asgi-audit-indexer"), connect_seconds=_CONNECT_SECONDS)


def forwarded_positions(root: Path) -> dict[str, Position]:
    """The forwarded position of each process's journal, for `look_at_journal`."""
    from ..transport.files import Files
    from ..transport.journal.position import read_forwarded

    found: dict[str, Position] = {}
    files = Files()
    with contextlib.suppress(OSError):
        for name in files.names(root):
            with contextlib.suppress(OSError):
                forwarded = read_forwarded(root / name, files)
                if forwarded is not None:
                    found[name] = forwarded.position
    return found


def open_topic(settings: Settings, url: str = "") -> Topic:
    """The topic of the settings, or of `url` with the settings' security; connects on first use. Raises ConfigError."""
    with extra():
        from ..transport.kafka.topics import Topic

    return Topic(kafka_of(settings, url=url))
