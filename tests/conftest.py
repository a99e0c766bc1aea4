"""With CI=true a skipped test is a failure: what a skip asks for must be there, or nobody would notice that it is not.

Left alone are skips of a test for another platform or Python, which say so: their reason begins with `other platform`.
"""

from __future__ import annotations

import os

import pytest

OTHER = "other platform"


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) and len(longrepr) == 3 else str(longrepr)
    return str(text).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report: pytest.TestReport = yield
    if report.skipped and is_ci() and not hasattr(report, "wasxfail"):
        reason = _reason(report.longrepr)
        if not reason.startswith(OTHER):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, and with CI=true that is a failure: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):  # type: ignore[no-untyped-def]
    """A whole module that skips itself, by `importorskip` for one."""
    report: pytest.CollectReport = yield
    if report.skipped and is_ci():
        reason = _reason(report.longrepr)
        if not reason.startswith(OTHER):
            report.outcome = "failed"
            report.longrepr = f"{collector.nodeid} was skipped, and with CI=true that is a failure: {reason}"
    return report
