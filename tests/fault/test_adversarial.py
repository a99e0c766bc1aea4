"""`make adversarial` runs: what it finds in a small run is nothing."""

from __future__ import annotations

import pytest
from tests.fault.adversarial import main


def test_adversarial_command_runs_when_it_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expressions", "3", "--records", "5", "--seed", "1"]) == 0
    assert "5 records: 0 too slow" in capsys.readouterr().out
