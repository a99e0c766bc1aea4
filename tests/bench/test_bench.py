"""The benchmark runs, tiny, in every test run: its parts measure something and no more than is plausible."""

from __future__ import annotations

import pytest

from . import __main__ as bench
from .indexing import Figures


@pytest.mark.bench
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
