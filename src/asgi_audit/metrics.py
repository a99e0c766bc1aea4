"""The metrics: one table of names and help texts, and the collector for Prometheus.

Groups, by scope. `asgi_audit_…`: one application process, from `AuditMiddleware.stats()`. `asgi_audit_forward_…`: one
process that forwards to Kafka, an application or the command `forward`. `asgi_audit_index_…`, `asgi_audit_journal_…`
and `asgi_audit_exports…`: the index, the journal and the exports on disk; several processes report the same values
(aggregate with `max`, not `sum`). `asgi_audit_indexer_…`: one indexer process. `asgi_audit_api_…` and
`asgi_audit_serve_…`: one API, summed over its workers.

Invariants: labels come from fixed lists, never from a request, and contain no account, service or path, so that
`/metrics` needs no key. Values are read at each scrape; nothing runs in between. prometheus_client is imported when a
collector is created; its global registry is never used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

__all__ = [
    "LOST_REASONS",
    "TABLE",
    "Collector",
    "HasStats",
    "Metric",
    "Registry",
    "Values",
    "attach",
    "collector",
    "lost_by_reason",
    "of_stats",
]

LOST_REASONS = ("queue", "journal", "journal_full", "build", "exit", "killed", "refused")
"""Label values of `reason`; any other reason counts as `other`."""

Value = float | Mapping[str, float]
Values = Mapping[str, Value]
"""By name in TABLE: a number, or numbers by label value. Unknown values are left out."""


class Metric(NamedTuple):
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


TABLE: dict[str, Metric] = {
    # the application
    "asgi_audit_begun": Metric("counter", "Exchanges that began."),
    "asgi_audit_captured": Metric("counter", "Exchanges with a sequence: each becomes a record or a stated loss."),
    "asgi_audit_recorded": Metric("counter", "Records written to the journal."),
    "asgi_audit_excluded": Metric("counter", "Exchanges that the policy excluded."),
    "asgi_audit_lost": Metric("counter", "Exchanges without a record, by stated reason.", ("reason",)),
    "asgi_audit_unwaited": Metric("counter", "Durable exchanges that were served before their record was on disk."),
    "asgi_audit_annotations_late": Metric("counter", "Annotations made after the record was sealed."),
    "asgi_audit_internal_errors": Metric("counter", "Failures inside the middleware, which the application does not "
        "see."),
    "asgi_audit_open": Metric("gauge", "Exchanges that have begun and not ended."),
    "asgi_audit_waiting": Metric("gauge", "Ended exchanges that wait to be written to the journal."),
    "asgi_audit_held_bytes": Metric("gauge", "Bytes of bodies in memory, of exchanges open or not yet written."),
    "asgi_audit_recorder_down": Metric("gauge", "Above 0 while the recording thread is down after a failure."),
    "asgi_audit_recorder_restarts": Metric("counter", "Restarts of the recording thread."),
    # forwarding to Kafka, by an application or by `forward`
    "asgi_audit_forward_connected": Metric("gauge", "1 while Kafka accepts messages, as far as is known."),
    "asgi_audit_forward_sent": Metric("counter", "Records and statements that Kafka acknowledged."),
    "asgi_audit_forward_errors": Metric("counter", "Failed attempts to connect or send; the records are kept."),
    "asgi_audit_forward_restarts": Metric("counter", "Restarts of the forwarding thread."),
    "asgi_audit_forward_refused": Metric("counter", "Entries that Kafka refused permanently, kept beside the journal."),
    "asgi_audit_forward_pending": Metric("gauge", "Entries read from the journal and not yet acknowledged."),
    # the journal
    "asgi_audit_journal_bytes": Metric("gauge", "Bytes of the journal on disk, including dead processes."),
    "asgi_audit_journal_bytes_max": Metric("gauge", "Limit of the journal in bytes."),
    "asgi_audit_journal_processes": Metric("gauge", "Processes that have a journal on disk."),
    "asgi_audit_journal_lag_bytes": Metric("gauge", "Bytes of the journal not indexed (with Kafka: not sent) yet."),
    "asgi_audit_journal_oldest_age_seconds": Metric("gauge", "Age of the oldest entry not indexed (sent); 0: none."),
    # the index
    "asgi_audit_index_readable": Metric("gauge", "1 if the index can be read."),
    "asgi_audit_index_captured": Metric("counter", "Sequence numbers covered by statements."),
    "asgi_audit_index_excluded": Metric("counter", "Exchanges that the policy excluded, as stated."),
    "asgi_audit_index_lost": Metric("counter", "Exchanges without a record, as stated, by reason.", ("reason",)),
    "asgi_audit_index_records": Metric("counter", "Records indexed since the index was created, including those of "
        "other producers."),
    "asgi_audit_index_dead_letters": Metric("counter", "Entries that were not valid records."),
    "asgi_audit_index_incidents": Metric("gauge", "Open incidents of completeness that are not acknowledged."),
    "asgi_audit_index_incidents_acknowledged": Metric("gauge", "Open incidents that were acknowledged."),
    "asgi_audit_index_published": Metric("gauge", "Number of the newest visible batch."),
    "asgi_audit_index_caught_up_age_seconds": Metric("gauge", "Age of the time until which everything is read."),
    "asgi_audit_index_complete_until_age_seconds": Metric("gauge", "Age of T, the time until which the index is "
        "complete."),
    "asgi_audit_index_bytes": Metric("gauge", "Bytes of the index on disk."),
    "asgi_audit_index_days": Metric("gauge", "Days that have a file in the index."),
    # the indexer
    "asgi_audit_indexer_active": Metric("gauge", "1 for the process that indexes, 0 for a standby."),
    "asgi_audit_indexer_paused": Metric("gauge", "1 while the indexer waits for a disk or a source to work again."),
    "asgi_audit_indexer_indexed": Metric("counter", "Records indexed by this process."),
    "asgi_audit_indexer_duplicates": Metric("counter", "Records that were indexed already."),
    "asgi_audit_indexer_expired": Metric("counter", "Records of days that are purged."),
    "asgi_audit_indexer_dead_letters": Metric("counter", "Entries that were not valid records."),
    "asgi_audit_indexer_statements": Metric("counter", "Statements of processes that were indexed."),
    "asgi_audit_indexer_lag_seconds": Metric("gauge", "Age of the time until which everything is indexed."),
    "asgi_audit_indexer_lag_messages": Metric("gauge", "Messages of the topic that are not yet indexed."),
    "asgi_audit_indexer_expiry_seconds": Metric("gauge", "Time until the topic's retention removes the oldest message "
        "that is not indexed."),
    "asgi_audit_indexer_statement_delay_seconds": Metric("gauge", "Append time of a statement minus its watermark."),
    "asgi_audit_indexer_batch_seconds": Metric("histogram", "Time to write one batch to the index."),
    # `serve` and its processes
    "asgi_audit_serve_workers": Metric("gauge", "Processes of this `serve` that respond."),
    "asgi_audit_serve_restarts": Metric("counter", "Processes that ended by themselves and were restarted.", ("part",)),
    # exports
    "asgi_audit_exports": Metric("gauge", "Exports that are kept, by state.", ("state",)),
    "asgi_audit_exports_running": Metric("gauge", "1 while a process runs exports."),
    "asgi_audit_exports_writing_records": Metric("gauge", "Records written so far for unfinished exports."),
    "asgi_audit_exports_writing_bytes": Metric("gauge", "Bytes written so far for unfinished exports."),
    # the API
    "asgi_audit_api_request_seconds": Metric("histogram", "Time to respond to a request.", ("dialect", "status")),
    "asgi_audit_api_in_flight": Metric("gauge", "Responses being built or sent; above a limit requests get 429."),
    "asgi_audit_api_refusals_unrecorded": Metric("counter", "Refused requests without a record."),
}  # fmt: skip

# Names in `stats()`; `lost_<reason>` is handled separately.
_OF_STATS = {
    "begun": "asgi_audit_begun",
    "sealed": "asgi_audit_captured",
    "recorded": "asgi_audit_recorded",
    "excluded": "asgi_audit_excluded",
    "unwaited": "asgi_audit_unwaited",
    "annotate_late": "asgi_audit_annotations_late",
    "internal_errors": "asgi_audit_internal_errors",
    "open": "asgi_audit_open",
    "waiting": "asgi_audit_waiting",
    "held_bytes": "asgi_audit_held_bytes",
    "recorder_down": "asgi_audit_recorder_down",
    "recorder_restarts": "asgi_audit_recorder_restarts",
    "forward_connected": "asgi_audit_forward_connected",
    "forward_acknowledged": "asgi_audit_forward_sent",
    "forward_retries": "asgi_audit_forward_errors",
    "forward_restarts": "asgi_audit_forward_restarts",
    "forward_refused": "asgi_audit_forward_refused",
    "forward_pending": "asgi_audit_forward_pending",
}


class HasStats(Protocol):
    def stats(self) -> dict[str, int]: ...


class Collector:
    """A Prometheus collector that reads `values` at each scrape. Raises KeyError for names that are not in TABLE (a
    bug)."""

    def __init__(self, values: Callable[[], Values]) -> None:
        from prometheus_client import metrics_core

        self._core = metrics_core
        self._values = values

    def describe(self) -> list[Any]:
        return []  # otherwise the registry would collect values to learn the names

    def collect(self) -> Iterator[Family]:
        for name, value in self._values().items():
            metric = TABLE[name]
            make = self._core.CounterMetricFamily if metric.kind == "counter" else self._core.GaugeMetricFamily
            family = make(name, metric.help, labels=metric.labels)
            if isinstance(value, Mapping):
                for label, number in sorted(value.items()):
                    family.add_metric([label], number)
            else:
                family.add_metric([], value)
            yield family


def collector(*sources: HasStats) -> Collector:
    """A collector of `AuditMiddleware.stats()`, summed over `sources`: `registry.register(collector(middleware))`."""
    return Collector(lambda: _app_values([source.stats() for source in sources]))


_attached: dict[int, tuple[Registry, dict[str, HasStats]]] = {}
_attached_lock = threading.Lock()


class Registry(Protocol):
    """The used part of a prometheus_client registry."""

    def register(self, collector: Any) -> None: ...


def attach(registry: Registry, journal: str, source: HasStats) -> None:
    """Register the counters of the recorder of `journal` with `registry`. May be called again: an application may
    create its middleware several times, and all middlewares of one journal share their counters."""
    with _attached_lock:
        known = _attached.get(id(registry))
        if known is None:
            sources: dict[str, HasStats] = {}
            registry.register(Collector(lambda: _app_values([s.stats() for s in list(sources.values())])))
            _attached[id(registry)] = known = (registry, sources)
        known[1][journal] = source


def lost_by_reason(counts: Mapping[str, int]) -> dict[str, float]:
    """Losses by reason, with a fixed set of reasons that are all present."""
    found = dict.fromkeys([*LOST_REASONS, "other"], 0.0)
    for reason, count in counts.items():
        found[reason if reason in LOST_REASONS else "other"] += count
    return found


def of_stats(*stats: Mapping[str, int]) -> dict[str, Value]:
    """Maps counters of `stats()` to metric names and sums them; counters without a metric are omitted."""
    values: dict[str, Value] = {}
    for one in stats:
        for name, number in one.items():
            if name in _OF_STATS:
                values[_OF_STATS[name]] = float(values.get(_OF_STATS[name], 0)) + number  # type: ignore[arg-type]
    return values


def _app_values(stats: list[dict[str, int]]) -> Values:
    values = of_stats(*stats)
    lost: dict[str, int] = {}
    for one in stats:
        for name, number in one.items():
            if name.startswith("lost_"):
                lost[name[5:]] = lost.get(name[5:], 0) + number
    values["asgi_audit_lost"] = lost_by_reason(lost)
    return values
