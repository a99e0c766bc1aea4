"""Goal: for any request, the API responds as `/openapi.json` describes.

Method: schemathesis, which knows only that document, against `asgi-audit serve` over a real index, with a real key
and all checks on. `schemathesis/schemathesis.toml` holds the exceptions, each with its reason, and
`schemathesis/hooks.py` keeps them narrow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.live import live

HERE = Path(__file__).parent / "schemathesis"
COMMAND = Path(sys.executable).parent / "schemathesis"
CASES_MIN = 5_000


def run(directory: Path, *words: str) -> tuple[str, int]:
    """Its output, and the number of its cases. Asserts that none failed."""
    with live(directory) as served:
        command = [
            str(COMMAND), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{served.url}/openapi.json",
            "--header", f"Authorization: Bearer {served.auditor}", "--header", f"X-API-Key: {served.auditor}",
            "--checks", "all", "--no-color", "--no-shrink", *words,
        ]  # fmt: skip
        environment = {
            **os.environ,
            "AUDITOR": served.auditor,
            "HYPOTHESIS_STORAGE_DIRECTORY": str(directory / "examples"),
        }
        done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=1_500)
    said = done.stdout.replace(served.auditor, "…")
    summary = said[said.rfind("SUMMARY ====") :]
    print(summary)
    failures = re.sub(r"(.{1500}).*", r"\1…", said[-200_000:])  # a line may be a whole URL
    assert done.returncode == 0, failures[:20_000] + done.stderr[-2_000:]
    generated = re.search(r"(\d+) generated, (\d+) passed", summary)
    assert generated is not None, summary
    return said, int(generated[1])


def test_examples_and_a_few_cases_of_each_operation_are_answered_as_described(tmp_path: Path) -> None:
    run(tmp_path, "--phases", "examples,fuzzing", "--max-examples", "2", "--seed", "1")


@pytest.mark.full
@pytest.mark.timeout(1_800)
def test_thousands_of_cases_are_answered_as_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        _, generated = run(tmp_path, "--max-examples", "200", "--seed", "1")
    assert generated >= CASES_MIN
