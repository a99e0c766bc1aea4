"""A short kill run; the long one is `python -m tests.fault.kill_application`."""

from __future__ import annotations

import pytest
from tests.fault import kill_application


@pytest.mark.parametrize("delivery", ["durable", "buffered"])
def test_numbers_agree_when_a_serving_application_is_killed(delivery: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = kill_application.main(["--times", "1", "--delivery", delivery, "--seconds", "0.2", "0.6"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "WRONG" not in printed
