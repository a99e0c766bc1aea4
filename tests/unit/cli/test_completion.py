"""The completion script, sourced by a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from asgi_audit.cli import COMMANDS


def completed(*words: str) -> list[str]:
    made = [sys.executable, "-m", "asgi_audit", "completion", "bash"]
    script = subprocess.run(made, capture_output=True, text=True, check=True).stdout
    asked = (
        f'COMP_WORDS=({" ".join(words)} "")\nCOMP_CWORD={len(words)}\n'
        if words[-1] != "--"
        else (f"COMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\n")
    )
    name = next(line.split()[-2] for line in script.splitlines() if line.startswith("complete "))
    shell = f'{script}\n{asked}{name}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash: apt-get install bash")
def test_bash_completes_commands_and_their_flags() -> None:
    assert set(COMMANDS) <= set(completed("asgi-audit"))
    flags = completed("asgi-audit", "ask", "--")
    assert {"--status", "--principal", "--follow"} <= set(flags)
    assert "--workers" not in flags


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell: str) -> None:
    made = [sys.executable, "-m", "asgi_audit", "completion", shell]
    assert "asgi-audit" in subprocess.run(made, capture_output=True, text=True, check=True).stdout
