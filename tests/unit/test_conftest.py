"""With CI=true a skipped test or module is a failure, unless it is for another platform; each reason is printed once;
and the default run leaves out exactly the tests marked for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
# As `make test` runs them, and as a developer runs a single file.
TWO = pytest.param(("-p", "xdist", "-n", "2"), marks=pytest.mark.full, id="two workers")
WORKERS = pytest.mark.parametrize("workers", [pytest.param((), id="one process"), TWO])
CASES = {
    "test_one.py": """
import pytest
def test_needs(): pytest.skip("install it")
def test_needs_too(): pytest.skip("install it")
def test_other(): pytest.skip("other platform: no lockf")
@pytest.mark.skip(reason="later")
def test_marked(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
def test_runs(): pass
""",
    "test_two.py": """
import pytest
pytest.importorskip("a_package_that_nobody_has", reason="pip install it")
""",
}


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest over the tests in `directory`, with our conftest and, for a fast start, without plugins."""
    shutil.copy(CONFTEST, directory)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(directory)]
    return subprocess.run(
        command, cwd=directory, env=os.environ | ALONE | environment, capture_output=True, text=True, timeout=120
    )


@WORKERS
@pytest.mark.parametrize(
    ("ci", "code", "said"),
    [("true", 1, "2 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"), ("", 0, "1 passed, 5 skipped, 1 xfailed")],
)
def test_skip_is_a_failure_when_ci_is_true(
    ci: str, code: int, said: str, workers: tuple[str, ...], tmp_path: Path
) -> None:
    for name, text in CASES.items():
        (tmp_path / name).write_text(text)
    arguments = ("--continue-on-collection-errors", *workers)
    done = run(tmp_path, *arguments, CI=ci)
    assert done.returncode == code, done.stdout
    assert said in done.stdout
    if ci:
        without = run(tmp_path, *arguments, CI=ci, ASGI_AUDIT_TEST_WITHOUT="later install")
        assert "1 passed, 4 skipped, 1 xfailed, 1 error" in without.stdout
        assert "test_one.py::test_needs was skipped, and with CI=true that is a failure: install it" in done.stdout
        assert "pip install it" in done.stdout
    else:
        assert done.stdout.count("install it\n") == 2, "one line for both tests, one for the module"
        assert "2 × install it\n" in done.stdout
        assert "1 × pip install it\n" in done.stdout


INTERRUPTED = """
import signal, subprocess, sys
def test_child_ends_when_it_is_interrupted():
    child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait() == -signal.SIGINT
"""


@WORKERS
def test_interrupted_child_ends_when_the_shell_ignores_sigint(workers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(INTERRUPTED)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run(tmp_path, *workers)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout


PROPERTY = """
from hypothesis import given, settings, strategies as st
@given(st.integers())
def test_property(n):
    with open(__file__ + ".drawn", "a") as file:
        file.write(f"{n} ")
"""


def test_properties_are_small_and_the_same_each_time_unless_they_are_full(tmp_path: Path) -> None:
    drawn: dict[str, list[str]] = {}
    for name, environment in {"one": {}, "two": {}, "full": {"ASGI_AUDIT_TEST_FULL": "1"}}.items():
        (tmp_path / "test_it.py").write_text(PROPERTY)
        done = run(tmp_path, **{"ASGI_AUDIT_TEST_FULL": "", **environment})
        assert done.returncode == 0, done.stdout
        drawn[name] = (tmp_path / "test_it.py.drawn").read_text().split()
        (tmp_path / "test_it.py.drawn").unlink()
    assert drawn["one"] == drawn["two"]
    assert (len(drawn["one"]), len(drawn["full"])) == (40, 400)
