"""The runner, over a store in memory: every state, how it is reached, and what remains afterwards."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.exports import ACME, DAY_MS, HOUR_MS, World
from tests.support.records import extent, record

from asgi_audit.control.exports import ENDED, Exports, State
from asgi_audit.disk import PRIVATE
from asgi_audit.errors import StoreError
from asgi_audit.exporting.base import TargetError
from asgi_audit.exporting.directory import DirectoryTarget
from asgi_audit.exporting.part import Part, PartHeld, part_path
from asgi_audit.exporting.runner import JOBS_OF_ACCOUNTS_MAX, PATIENCE_MS, Runner
from asgi_audit.query.model import Grant
from asgi_audit.store.base import Batch, Reader
from asgi_audit.store.state import Completion, Hold, ReadUntil
from asgi_audit.transport.base import Position


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_export_goes_through_its_states_to_complete(world: World) -> None:
    world.add(5)
    export = world.ask()
    assert export.state is State.REQUESTED
    seen = [export.state]
    for _ in range(20):
        world.runner.step()
        seen.append(world.get(export).state)
    assert list(dict.fromkeys(seen)) == [State.REQUESTED, State.PENDING, State.CREATING, State.COMPLETE]
    assert world.files() == [f"{export.id}.manifest.json", f"{export.id}.ndjson.gz"]


def test_object_holds_whole_records_of_the_snapshot_oldest_first(world: World) -> None:
    world.add(3, start=DAY_MS + 1000)
    world.add(2, start=DAY_MS)
    world.add(1, start=DAY_MS + HOUR_MS)  # the end is exclusive
    world.add(4, account="beta")
    export = world.ask()
    world.runner.step()
    world.add(7, start=DAY_MS + 500)  # after its snapshot
    world.settle(export)
    stored = [
        d.data for _, d in sorted(world.store._rows.values(), key=lambda v: v[1].timestamp) if d.account == "acme"
    ]
    assert world.lines(export) == [data for data in stored if data in set(world.lines(export))]
    assert len(world.lines(export)) == 5


@pytest.mark.parametrize("chunk", [1, 700, 1 << 20])
def test_manifest_says_what_the_object_holds(tmp_path: Path, chunk: int) -> None:
    world = World(tmp_path, chunk_bytes=chunk)
    world.add(20)
    export = world.settle(world.ask())
    lines = world.lines(export)
    manifest = world.manifest(export)
    text = b"".join(line + b"\n" for line in lines)
    assert manifest["records"] == len(lines) == 20
    assert (manifest["sha256"], manifest["bytes"]) == (hashlib.sha256(text).hexdigest(), len(text))
    path = world.target.open_path(export.id)
    assert path is not None
    assert manifest["bytes_compressed"] == path.stat().st_size
    assert (manifest["complete_from"], manifest["complete_until"]) == (
        "2024-01-01T00:00:00.000Z",
        "2024-01-02T00:00:00.000Z",
    )
    assert (manifest["incidents"], manifest["lost"], manifest["open"]) == (0, 0, 0)
    assert manifest["filters"] == {"accounts": ["acme"]}
    beside = world.target.open_path(export.id, manifest=True)
    assert beside is not None
    assert export.manifest == hashlib.sha256(beside.read_bytes()).hexdigest()
    world.close()


def test_files_are_for_their_owner_alone(world: World) -> None:
    world.add(2)
    world.settle(world.ask())
    assert {p.stat().st_mode & 0o777 for p in world.directory.iterdir()} == {0o600}
    assert world.directory.stat().st_mode & 0o777 == 0o700


def test_export_without_a_record_does_not_exist_and_leaves_nothing(world: World) -> None:
    export = world.settle(world.ask())
    assert export.state is State.DOES_NOT_EXIST
    assert world.files() == []


def test_window_that_ends_in_the_future_is_pending_until_it_has_passed(world: World) -> None:
    world.add(1)
    end = int(world.now * 1000) + HOUR_MS
    world.complete(end)
    export = world.ask(end=end)
    for _ in range(3):
        world.runner.step()
    found = world.get(export)
    assert (found.state, found.reason) == (
        State.PENDING,
        "it waits until its time range has passed, 2024-01-02T01:00:00.000Z",
    )
    world.now += 3600
    assert world.settle(export).state is State.COMPLETE


def test_export_waits_until_the_index_is_complete(world: World) -> None:
    world.complete(DAY_MS + HOUR_MS - 1)
    world.add(1)
    export = world.ask()
    for _ in range(3):
        world.runner.step()
    found = world.get(export)
    assert (found.state, found.reason) == (
        State.PENDING,
        "it waits until the index is complete until 2024-01-01T01:00:00.000Z",
    )
    world.complete(DAY_MS + HOUR_MS)
    assert world.settle(export).state is State.COMPLETE


def test_export_times_out_a_quarter_of_an_hour_after_the_later_of_request_and_end(world: World) -> None:
    world.complete(DAY_MS)
    world.store._holds = [Hold("p0", "it has no leader", DAY_MS), Hold("p1", "gone", DAY_MS, True)]
    early, late = world.ask(), world.ask(end=int(world.now * 1000) + HOUR_MS)
    world.now += PATIENCE_MS / 1000 - 0.001
    world.runner.step()
    assert world.get(early).state is State.PENDING
    world.now += 0.001
    world.runner.step()
    found = world.get(early)
    assert found.state is State.TIMED_OUT
    assert found.reason == (
        "the index is complete until 2024-01-01T00:00:00.000Z: partition p0; nothing is indexed yet"
    )
    assert world.get(late).state is State.PENDING
    world.now += 3600
    world.runner.step()
    assert world.get(late).state is State.TIMED_OUT
    assert world.files() == []


def test_reason_names_services_and_paths_to_who_may_see_every_account_alone(world: World) -> None:
    """A service may belong to another account, and the reason of a partition may be a path of the server."""
    world.complete(DAY_MS)
    world.store._holds = [Hold("journal", "the directory /srv/shop/journal is gone", DAY_MS)]
    theirs = record(1, DAY_MS, account="beta", service="beta-payments")
    world.store.write(Batch(source="t", records=[theirs], positions={"p": Position(1, b"")}))
    mine, all_of_them = world.ask(), world.ask(grant=Grant(key_id="k2", role="auditor", accounts=None))
    world.now += PATIENCE_MS / 1000
    world.runner.step()
    told, known = world.get(mine), world.get(all_of_them)
    assert {told.state, known.state} == {State.TIMED_OUT}
    process = str(uuid.UUID(bytes=theirs.process))
    for named in (process, "partition journal"):  # what the operator needs to know
        assert named in told.reason
    for hidden in ("beta", "/srv"):
        assert hidden not in told.reason
    for named in (f"process {process} of service beta-payments", "/srv/shop/journal"):
        assert named in known.reason


def test_what_was_read_stands_for_completeness_without_any_process_of_ours(world: World) -> None:
    world.complete(None)
    world.add(1)
    end = DAY_MS + HOUR_MS
    world.store.read_until(ReadUntil(end + 1999, end + 1999, 0, "", 0))
    export = world.ask()
    world.runner.step()
    assert world.get(export).state is State.PENDING
    world.store.read_until(ReadUntil(end + 2000, end + 2000, 0, "", 0))
    world.settle(export)
    assert world.manifest(export)["complete_until"] == "2024-01-01T01:00:00.000Z"


def test_another_runner_goes_on_without_a_byte_twice(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(30)
    export = world.ask()
    whole: list[bytes] = []
    for n in range(200):
        runner = world.new_runner()
        for _ in range(1 + n % 4):
            runner.step()
            if world.get(export).state in ENDED:
                break
        # As after kill -9: data that was written and not noted is on the disk.
        for job in list(runner._jobs.values()):
            with open(job.part.path, "ab") as file:
                file.write(b"torn" * n)
            job.part.close()
        if world.get(export).state in ENDED:
            break
    assert world.get(export).state is State.COMPLETE
    whole = world.lines(export)
    assert len(whole) == len(set(whole)) == 30
    text = b"".join(line + b"\n" for line in whole)
    assert world.manifest(export)["sha256"] == hashlib.sha256(text).hexdigest()
    world.close()


def test_object_is_begun_anew_when_its_part_is_not_what_was_noted(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(10)
    for harm in ("gone", "shorter", "changed"):
        export = world.ask()
        runner = world.new_runner()
        for _ in range(5):
            runner.step()
        runner.close()
        path = part_path(world.directory, export.id)
        data = path.read_bytes()
        assert data
        path.unlink()
        if harm != "gone":
            path.write_bytes(data[:-1] if harm == "shorter" else data[:20] + b"\x00" + data[21:])
        assert world.settle(export, world.new_runner()).state is State.COMPLETE
        assert len(set(world.lines(export))) == 10
    world.close()


def test_part_is_written_by_one_runner_at_a_time(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(10)
    export = world.ask()
    first, second = world.new_runner(), world.new_runner()
    while world.get(export).state not in ENDED:
        first.step()
        second.step()
    assert len(world.lines(export)) == 10
    assert not second._jobs
    assert world.files() == [f"{export.id}.manifest.json", f"{export.id}.ndjson.gz"]
    world.close()


@pytest.mark.parametrize("step", ["manifest", "object", "note"])
def test_completion_is_repeated_when_it_was_interrupted(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    world.add(3)
    export = world.ask()
    with monkeypatch.context() as patch:
        if step == "note":
            patch.setattr(Runner, "_complete", _raise(Killed()))
        else:
            replaced = os.replace

            def replace(source: Path, to: Path) -> None:
                if str(to).endswith("manifest.json" if step == "manifest" else "ndjson.gz"):
                    raise Killed
                replaced(source, to)

            patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            world.settle(export)
    for job in world.runner._jobs.values():
        job.part.close()
    assert world.get(export).state is State.CREATING
    assert world.settle(export, world.new_runner()).state is State.COMPLETE
    assert len(world.lines(export)) == 3
    assert world.files() == [f"{export.id}.manifest.json", f"{export.id}.ndjson.gz"]


def test_full_disk_ends_in_failed_and_gives_the_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(10)
    export = world.ask()
    for _ in range(5):
        world.runner.step()
    assert world.files() == [f"{export.id}.part"]
    monkeypatch.setattr(Part, "append", _raise(OSError(errno.ENOSPC, "No space left on device")))
    found = world.settle(export)
    assert (found.state, found.reason) == (State.FAILED, "the disk of the exports has too little free space for it")
    assert world.files() == []
    world.close()


def test_export_leaves_the_index_room_on_the_disk(tmp_path: Path) -> None:
    world = World(tmp_path, free_bytes_min=1 << 62)
    world.add(1)
    found = world.settle(world.ask())
    assert (found.state, found.reason) == (State.FAILED, "the disk of the exports has too little free space for it")
    world.close()


def test_end_that_cannot_be_noted_is_noted_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(1)
    export = world.ask()
    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", _raise(OSError(errno.ENOSPC, "No space left on device")))
        patch.setattr(type(world.exports), "end", _raise(StoreError("the disk is full")))
        with pytest.raises(StoreError):
            world.settle(export)
        assert world.files() == []
        assert world.get(export).state is State.PENDING
    world.runner.step()
    assert world.get(export).state is State.FAILED


class _Reader:
    def __init__(self, store: Any, fails: Callable[[], StoreError | None]) -> None:
        self._store, self._fails = store, fails

    def __getattr__(self, name: str) -> Any:
        if name != "close" and (error := self._fails()) is not None:
            raise error
        return getattr(self._store, name)


def test_index_that_cannot_be_read_is_tried_again_and_then_fails(world: World) -> None:
    world.add(1)
    export = world.ask()
    failure: list[StoreError | None] = [StoreError("busy")]
    runner = world.new_runner(lambda: cast(Reader, _Reader(world.store, lambda: failure[0])))
    for _ in range(5):
        runner.step()
    assert world.get(export).state is State.REQUESTED
    failure[0] = None
    assert world.settle(export, runner).state is State.COMPLETE
    again, failure[0] = world.ask(), StoreError("busy")
    runner.step()
    world.now += PATIENCE_MS / 1000
    runner.step()
    found = world.get(again)
    assert (found.state, found.reason) == (State.FAILED, "the index could not be read; the server's log has details")
    gone, failure[0] = world.ask(), StoreError("/secret/path is gone", retriable=False)
    runner.step()
    found = world.get(gone)
    assert (found.state, found.reason) == (State.FAILED, "the index could not be read; the server's log says why")


def test_export_fails_when_its_index_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(10)
    export = world.ask()
    for _ in range(4):
        world.runner.step()
    world.index = "another"
    world.runner.close()
    found = world.settle(export, world.new_runner(), steps=3)  # before it continues to read
    assert (found.state, found.reason) == (State.FAILED, "the index was replaced while its records were read")
    assert world.files() == []
    world.close()


def test_unexpected_error_fails_one_export_and_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add(1)
    export = world.ask()
    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", _raise(RuntimeError("hunter2")))
        found = world.settle(export)
    assert (found.state, found.reason) == (State.FAILED, "an unexpected error happened; the server's log has details")
    assert world.settle(world.ask()).state is State.COMPLETE


def test_target_that_refuses_for_good_fails_the_export(world: World) -> None:
    class Refusing(DirectoryTarget):
        retriable = False

        def put(self, *_: object) -> None:
            raise TargetError("no such bucket", retriable=self.retriable)

    world.add(1)
    target = Refusing(world.directory)
    found = world.settle(world.ask(), world.new_runner(target=target))
    assert (found.state, found.reason) == (State.FAILED, "its object could not be stored; the server's log says why")
    assert world.files() == []
    target.retriable = True
    export, runner = world.ask(), world.new_runner(target=target)
    for _ in range(10):
        runner.step()
    assert world.get(export).state is State.CREATING
    world.now += PATIENCE_MS / 1000
    assert world.settle(export, runner).state is State.FAILED
    assert world.files() == []


def test_what_has_ended_is_removed_after_the_days(world: World) -> None:
    world.add(1)
    export, none = world.settle(world.ask()), world.settle(world.ask(start=DAY_MS + HOUR_MS, end=DAY_MS + 2 * HOUR_MS))
    kept = world.ask(end=int(world.now * 1000) + 30 * 86_400_000)
    world.now += 7 * 86_400 - 0.001
    world.runner.step()
    assert world.get(export).state is State.COMPLETE
    assert len(world.files()) == 2
    world.now += 0.001
    assert world.exports.get(export.id, days=7) is None  # at once, whichever process removes it
    world.runner.step()
    assert world.files() == []
    assert world.exports.over(days=0) == []
    assert world.exports.get(none.id, days=100) is None
    assert world.get(kept).state is State.PENDING


def test_short_export_does_not_wait_for_a_long_one(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(60)
    world.add(2, service="short")
    long, short = world.ask(), world.ask(service="short")
    world.settle(short, steps=10)
    assert world.get(long).state is State.PENDING
    assert "records" in world.get(long).reason
    assert world.exports.totals_in_progress().records > 0
    world.close()


def test_exports_of_some_accounts_do_not_hold_up_those_of_others(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(20)
    world.add(2, account="beta")
    long = [world.ask() for _ in range(5)]
    other = world.ask(grant=replace(ACME, accounts=frozenset({"beta"})))
    world.settle(other, steps=10)
    states = [world.get(export) for export in long]
    assert sum(export.progress is not None for export in states) == JOBS_OF_ACCOUNTS_MAX
    waiting = {export.reason for export in states if export.progress is None}
    assert waiting == {"it waits for exports that were requested earlier"}
    for export in long:
        assert world.settle(export).state is State.COMPLETE
    world.close()


def test_runner_is_seen_while_it_beats_and_not_after_it_left(world: World) -> None:
    assert not world.exports.is_running()
    world.runner.step()
    assert world.exports.is_running()
    world.now += 60
    assert not world.exports.is_running()
    world.runner.step()
    assert world.exports.is_running()
    world.runner.close()
    assert not world.exports.is_running()


def test_manifest_says_what_a_purge_took_meanwhile(tmp_path: Path) -> None:
    world = World(tmp_path, chunk_bytes=1)
    world.add(10)
    export = world.ask()
    for _ in range(4):
        world.runner.step()
    horizon = extent(DAY_MS + 86_400_000, begins=DAY_MS + 1000)
    world.store.write(Batch(source="t", positions={}, completion=Completion(horizon, [], [])))
    world.settle(export)
    assert world.manifest(export)["complete_from"] == "2024-01-01T00:00:01.000Z"
    world.close()


def test_chunk_is_on_the_disk_before_it_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, advance = os.fdatasync, Exports.advance

    def syncing(fd: int) -> None:
        sync(fd)
        done.append("synced")

    def advancing(*given: Any, **named: Any) -> bool:
        done.append("noted")
        return advance(*given, **named)

    world = World(tmp_path, chunk_bytes=1)
    world.add(3)
    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr(Exports, "advance", advancing)
    world.settle(world.ask())
    assert done == ["synced", "noted"] * 3
    world.close()


def test_runner_that_looked_before_another_one_completed_the_export_changes_nothing(world: World) -> None:
    world.add(3)
    export = world.ask()
    late = world.new_runner()
    world.runner.step()
    seen = world.get(export)
    assert seen.state is State.PENDING
    assert seen.progress is not None
    world.settle(export)
    before = world.files()
    late._take_up(seen, seen.progress)
    assert world.files() == before
    assert not late._jobs
    late.close()


def test_object_that_is_completed_while_it_is_taken_up_is_whole(world: World) -> None:
    """Between our look and our lock another runner renamed the part and died before it could note this: the export is
    written again from the beginning."""

    class Late(DirectoryTarget):
        looks = 0

        def finished(self, id_: str) -> bytes | None:
            self.looks += 1
            return None if self.looks == 1 else super().finished(id_)

    world.add(3)
    export = world.ask()
    target = Late(world.directory)
    runner = world.new_runner(target=target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_complete", _raise(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.settle(export, runner)
    for job in runner._jobs.values():
        job.part.close()
    target.looks = 0
    late = world.new_runner(target=target)
    found = world.settle(export, late)
    assert found.state is State.COMPLETE
    assert len(world.lines(export)) == 3
    assert world.files() == [f"{export.id}.manifest.json", f"{export.id}.ndjson.gz"]
    late.close()


def test_part_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    code = (
        "import fcntl, sys\n"
        f"file = open({str(path)!r}, 'w+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(PartHeld):
            Part(path, PRIVATE)
        child.kill()
    Part(path, PRIVATE).close()


def _raise(error: BaseException) -> Any:
    def raising(*_: object, **__: object) -> None:
        raise error

    return raising
