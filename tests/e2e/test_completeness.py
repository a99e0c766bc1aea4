"""`asgi-audit completeness` over real processes: an application that serves and becomes idle, one that is killed under
load, one whose journal was damaged."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import shutil
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.waiting import until

from .commands import COMMAND, Running, run, running

EXAMPLES = Path(__file__).parents[2] / "examples"
UVICORN = [sys.executable, "-m", "uvicorn", "--port", "0", "examples.any_asgi_app:app"]


def now(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="milliseconds")


def port_of(app: Running) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", app.wait_for("Uvicorn running on"))
    assert found is not None
    return int(found[1])


def get(port: int, path: str, key: str = "") -> dict[str, str]:
    # Closed also when the application is killed.
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        with connection.getresponse() as response:
            response.read()
    return {name.lower(): value for name, value in response.getheaders()}


def completeness(cwd: Path, *arguments: str) -> tuple[int, Any]:
    done = run("completeness", "--json", *arguments, cwd=cwd)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_window_becomes_complete_while_the_application_rests(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    with running(COMMAND, "index", "--quiet", cwd=tmp_path), running(*UVICORN, cwd=tmp_path) as app:
        port = port_of(app)
        get(port, "/first")  # nothing is claimed before it: the journal did not exist
        until(lambda: completeness(tmp_path)[1]["completeFrom"] is not None, "the journal is read")
        start = now()
        assert start > completeness(tmp_path)[1]["completeFrom"]
        # The pauses are inputs: the application's clock was read once, and may differ from this one by some
        # milliseconds.
        time.sleep(0.1)
        for n in range(5):
            get(port, f"/{n}")
        time.sleep(0.1)
        end = now()
        at = time.monotonic()
        # An idle application writes a statement every 10 s.
        until(lambda: completeness(tmp_path, "--from", start, "--to", end)[0] == 0, "complete")
        print(f"complete after {time.monotonic() - at:.1f} s")
        code, found = completeness(tmp_path, "--from", start, "--to", end)
        (process,) = found["processes"]
        assert (code, found["complete"], found["incidents"], found["open"]) == (0, True, [], 0)
        assert (process["state"], process["indexed"], process["lost"], process["missing"]) == ("active", 5, 0, 0)
        assert completeness(tmp_path, "--to", now(hours=1))[0] == 1
        assert app.stop() in (0, -15)
        # It wrote its final statement: T follows the clock, and a table is shown.
        until(lambda: run("completeness", "--to", end, cwd=tmp_path).stdout.count("ended") == 1, "it ended")
        reached = completeness(tmp_path)[1]["completeUntil"]
        until(lambda: completeness(tmp_path)[1]["completeUntil"] > reached, "T goes on")


def test_killed_application_is_adopted_and_its_loss_is_stated(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choice = random.Random(seed)
    with running(COMMAND, "index", "--quiet", cwd=tmp_path), running(*UVICORN, cwd=tmp_path) as app:
        port = port_of(app)

        def load() -> None:
            for n in range(5000):
                try:
                    get(port, f"/{n}")
                except (OSError, http.client.HTTPException):
                    return

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(choice.uniform(0.5, 1.5))  # the moment of the kill is an input
        app.stop(signal.SIGKILL)
        for client in clients:
            client.join()
        end = now()
        until(lambda: completeness(tmp_path, "--to", end)[0] in (0, 3), "complete")
        code, found = completeness(tmp_path, "--to", end)
        (process,) = found["processes"]
        assert process["state"] == "ended"
        assert process["last"] > 0
        assert process["indexed"] + process["lost"] == process["last"]
        assert process["missing"] == 0
        assert code == (3 if process["lost"] else 0)
        assert found["open"] <= 4  # requests that ended with it


def test_deleted_segment_is_an_incident_and_t_goes_on(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    with running(*UVICORN, cwd=tmp_path) as app:
        start = now()
        port = port_of(app)
        for n in range(7):
            get(port, f"/{n}")
        until(lambda: len(run("tail", cwd=tmp_path).stdout.splitlines()) == 7, "all are written")
        app.stop(signal.SIGKILL)
    for segment in (tmp_path / ".asgi-audit" / "journal").glob("*/*.seg"):
        segment.unlink()
    end = now()
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        line = serve.wait_for("listens on")
        until(lambda: len(completeness(tmp_path, "--from", start, "--to", end)[1]["incidents"]) == 2, "incidents")
        code, found = completeness(tmp_path, "--from", start, "--to", end)
        assert (code, found["complete"]) == (1, False)
        # Missing counts as settled: T does not wait for it.
        until(lambda: completeness(tmp_path)[1]["completeUntil"] >= end[:23], "T goes on")
        assert sorted(i["kind"] for i in found["incidents"]) == ["missing", "unproven"]
        (missing,) = [i for i in found["incidents"] if i["kind"] == "missing"]
        assert (missing["ranges"], missing["count"], missing["resolvedAt"]) == ([[1, 7]], 7, None)
        shown = run("completeness", "--from", start, "--to", end, cwd=tmp_path)
        assert "missing" in shown.stdout
        assert "2 open incidents" in shown.stderr
        # Every response reports it.
        key = run("keys", "create", "--role", "reader", "--account", "*", cwd=tmp_path).stdout.strip()
        port = int(re.search(r":(\d+)", line.split("listens on")[1])[1])  # type: ignore[index]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"from": start, "to": end})
        connection.request("POST", "/trail", body, {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        execution = json.loads(answer.read())["queryExecutionId"]
        connection.close()
        assert answer.headers["audit-incidents"] == "2"
        page = get(port, f"/trail/query-result/{execution}", key)
        assert (page["audit-incidents"], page["audit-open"]) == ("2", "0")
        assert page["audit-complete-until"] >= end[:23]
