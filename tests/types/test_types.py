"""What editors and type checkers know of the public names: what users write passes, what is wrong is refused.

Method: mypy in strict mode and basedpyright look at `right.py`, `wrong.py`, the examples and the code of the README,
with the types that the frameworks themselves have. One run of each for all."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# What a fragment of the README takes as given.
PRELUDE = """\
import asgi_audit
from asgi_audit import AuditMiddleware
from fastapi import FastAPI

app = FastAPI()
"""
# A line of a file, by (its name, its number).
Refused = dict[tuple[str, int], str]


def mypy(files: list[Path], directory: Path) -> Refused:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--hide-error-context",
         f"--cache-dir={ROOT / '.mypy_cache' / 'types'}", *map(str, files)],
        cwd=directory, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {(Path(name).name, int(number)): said for name, number, said in found}


def basedpyright(files: list[Path], directory: Path) -> Refused:
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--level", "error", "--outputjson", "--pythonpath", sys.executable,
         *map(str, files)],
        cwd=directory, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {(Path(d["file"]).name, d["range"]["start"]["line"] + 1): d["message"] for d in found}


def blocks_of_the_readme(directory: Path) -> list[Path]:
    made = []
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)):
        made.append(directory / f"readme_{number}.py")
        made[-1].write_text(block if "import " in block else PRELUDE + block, "utf-8")
    assert made
    return made


@pytest.mark.parametrize("check", [mypy, basedpyright])
def test_type_checker_passes_what_is_right_and_refuses_what_is_wrong(
    check: Callable[[list[Path], Path], Refused], tmp_path: Path
) -> None:
    for needed in ("mypy", "basedpyright", "litestar", "quart", "fastapi"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install {needed}")
    wrong = HERE / "wrong.py"
    # Alone, without what lies around it: as in a user's project.
    right = [HERE / "right.py", *sorted((ROOT / "examples").glob("*.py"))]
    files = []
    for path in (wrong, *right):
        files.append(tmp_path / path.name)
        files[-1].write_bytes(path.read_bytes())
    found = check([*files, *blocks_of_the_readme(tmp_path)], tmp_path)
    lines = wrong.read_text("utf-8").splitlines()
    expected = {("wrong.py", n) for n, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert len(expected) > 10
    assert found.keys() == expected, {at: found.get(at, "passed") for at in found.keys() ^ expected}
