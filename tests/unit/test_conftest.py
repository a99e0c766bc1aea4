"""With CI=true a skip is a failure, a test's and a whole module's, unless it is for another platform."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {
    "test_one.py": """
import pytest
def test_needs(): pytest.skip("install it")
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


@pytest.mark.parametrize(
    ("ci", "code", "said"),
    [("true", 1, "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"), ("", 0, "1 passed, 4 skipped, 1 xfailed")],
)
def test_skip_is_a_failure_when_ci_is_true(ci: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text("utf-8"))
    for name, text in CASES.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=os.environ | {"CI": ci}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stdout
    assert said in done.stdout
    if ci:
        assert "test_one.py::test_needs was skipped, and with CI=true that is a failure: install it" in done.stdout
        assert "pip install it" in done.stdout
