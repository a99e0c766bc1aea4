"""The hooks in a forked child: each step of the registry runs in order, even when another one raises."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asgi_audit

SOURCE = Path(asgi_audit.__file__).parent


def in_a_child(text: str) -> str:
    """The output of a fresh interpreter that runs `text`: a fork of the test process would contain its threads."""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_steps_run_in_their_order_when_they_were_registered_in_another() -> None:
    out = in_a_child("""
import os
from asgi_audit.forking import Step, after_fork_in_child
for step in reversed(Step):
    after_fork_in_child(step, lambda step=step: print(step.name, flush=True))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
""")
    assert out.split() == ["FILE_LOCKS", "RANDOM", "JOURNAL", "MEMORY_JOURNAL", "RECORDER", "CAPTURE", "ANNOTATE"]


def test_the_other_steps_run_and_the_child_goes_on_when_one_raises() -> None:
    out = in_a_child("""
import os, sys
from asgi_audit.forking import Step, after_fork_in_child
sys.unraisablehook = lambda found: print(found.exc_value, flush=True)
def breaks():
    raise LookupError("broken")
after_fork_in_child(Step.FILE_LOCKS, breaks)
after_fork_in_child(Step.ANNOTATE, lambda: print("last step", flush=True))
pid = os.fork()
if pid == 0:
    print("goes on", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
""")
    assert out.splitlines() == ["last step", "broken", "goes on"]


def nodes_of_files_with(text: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text("utf-8")
        if text in source:
            yield from ((path, node) for node in ast.walk(ast.parse(source)))


def test_nobody_registers_with_the_interpreter_beside_it() -> None:
    found = [
        path.relative_to(SOURCE).as_posix()
        for path, node in nodes_of_files_with("register_at_fork")
        if isinstance(node, ast.Attribute) and node.attr == "register_at_fork"
    ]
    assert found == ["forking.py"]


def test_every_step_is_registered_by_one_module() -> None:
    """A second module that registers the same step would replace the first one's hook."""
    from asgi_audit.forking import Step

    found = [
        node.args[0].attr
        for _, node in nodes_of_files_with("after_fork_in_child")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "after_fork_in_child"
        if isinstance(node.args[0], ast.Attribute)
    ]
    assert sorted(found) == sorted(step.name for step in Step)
