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


_CAPTURING = ("test_frameworks", "test_transparency", "test_wiring", "test_api_socket")


@pytest.fixture(autouse=True)
def every_captured_record_fits_the_schema(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Whatever a test captures in this process is held against the record's JSON Schema, whether it looks or not.

    Tests of the builder do so by themselves; those that measure time or memory are left alone."""
    if request.module.__name__.rpartition(".")[2] not in _CAPTURING:
        yield
        return
    from asgi_audit.recording.builder import Builder

    from .support_schema import checked

    build = Builder.build
    wrong: list[str] = []

    def build_and_check(self: Builder, *arguments: object, **named: object) -> bytes:
        data = build(self, *arguments, **named)  # type: ignore[arg-type]
        try:
            checked(data)
        except Exception as e:
            wrong.append(f"{type(e).__name__}: {e}: {data[:2000]!r}")
        return data

    monkeypatch.setattr(Builder, "build", build_and_check)
    yield
    assert wrong == []
