"""docker/prometheus-rules.yaml and docker/grafana-dashboard.json: every expression parses and uses existing metrics,
and every alert fires in its own case and in no other.

The parser is Prometheus' grammar (promql-parser). What a rule computes is evaluated here over two scrapes of 15 minutes
apart, for the few functions that the rules use; other ones fail the test.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from asgi_audit.metrics import TABLE

promql = pytest.importorskip("promql_parser", reason="pip install promql-parser")

DOCKER = Path(__file__).parents[2] / "docker"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCKER / "prometheus-rules.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana-dashboard.json").read_text("utf-8"))
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
OPERATORS: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt}

Scrape = Mapping[str, float]
# The healthy state: metrics that are not listed are 0. The second of two scrapes differs from it as a case defines.
WELL: Scrape = {
    "asgi_audit_index_readable": 1,
    "asgi_audit_forward_connected": 1,
    "asgi_audit_indexer_expiry_seconds": 600_000,
    "asgi_audit_journal_bytes": 1_000,
    "asgi_audit_journal_bytes_max": 1 << 30,
    "asgi_audit_index_complete_until_age_seconds": 10,
    "asgi_audit_index_caught_up_age_seconds": 0.1,
    "asgi_audit_index_records_total": 5_000,
}
FIRES: dict[str, Scrape] = {
    "AuditRecordsLost": {"asgi_audit_index_lost_total": 3},
    "AuditRecordsLostInApplication": {"asgi_audit_lost_total": 3},
    "AuditRecorderDown": {"asgi_audit_recorder_down": 1},
    "AuditNotComplete": {"asgi_audit_index_complete_until_age_seconds": 301},
    "AuditIncident": {"asgi_audit_index_incidents": 1},
    "AuditIndexUnreadable": {"asgi_audit_index_readable": 0},
    "AuditNotIndexed": {"asgi_audit_index_caught_up_age_seconds": 301},
    "AuditIndexerPaused": {"asgi_audit_indexer_paused": 1},
    "AuditJournalFillsUp": {"asgi_audit_journal_bytes": 600 << 20},
    "AuditKafkaTakesNothing": {"asgi_audit_forward_connected": 0},
    "AuditKafkaRefuses": {"asgi_audit_forward_refused_total": 1},
    "AuditTopicExpires": {"asgi_audit_indexer_expiry_seconds": 80_000},
    "AuditDeadLetters": {"asgi_audit_indexer_dead_letters_total": 1},
    "AuditServeRestarts": {"asgi_audit_serve_restarts_total": 4},
}


def selectors(node: Any) -> Iterator[Any]:
    """All vector selectors in an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if hasattr(node, name):
            yield from selectors(getattr(node, name))
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


def sample_names() -> dict[str, tuple[str, ...]]:
    """The scraped sample names and their labels."""
    found: dict[str, tuple[str, ...]] = {}
    for name, metric in TABLE.items():
        if metric.kind == "counter":
            found[f"{name}_total"] = metric.labels
        elif metric.kind == "gauge":
            found[name] = metric.labels
        else:
            found |= {f"{name}_bucket": (*metric.labels, "le"), f"{name}_count": metric.labels}
            found |= {f"{name}_sum": metric.labels}
    return found


def value(node: Any, now: Scrape, before: Scrape) -> float | bool:
    """One value for each name."""
    if isinstance(node, promql.NumberLiteral):
        return float(node.val)
    if isinstance(node, promql.VectorSelector):
        return now.get(node.name, 0.0)
    if isinstance(node, promql.AggregateExpr):
        return value(node.expr, now, before)
    if isinstance(node, promql.Call) and node.func.name == "increase":
        name = node.args[0].vector_selector.name
        return now.get(name, 0.0) - before.get(name, 0.0)
    assert isinstance(node, promql.BinaryExpr), f"this test does not know {type(node).__name__}"
    left, right = value(node.lhs, now, before), value(node.rhs, now, before)
    op = str(node.op)
    return left / right if op == "/" else OPERATORS[op](left, right)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_parses_and_names_what_is_scraped(expression: str) -> None:
    known = sample_names()
    found = list(selectors(promql.parse(expression)))
    assert found
    for selector in found:
        assert selector.name in known
        assert {matcher.name for matcher in selector.matchers.matchers} <= set(known[selector.name])
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        assert set(labels.split(", ")) <= {label for s in found for label in known[s.name]}


def test_every_alert_has_a_case_and_says_what_to_do() -> None:
    assert [rule["alert"] for rule in RULES] == list(FIRES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.parametrize("case", [*FIRES, "none"])
def test_alert_fires_for_what_it_is_meant_for_and_no_other_one_does(case: str) -> None:
    now = {**WELL, **FIRES.get(case, {})}
    firing = [rule["alert"] for rule in RULES if value(promql.parse(rule["expr"]), now, WELL) is True]
    assert firing == ([case] if case in FIRES else [])


def test_dashboard_has_a_place_for_every_panel() -> None:
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"]) == len({p["id"] for p in DASHBOARD["panels"]})
    assert all(p["title"] and p["targets"] for p in DASHBOARD["panels"])
