"""The benchmark runs, in a short form, in `make test-all`: its figures are positive and plausible."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.kafka import ADDRESS_VARIABLE, HOW_TO_GET_ONE

from . import __main__ as bench
from . import exports, kafka, query, stall
from .indexing import Figures


@pytest.mark.timeout(900)
def test_bench_measures_every_part_when_run_tiny() -> None:
    figures = bench.main(["--tiny"])
    path = figures["path"]
    assert isinstance(path, dict)
    for costs in path.values():
        assert set(costs) == {"bare", "BaseHTTPMiddleware, no-op", "asgi-audit"}
        assert all(cost.path > 1 and cost.cpu > 1 for cost in costs.values())
    indexed = figures["indexing"]
    assert isinstance(indexed, Figures)
    assert indexed.records == 2_000
    assert indexed.record_bytes > 500
    assert indexed.indexed_per_second_and_core > 500
    assert len(indexed.pages) == 4
    served = figures["serving"]
    assert isinstance(served, dict)
    assert all(0 < p50 <= p99 for p50, p99 in served.values())
    assert figures["queryable"][0] > 0  # type: ignore[index]
    exported = figures["exports"]
    assert isinstance(exported, exports.Figures)
    assert exported.records == 3_000
    assert exported.faults == []
    assert 0 < exported.peak_mib - exported.idle_mib < 64
    asked = figures["query"]
    assert isinstance(asked, query.Figures)
    assert asked.records > 3_000
    assert min(asked.rows.values()) > 0
    assert 0.1 < asked.bytes_of_raw < 2
    assert all(0 < t.p50 <= t.p99 for t in asked.took.values())
    assert {f"{d}, first page" for d in ("usage", "trail", "logs", "records", "feed")} < asked.took.keys()
    (hostile,) = figures["hostile"]  # type: ignore[misc]
    assert hostile.failed == []
    assert hostile.live
    over_kafka = figures["kafka"]
    if over_kafka != HOW_TO_GET_ONE:
        assert isinstance(over_kafka, kafka.Figures)
        assert all(0 <= way.p50 <= way.p99 and way.probes == 10 for way in over_kafka.ways)
        assert [(f.rate, f.records) for f in over_kafka.forwarding] == [(100, 50), (0, 500)]
        assert all(f.cpu > 1 and f.per_batch >= 1 for f in over_kafka.forwarding)
        assert over_kafka.indexed_per_second_and_core > 100


def test_bench_says_how_to_get_a_broker_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(ADDRESS_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # neither docker nor java
    figures = bench.main(["--tiny", "--only", "kafka"])
    assert figures["kafka"] == HOW_TO_GET_ONE
    assert f"skipped: {HOW_TO_GET_ONE}" in capsys.readouterr().out


def test_stall_runs(tmp_path: Path) -> None:
    from asgi_audit import AuditMiddleware

    layer = AuditMiddleware(stall.app, home=str(tmp_path))
    p50, p99, longest = asyncio.run(stall.measured(layer, b'"aa",' * 100, 0.2))
    assert 0 < p50 <= p99
    assert longest > 0
