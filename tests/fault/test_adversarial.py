"""`make adversarial` runs, and its exit code agrees with its output.

Whether a record is too slow depends on the machine: one took 25.4 ms of CPU on a busy one, where 25 are allowed."""

from __future__ import annotations

import re

import pytest
from tests.fault.adversarial import main


@pytest.mark.full
def test_adversarial_command_runs_when_it_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--expressions", "3", "--records", "5", "--seed", "1"])
    said = re.search(r"(\d+) expressions × 3, 5 records: (\d+) too slow", capsys.readouterr().out)
    assert said is not None
    assert int(said[1]) > 100
    assert code == (said[2] != "0")
