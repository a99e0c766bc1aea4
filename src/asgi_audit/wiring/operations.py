"""Builds the objects of the commands from settings: journal, index and keys.

Adapters are imported inside functions: `tail` works without the server's packages, and one line names a missing extra.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import AuditError, ConfigError, StoreError, TransportError
from ..metrics import Value, Values, lost_by_reason
from ..record.line import TIME_END
from ..settings import Settings
from .environment import extra, ignore_home, share_home
from .index_memory import memory_of

if TYPE_CHECKING:
    import threading

    from ..control import Control
    from ..indexing.indexer import Indexer, IndexerProgress
    from ..store import base as store_base
    from ..store.admin import Admin
    from ..store.state import Incident
    from ..transport import base as transport_base
    from ..transport.journal import ProcessJournal

__all__ = [
    "build_indexer",
    "count_acknowledged",
    "follow_journal",
    "forget_index",
    "give_up_partition",
    "journal_measures",
    "look_at_journal",
    "measures",
    "open_admin",
    "open_control",
    "open_source",
    "open_store_reader",
    "open_store_writer",
]


def open_source(settings: Settings, *, index: str = "") -> transport_base.Source:
    """The source of the indexer's records; `index`: id of the index that takes them. Raises TransportError,
    ConfigError."""
    if settings.is_kafka:
        from .kafka import open_kafka_source

        return open_kafka_source(settings)
    path = settings.journal_path
    if path is None:
        raise ConfigError(
            f"records cannot be indexed from {settings.transport_url!r} of another process; accepted: journal:///path "
            "or kafka://host:port[,host:port]/topic"
        )
    from ..transport.files import Files
    from ..transport.journal import JournalSource

    return JournalSource(path, files=Files.shared(settings.access), index=index)


def follow_journal(
    settings: Settings, *, from_beginning: bool, stop: Callable[[], bool]
) -> Iterator[transport_base.Message]:
    """Reads entries of this machine's processes without removing them. Ends when `stop()`, called when idle, returns
    True."""
    path = settings.journal_path
    if path is None:
        raise ConfigError(f"there is no journal to read at {settings.transport_url!r}; accepted: journal:///path")
    from ..transport.journal import follow

    return follow(path, from_beginning=from_beginning, stop=stop)


def open_store_writer(
    settings: Settings,
    *,
    wait_seconds: float = 0.0,
    stop: threading.Event | None = None,
    new_index: bool = False,
) -> store_base.Writer:
    """The one writer of the index. Waits for the lease up to `wait_seconds`, or until `stop` is set. `new_index`:
    accept the index that is found, or create one, regardless of the remembered id (see `forget_index`).

    Raises StoreError (retriable while another process holds the lease), ConfigError."""
    with extra():
        from ..store.sqlite import SqliteWriter

    share_home(settings)
    memory = memory_of(settings)
    memory.keep()
    writer = SqliteWriter(
        settings.store_path,
        wait_seconds=wait_seconds,
        stop=stop,
        access=settings.access,
        memory=memory,
        new_index=new_index,
    )
    ignore_home(settings)
    return writer


def forget_index(settings: Settings, *, meant: str = "") -> None:
    """Forget the remembered index. From now on expect `meant`, or by default the next index found. Raises
    AuditError."""
    memory = memory_of(settings)
    memory.forget()
    if meant:
        memory.remember(meant)


def open_store_reader(settings: Settings) -> store_base.Reader:
    """One reader of the index, for one thread at a time. Raises StoreError, ConfigError."""
    with extra():
        from ..store.sqlite import SqliteReader

    return SqliteReader(settings.store_path, memory_of(settings))


def look_at_journal(settings: Settings, *, ask_alive: bool = False) -> Sequence[ProcessJournal]:
    """The current state of each process's journal; [] when there is no journal. While the index cannot be read, all
    entries count as waiting. Raises TransportError, ConfigError."""
    path = settings.journal_path
    if path is None:
        return []
    from ..transport.journal import look

    positions: Mapping[str, transport_base.Position]
    if settings.is_kafka:  # waiting entries are those not forwarded yet
        from .kafka import forwarded_positions

        positions = forwarded_positions(path)
    else:
        positions = {}
        with contextlib.suppress(StoreError):
            facts = open_admin(settings).facts()
            positions = facts.positions if facts else {}
    try:
        return look(path, positions, ask_alive=ask_alive)
    except OSError as e:
        raise TransportError(f"the journal {path} cannot be read: {e.strerror or e}") from e


def open_admin(settings: Settings) -> Admin:
    """Access to the index from outside its writer's process. Raises ConfigError."""
    with extra():
        from ..store.sqlite import SqliteAdmin

    return SqliteAdmin(settings.store_path, access=settings.access, memory=memory_of(settings))


def journal_measures(settings: Settings) -> Values:
    """Metrics of the journal, read now; {} when there is none. Never raises; unreadable values are omitted."""
    values: dict[str, Value] = {}
    if settings.journal_path is None or not settings.journal_path.is_dir():
        return values
    now = time.time()
    with contextlib.suppress(AuditError):
        journals = look_at_journal(settings)
        since = [j.waiting_since for j in journals if j.waiting_since is not None]
        values["asgi_audit_journal_bytes"] = sum(j.bytes for j in journals)
        values["asgi_audit_journal_bytes_max"] = settings.journal_bytes_max
        values["asgi_audit_journal_processes"] = len(journals)
        values["asgi_audit_journal_lag_bytes"] = sum(j.waiting_bytes for j in journals)
        values["asgi_audit_journal_oldest_age_seconds"] = max(0.0, now - min(since)) if since else 0.0
    return values


def measures(settings: Settings) -> Values:
    """Metrics of journal and index, read now. Never raises; unreadable values are omitted."""
    values: dict[str, Value] = {"asgi_audit_index_readable": 1.0, **journal_measures(settings)}
    now = time.time()
    try:
        facts = open_admin(settings).facts()
        if facts is None:
            return values
        values["asgi_audit_index_captured"] = facts.captured
        values["asgi_audit_index_excluded"] = facts.excluded
        values["asgi_audit_index_lost"] = lost_by_reason(facts.lost)
        values["asgi_audit_index_records"] = facts.indexed
        values["asgi_audit_index_dead_letters"] = facts.dead
        values["asgi_audit_index_published"] = facts.snapshot.published
        values["asgi_audit_index_bytes"] = facts.bytes
        values["asgi_audit_index_days"] = len(facts.days)
        if facts.snapshot.read_until:
            values["asgi_audit_index_caught_up_age_seconds"] = max(0.0, now - facts.snapshot.read_until)
        values |= _completeness_measures(settings, now)
    except AuditError:
        values["asgi_audit_index_readable"] = 0.0
    return values


def _completeness_measures(settings: Settings, now: float) -> dict[str, float]:
    reader = open_store_reader(settings)
    try:
        found = reader.completeness(0, TIME_END)
        acknowledged = count_acknowledged(reader.incidents(0, TIME_END)) if found.incidents else 0
    finally:
        reader.close()
    values = {
        "asgi_audit_index_incidents": float(found.incidents - acknowledged),
        "asgi_audit_index_incidents_acknowledged": float(acknowledged),
    }
    if found.until is not None:
        values["asgi_audit_index_complete_until_age_seconds"] = max(0.0, now - found.until / 1000)
    return values


def count_acknowledged(incidents: Sequence[Incident]) -> int:
    """The number of unresolved incidents that are acknowledged."""
    return sum(i.resolved_at is None and i.is_acknowledged for i in incidents)


def give_up_partition(settings: Settings, partition: str, *, wait_seconds: float) -> bool:
    """Record that a partition is permanently lost, or have the running indexer record it. Returns False when the
    indexer has not done so within `wait_seconds`. Raises StoreError, ConfigError."""
    with extra():
        from ..indexing.completeness import Consumed, Tracker
        from ..store.base import Batch

    def write(writer: store_base.Writer) -> None:
        tracker = Tracker(writer.resumed())
        now = int(time.time() * 1000)
        if tracker.give_up(partition, now):
            completion = tracker.take(Consumed((), now))
            writer.write(Batch(source="", positions={}, completion=completion))
        writer.partition_noted(partition)

    return open_admin(settings).give_up(partition, write, wait_seconds=wait_seconds)


def open_control(settings: Settings) -> Control:
    """Opens keys and the signing secret. Raises StoreError, ConfigError."""
    with extra():
        from ..control import Control

    share_home(settings)
    control = Control(settings.control_path, access=settings.access)
    ignore_home(settings)
    return control


def build_indexer(
    settings: Settings,
    writer: store_base.Writer,
    *,
    stop: threading.Event,
    on_progress: Callable[[IndexerProgress], None] | None = None,
    source: transport_base.Source | None = None,
) -> Indexer:
    """The indexer, not yet running: `run()` runs until `stop` is set. `source`: an open source, by default that of the
    settings. Raises TransportError, ConfigError."""
    with extra():
        from ..indexing.indexer import Indexer

    source = source or open_source(settings.absolute(), index=writer.id)
    return Indexer(
        source,
        writer,
        stop=stop,
        on_progress=on_progress,
        retention_days=settings.retention_days,
    )
