"""The progress line, the supervision of the indexer beside `serve`, and children that end with their parent."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from tests.support.waiting import until

from asgi_audit.cli import _parser, index
from asgi_audit.cli.flags import settings_of
from asgi_audit.cli.index import ProgressLine
from asgi_audit.cli.processes import Child, free_port, wait_for_port
from asgi_audit.cli.serve import SupervisedExporter, SupervisedIndexer, _listen
from asgi_audit.cli.supervised import Supervised
from asgi_audit.errors import AuditError, ConfigError
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.base import Source
from asgi_audit.wiring.operations import open_source, open_store_writer


class Counts(NamedTuple):
    indexed: int
    dead: int = 0
    lag: float | None = 0.0


def test_progress_line_says_records_rate_lag_and_dead_letters() -> None:
    now, counts = 0.0, Counts(0, lag=None)
    progress = ProgressLine(lambda: counts, threading.Event(), clock=lambda: now, terminal=True)
    assert progress.line() == "0 records indexed, 0 a second, behind since the start"
    now, counts = 2.0, Counts(3000, dead=2, lag=0.52)
    assert progress.line() == "3,000 records indexed, 1,500 a second, lag 0.5 s, 2 dead letters"


def test_progress_is_silent_when_nothing_was_indexed_and_nobody_watches() -> None:
    counts = Counts(5)
    progress = ProgressLine(lambda: counts, threading.Event(), clock=lambda: 1.0, terminal=False)
    assert progress.line().startswith("5 records")
    assert progress.line() == ""
    counts = Counts(6)
    assert progress.line().startswith("6 records")


@pytest.mark.parametrize("is_made", [True, False])
def test_index_closes_the_source_and_gives_the_lease_back_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    settings = make_settings({}, home=str(tmp_path))
    closed: list[bool] = []  # whether `stop` was set when the source was closed

    def opened(settings: Settings, *, index: str) -> Source:
        source = open_source(settings, index=index)
        close = source.close
        monkeypatch.setattr(source, "close", lambda: (closed.append(stop.is_set()), close()))
        return source

    def fails(*_: object, **__: object) -> NoReturn:
        raise ConfigError("no indexer can be made")

    stop = threading.Event()
    monkeypatch.setattr(index, "open_source", opened)
    if is_made:
        made = index.Sidecar(dict)
        indexer = threading.Thread(target=index._index, args=(settings, made, stop), kwargs={"is_quiet": True})
        indexer.start()
        until(lambda: made._progress is not None)
        stop.set()
        indexer.join(60)
    else:
        monkeypatch.setattr(index, "build_indexer", fails)
        with pytest.raises(ConfigError):
            index._index(settings, index.Sidecar(dict), stop, is_quiet=True)
    assert closed[-1:] == [is_made]
    open_store_writer(settings).close()


def test_indexer_beside_is_started_again_when_it_ends_and_stopped_in_the_end(tmp_path: Path) -> None:
    started: list[list[str]] = []
    second = threading.Event()
    children: list[Child] = []

    def start(arguments: list[str]) -> Child:
        started.append(arguments)
        # The first one ends at once, the second one runs until it gets a signal.
        code = "import sys; sys.stdin.read()" if len(started) > 1 else "import sys; sys.exit(3)"
        child = child_of(code, tmp_path / "log")
        children.append(child)
        if len(started) == 2:
            second.set()
        return child

    beside = SupervisedIndexer(Settings(home=tmp_path), start=start)
    assert second.wait(60)
    beside.stop()
    assert not any(child.running() for child in children)
    assert len(started) == 2
    assert started[0] == started[1]
    assert started[0][:3] == ["index", "--home", str(tmp_path)]


def test_wait_before_the_next_start_is_short_again_when_the_indexer_ran_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each run ends at once by the real clock; by the injected clock, the fourth one lasted a minute."""
    monkeypatch.setattr("asgi_audit.cli.supervised.RESTART_SECONDS", (0.01, 0.04))
    now = [0.0]
    started = 0
    enough = threading.Event()

    def start(arguments: list[str]) -> Child:
        nonlocal started
        started += 1
        if started == 5:  # the clock was read before, for its start
            now[0] += 60
        if started == 6:
            enough.set()
        return child_of("import sys; sys.exit(3)", tmp_path / "log")

    beside = SupervisedIndexer(Settings(home=tmp_path), start=start, monotonic=lambda: now[0])
    assert enough.wait(60)
    beside.stop()
    waits = [r.getMessage().split("again in ")[1] for r in caplog.records if "starting it again" in r.getMessage()]
    assert waits[:5] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s", "0.01 s"]


def test_child_that_cannot_be_started_again_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without free processes or memory: the thread that watches the child must not end."""
    monkeypatch.setattr("asgi_audit.cli.supervised.RESTART_SECONDS", (0.01, 0.04))
    started = 0

    def start() -> Child:
        nonlocal started
        started += 1
        if 2 <= started <= 4:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return child_of("import sys; sys.exit(3)" if started == 1 else "import sys; sys.stdin.read()", tmp_path / "log")

    supervised = Supervised("indexer", start)
    until(lambda: started == 5 and supervised.running())
    assert supervised.restarts == 1
    supervised.stop()
    assert caplog.text.count("cannot be started: Resource temporarily unavailable") == 3


def test_child_that_does_not_respond_is_killed_and_started_again(tmp_path: Path) -> None:
    stuck = threading.Event()
    codes: list[int] = []

    def ended(code: int) -> bool:
        codes.append(code)
        stuck.clear()
        return True

    supervised = Supervised(
        "worker 1",
        lambda: child_of("import sys; sys.stdin.read()", tmp_path / "log"),
        on_ended=ended,
        is_stuck=stuck.is_set,
    )
    first = supervised.pid
    stuck.set()
    until(lambda: supervised.restarts == 1 and supervised.running())
    assert supervised.pid != first
    assert codes == [-signal.SIGKILL]
    supervised.stop()


def child_of(code: str, log: Path) -> Child:
    """A Child whose module is a program that the test writes."""
    name = f"child_{os.getpid()}_{abs(hash(code))}"
    (log.parent / f"{name}.py").write_text(code)
    return Child("child", name, [], log=log, environment={**os.environ, "PYTHONPATH": str(log.parent)})


def test_child_is_killed_when_it_does_not_end_in_time(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = child_of(code, tmp_path / "log")
    until(lambda: child.log_tail() == "deaf")
    assert child.stop(0.1) == -signal.SIGKILL
    assert child.stop() == -signal.SIGKILL


def test_wait_for_port_says_the_last_words_of_a_child_that_ended(tmp_path: Path) -> None:
    child = child_of("import sys; print('no such database'); sys.exit(7)", tmp_path / "log")
    try:
        with pytest.raises(AuditError, match="child ended with code 7: no such database"):
            wait_for_port(child, free_port())
    finally:
        child.stop()


def test_child_hears_of_its_parents_death_when_that_is_killed(tmp_path: Path) -> None:
    """Parent and child print; the parent is killed; the pipe ends only when the child has ended too."""
    parent = f"""
import os, signal, sys
from asgi_audit.cli.processes import Child
sys.path.insert(0, {str(tmp_path)!r})
child = Child("child", "watching", [], environment={{**os.environ, "PYTHONPATH": {str(tmp_path)!r}}})
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "watching.py").write_text(
        "import threading\n"
        "from asgi_audit.cli.processes import on_closed_stdin\n"
        "gone = threading.Event()\n"
        "on_closed_stdin(gone.set)\n"
        "print('watching', flush=True)\n"
        "gone.wait(60)\n"
        "print('alone', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == "watching\n"
        process.stdin.write("die\n")
        process.stdin.flush()
        assert process.stdout.read() == "alone\n"
    assert process.wait(60) == -signal.SIGKILL


def test_settings_reach_the_indexer_beside_when_urls_are_given(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def start(arguments: list[str]) -> Child:
        seen.append(arguments)
        return child_of("import sys; sys.stdin.read()", tmp_path / "log")

    settings = dataclasses.replace(Settings(), transport="journal:////j", store="sqlite:////s")
    SupervisedIndexer(settings, start=start).stop()
    assert seen[0][-4:] == ["--from", "journal:////j", "--to", "sqlite:////s"]


def test_settings_reach_the_exporter_beside(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def start(arguments: list[str]) -> Child:
        seen.append(arguments)
        return child_of("import sys; sys.stdin.read()", tmp_path / "log")

    settings = make_settings({}, home=tmp_path, export_path=tmp_path / "e", export_days=3, store="sqlite:////s")
    SupervisedExporter(settings, start=start).stop()
    arguments = _parser("export").parse_args(seen[0])
    assert settings_of(arguments).export_path == tmp_path / "e"
    assert (settings_of(arguments).export_days, settings_of(arguments).store) == (3, "sqlite:////s")


@pytest.mark.parametrize("command", [["index"], ["serve", "--port", "0"]])
def test_command_ends_with_one_line_when_a_file_stands_where_the_home_is_wanted(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "asgi_audit", *command, "--home", str(tmp_path / "file" / "home")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_index_ends_with_one_line_when_its_directory_cannot_be_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asgi_audit", "index", "--home", str(tmp_path), "--to", "sqlite:////proc/nowhere/index"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "No such file or directory. Use a directory that this user can create and write" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("inherited", [False, True], ids=["serve", "worker"])
def test_answers_do_not_wait_for_acknowledgements(inherited: bool) -> None:
    """A kept connection waited 40 ms for each response: its body waited for the acknowledgement of its headers."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = _listen("127.0.0.1", 0)
        if inherited:  # by its descriptor, as a worker gets it
            listening = socket.socket(fileno=listening.detach())
        async with await asyncio.start_server(connected, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.close()
            await writer.wait_closed()
            return await found

    assert asyncio.run(accepted())
