"""Rules for every test of the project.

* With CI=true a skipped test is a failure: otherwise a missing tool would go unnoticed.
  Excepted are tests for another platform or Python: their reason begins with `other platform`; and those for a
  tool that ASGI_AUDIT_TEST_WITHOUT names: their reason begins with it.
* Each reason to skip is printed once, at the end.
* `full` marks what only `make test-all` runs: what needs Java or Docker, or takes long.
* Properties try few examples, the same ones in every run, so that a red run means the change and not the draw. With
  `ASGI_AUDIT_TEST_FULL=1` they try many, and other ones each time unless CI=true.
* `make test` runs in a worker for each core (pytest-xdist). A fixture of the session is made in each of them; ports,
  topics and directories are a test's own; names of tests are the same in every process.
* Tests that send SIGINT to a child pass in a shell that ignores it (`make test &`, `nohup`).
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

OTHER = "other platform"
# Tools that `.ci/run` could not get: a test that skips because one of them is missing passes, and the skip is printed.
WITHOUT = tuple(os.environ.get("ASGI_AUDIT_TEST_WITHOUT", "").split())
HERE = Path(__file__).parent
FULL_DIRECTORIES = [HERE / "bench", HERE / "e2e", HERE / "integration" / "kafka"]


def is_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def is_full() -> bool:
    return os.environ.get("ASGI_AUDIT_TEST_FULL", "") not in ("", "0")


# No deadline, and no check of how long the making of examples takes: both depend on how busy the machine is.
_COMMON: dict[str, Any] = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("small", max_examples=40, derandomize=True, **_COMMON)
settings.register_profile("full", max_examples=400, derandomize=is_ci(), **_COMMON)
settings.load_profile("full" if is_full() else "small")


def pytest_configure(config: pytest.Config) -> None:
    # A child inherits that a signal is ignored, but not a handler: with a handler here it starts with the default.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(directory in item.path.parents for directory in FULL_DIRECTORIES):
            item.add_marker("full")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = Counter(_reason(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.section("skipped, and how to get it")
    for reason, count in sorted(skipped.items()):
        terminalreporter.line(f"{count} × {reason}")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) and len(longrepr) == 3 else str(longrepr)
    return str(text).removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report: pytest.TestReport = yield
    if report.skipped and is_ci() and not hasattr(report, "wasxfail"):
        reason = _reason(report.longrepr)
        if not reason.startswith((OTHER, *WITHOUT)):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, and with CI=true that is a failure: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):  # type: ignore[no-untyped-def]
    """For a whole module that skips itself, for example by `importorskip`."""
    report: pytest.CollectReport = yield
    if report.skipped and is_ci():
        reason = _reason(report.longrepr)
        if not reason.startswith((OTHER, *WITHOUT)):
            report.outcome = "failed"
            report.longrepr = f"{collector.nodeid} was skipped, and with CI=true that is a failure: {reason}"
    return report


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Like `tmp_path`, but open to other users, as an administrator sets up a volume. pytest's own directories are
    private to their user, and each run of pytest on this machine makes them private again."""
    with tempfile.TemporaryDirectory(prefix="asgi-audit-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """A test that leaves our loggers changed for later tests fails itself."""
    before = _loggers()
    yield
    assert {name: how for name, how in _loggers().items() if how != before.get(name, _UNTOUCHED)} == {}


_UNTOUCHED = (logging.NOTSET, True, False)


def _loggers() -> dict[str, tuple[int, bool, bool]]:
    """(level, propagate, disabled) of each logger of asgi-audit."""
    known = logging.Logger.manager.loggerDict.items()
    found = {name: logger for name, logger in known if name.split(".")[0] == "asgi_audit"}
    return {
        name: (logger.level, logger.propagate, logger.disabled)
        for name, logger in found.items()
        if isinstance(logger, logging.Logger)
    }


_CAPTURING = ("test_frameworks", "test_transparency", "test_wiring", "test_api_socket")


@pytest.fixture(autouse=True)
def every_captured_record_fits_the_schema(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Every record that a test captures in this process is validated against the record's JSON Schema, whether or not
    the test looks at it.

    Tests of the builder do so themselves; those that measure time or memory are excluded."""
    if request.module.__name__.rpartition(".")[2] not in _CAPTURING:
        yield
        return
    from asgi_audit.encoding.builder import Builder

    from .support.schema import checked

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
