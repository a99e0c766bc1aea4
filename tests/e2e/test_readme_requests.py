"""The requests that the README shows under "Asking", each run unchanged by a shell, over the README's own application:
at least one for each dialect."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .commands import COMMAND, run, running
from .test_five_minutes import call, port_of

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
UVICORN = [sys.executable, "-m", "uvicorn", "--port", "0"]
WORDS = {  # expected field of a success, by the requested path
    r"/usage/shop/default$": "queryExecutionId",
    r"/trail$": "queryExecutionId",
    r"/query-result/": "data",
    r"^/logs\?": "status",
    r"/api/v1/logs": "state",
    r"/api$": "success",
    r"^/records": "total",
    r"^/histogram": "buckets",
    r"^/feed": "records",
    r"/records": "",
}


def commands_of(section: str) -> list[str]:
    """The shell commands of the code blocks of a section, one each."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("curl ")]


def found_in(answer: Any, name: str) -> Any:
    """The first value of that name, at any depth."""
    if isinstance(answer, dict):
        if name in answer:
            return answer[name]
        answer = list(answer.values())
    found = (found_in(value, name) for value in answer) if isinstance(answer, list) else ()
    return next((value for value in found if value is not None), None)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_requests_of_the_readme_are_answered_as_it_says(tmp_path: Path) -> None:
    application = re.search(r"```python\n# shop\.py\n(.*?)```", README, re.DOTALL)
    assert application is not None
    (tmp_path / "shop.py").write_text(application[1])
    key = run("keys", "create", "--role", "auditor", "--account", "default", cwd=tmp_path).stdout.strip()
    asked = commands_of("Asking")
    paths = [re.search(r"localhost:8400([^\s\"]*)", command) for command in asked]
    seen: dict[str, Any] = {}
    with (
        running(*UVICORN, "shop:app", cwd=tmp_path) as app,
        running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve,
    ):
        shop, port = port_of(app.wait_for("Uvicorn running on")), port_of(serve.wait_for("listens on"))
        assert call(shop, "POST", "/login", {"name": "ada", "password": "hunter2"})[0] == 200
        variables = {"KEY": key, "ID": ""}
        for command, path in zip(asked, paths, strict=True):
            assert path is not None, command
            done = subprocess.run(
                ["sh", "-c", command.replace("localhost:8400", f"127.0.0.1:{port}")],
                capture_output=True, text=True, timeout=60, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", **variables},
            )  # fmt: skip
            answer = json.loads(done.stdout)
            word = next(word for pattern, word in WORDS.items() if re.search(pattern, path[1]))
            value = found_in(answer, word) if word else answer
            assert value not in (None, False, "error"), (command, answer)
            seen[path[1]] = answer
            variables["ID"] = answer.get("queryExecutionId") or answer.get("request_id") or variables["ID"]
    [record] = found_in(seen["/usage/shop/default/query-result/$ID?limit=100"], "data")
    assert record["request"]["path"] == "/login"
    assert "hunter2" not in json.dumps(seen)
    dialects = {"usage", "trail", "logs?", "api/v1/logs", "api", "records", "histogram", "feed"}
    assert all(any(path.startswith(f"/{dialect}") for path in seen) for dialect in dialects)
