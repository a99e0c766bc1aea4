"""Each problem is one line with advice; without problems no line is a warning."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import DAY_MS, OTHER, PROCESS, batch, payload, read_until, record

from asgi_audit.cli import main
from asgi_audit.cli.doctor import checks, command
from asgi_audit.cli.doctor.checks import Finding, file_system
from asgi_audit.cli.doctor.command import examine
from asgi_audit.control import Control
from asgi_audit.errors import StoreError
from asgi_audit.record.codec import decode
from asgi_audit.settings import Settings
from asgi_audit.store.base import Batch
from asgi_audit.store.sqlite import SqliteWriter
from asgi_audit.store.state import DeadLetter
from asgi_audit.transport.base import Entry, Kind, Position, ProcessFacts
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.kafka.topics import TopicFound

NOW = int(time.time() * 1000)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A durable disk, whatever file system the tests run on."""
    monkeypatch.setattr(checks, "file_system", lambda path, mounts=None: "ext4")
    return tmp_path


def examined(home: Path, **given: Any) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in examine(Settings(home=home, **given)):
        assert "\n" not in one.message
        assert one.do or one.level == "ok", "a warning says what to do"
        found.setdefault(one.about, []).append(one)
    return found


def worst(found: list[Finding]) -> Finding:
    return max(found, key=lambda one: ("ok", "warn", "bad").index(one.level))


def journal_of(home: Path, process: Any, count: int, at: int = NOW) -> JournalWriter:
    facts = ProcessFacts(process, "h", "app", at)
    writer = JournalWriter(home / "journal", facts, bytes_max=1 << 30, segment_bytes=1 << 20)
    for s in range(1, count + 1):
        writer.append([Entry(Kind.RECORD, s, payload(s, at, process=process))])
    return writer


def test_all_is_ok_when_all_is_well(home: Path) -> None:
    journal = journal_of(home, PROCESS, 3)
    writer = SqliteWriter(home / "index")
    source = JournalSource(home / "journal")
    source.open({})
    taken = source.poll(10, 0)
    records = [decode(m.payload) for m in taken.messages]
    writer.write(
        Batch(source="journal", records=records, positions=taken.positions, read_until=read_until(time.time()))
    )
    control = Control(home / "control.db")
    _, key = control.create_key("reader", "*")
    assert control.authenticate(key) is not None
    control.close()
    try:
        found = examined(home)
        assert {one.level for many in found.values() for one in many} == {"ok"}, found
        assert list(found) == [
            "settings", "journal", "processes", "clock", "index", "lease", "access", "keys", "dead letters",
            "completeness",
        ]  # fmt: skip
        assert found["lease"][0].message == "held by this very process"
        assert "3 records ever, 1 day from" in found["index"][1].message
        assert key not in repr(found)
    finally:
        source.close()
        writer.close()
        journal.close()


def test_nothing_yet_warns_and_makes_nothing(home: Path) -> None:
    found = examined(home)
    assert worst(found["index"]).message == "nothing is indexed yet"
    assert worst(found["keys"]).level == "warn"
    assert list(home.iterdir()) == []
    assert examined(home, enabled=False)["settings"][0].level == "warn"


def test_dead_process_and_late_records_are_warned_of(home: Path) -> None:
    now = int(time.time() * 1000)
    journal_of(home, PROCESS, 5, at=now - 300_000).close()
    alive = journal_of(home, OTHER, 1, at=now)
    found = examined(home)["processes"]
    assert found[0].message == "1 alive"
    assert found[1].level == found[2].level == "warn"
    assert found[1].message.startswith("1 dead, whose journals are not taken over yet (")
    assert found[2].message == "the oldest record that is not indexed waits for 5 minutes"
    alive.close()


@pytest.mark.parametrize(("count", "level"), [(20, "ok"), (1000, "warn"), (1700, "bad")])
def test_share_of_the_journals_bound_decides(home: Path, count: int, level: str) -> None:
    journal_of(home, PROCESS, count, at=NOW).close()
    found = examined(home, journal_bytes_max=1 << 20)["journal"]
    assert worst(found).level == level, found
    assert "of 1 MiB used" in found[1].message


@pytest.mark.parametrize(
    ("free", "journal", "text"),
    [
        (1 << 20, "bad", "only 1 MiB free"),
        (100 << 20, "warn", "only 100 MiB free"),
        (300 << 20, "warn", "which fills up before"),
    ],
)
def test_free_space_decides(home: Path, free: int, journal: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal_of(home, PROCESS, 1).close()
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("asgi_audit.cli.doctor.checks.shutil.disk_usage", lambda _: usage)
    found = worst(examined(home)["journal"])
    assert found.level == journal
    assert text in found.message


@pytest.mark.parametrize(
    ("kind", "level"), [("tmpfs", "warn"), ("overlay", "warn"), ("nfs4", "bad"), ("xfs", "ok"), ("", "ok")]
)
def test_file_system_decides(home: Path, kind: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "file_system", lambda path: kind)
    found = examined(home)
    assert found["journal"][0].level == found["index"][0].level == level


def test_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    real = str(tmp_path.resolve())
    mounts = (
        "22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw\n"
        f"23 22 0:21 / {real} rw - ext4 /dev/sda1 rw\n"
        f"24 22 0:22 / {real}/with\\040space rw - xfs /dev/sdb rw\n"
        f"25 22 0:23 / {real}-beside rw - tmpfs tmpfs rw\n"
        "not a line of it\n"
    )
    assert file_system(tmp_path / "journal", mounts) == "ext4"
    assert file_system(tmp_path / "with space" / "a", mounts) == "xfs"
    assert file_system(Path("/elsewhere"), mounts) == "overlay"
    assert file_system(tmp_path, mounts + f"26 23 0:24 / {real} rw - tmpfs tmpfs rw\n") == "tmpfs"
    assert file_system(tmp_path, "") == ""


def test_clock_warns_of_what_lies_in_the_future(home: Path) -> None:
    ahead = time.time() + 7500
    writer = SqliteWriter(home / "index", clock=lambda: ahead + 5 * 86_400)
    writer.write(batch([record(1, NOW + 3 * DAY_MS)], read_until=read_until(ahead)))
    writer.close()
    journal_of(home, PROCESS, 1).close()
    (segment,) = (home / "journal" / str(PROCESS)).glob("*.seg")
    os.utime(segment, (ahead, ahead))
    messages = [one.message for one in examined(home)["clock"]]
    assert len(messages) == 3, messages
    assert "journal was written to 2 hours in the future" in messages[0]
    assert "records of" in messages[1]
    assert "2 hours ahead" in messages[2]


def test_clock_warns_when_it_jumps_while_it_is_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([1000.0, 1003.1] + [1003.2] * 50)
    monkeypatch.setattr("asgi_audit.cli.doctor.checks.time.time", lambda: next(times))
    found = list(checks.clock(Settings(home=home)))
    # The clock advances between the two looks, and a busy machine is slow.
    assert re.fullmatch(r"the clock jumped by \+(2\.[89]|3\.[01])\d s just now", found[0].message), found[0].message


def test_index_that_nobody_feeds_is_warned_of(home: Path) -> None:
    writer = SqliteWriter(home / "index")
    writer.write(batch([record(1, NOW)], read_until=read_until(time.time() - 600)))
    writer.purge(NOW)
    writer.close()
    found = examined(home)
    assert found["index"][2].message == "records of the last 10 minutes may not be indexed yet"
    assert "purged before " in found["index"][1].message
    assert (found["lease"][0].level, found["lease"][0].message) == ("bad", "no indexer runs")


def test_indexer_that_holds_the_lease_and_does_not_move_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_LOOK_SECONDS", 0.3)
    writer = SqliteWriter(home / "index")
    writer.write(batch([record(1, NOW)], read_until=read_until(time.time() - 600)))
    try:
        found = worst(examined(home)["lease"])
    finally:
        writer.close()
    assert found.level == "bad"
    assert found.message == "the indexer, this very process, holds the lease but has read nothing for 10 minutes"


def test_indexer_that_catches_up_is_no_matter_of_the_lease(home: Path) -> None:
    """Its fence is as old, but its positions advance during the check."""
    writer = SqliteWriter(home / "index")
    writer.write(batch([record(1, NOW)], read_until=read_until(time.time() - 600)))
    stop = threading.Event()

    def index() -> None:
        for n in itertools.count(2):
            if stop.wait(0.05):
                return
            writer.write(batch([record(n, NOW)], following=n))

    thread = threading.Thread(target=index)
    thread.start()
    try:
        assert {one.level for one in examined(home)["lease"]} == {"ok"}
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_journal_that_waits_for_its_first_indexer_is_bad(home: Path) -> None:
    journal_of(home, PROCESS, 3).close()
    (found,) = examined(home)["lease"]
    assert (found.level, found.message.endswith(" of the journal wait for it")) == ("bad", True)


def test_what_keeps_several_checks_from_looking_is_said_once(home: Path) -> None:
    def index(_: Settings) -> Iterator[Finding]:
        raise StoreError("the index is gone", hint="Mount it.")
        yield

    def lease(_: Settings) -> Iterator[Finding]:
        raise StoreError("the index is gone", hint="Mount it.")
        yield

    def other(_: Settings) -> Iterator[Finding]:
        raise StoreError("something else")
        yield

    found = list(examine(Settings(home=home), [index, lease, other]))
    assert [(f.level, f.about, f.message) for f in found] == [
        ("bad", "index", "the index is gone"),
        ("bad", "other", "something else"),
        ("bad", "not checked", "lease: see 'index'"),
    ]


def test_index_that_is_fed_from_kafka_is_not_taken_for_one_of_the_journal(home: Path) -> None:
    """`serve --from kafka://…` was a flag, which these settings do not contain."""
    writer = SqliteWriter(home / "index")
    writer.write(Batch(source="kafka:abc:audit-records", records=[record(1, NOW)], positions={"0": Position(1, b"")}))
    writer.close()
    (found,) = examined(home)["source"]
    assert (found.level, found.message) == (
        "warn",
        "the index reads the Kafka topic audit-records, but these settings have no Kafka address",
    )
    assert found.do == "Use the same address as `serve`: --from kafka://host:port/audit-records."


def test_partitions_without_a_leader_are_a_sentence() -> None:
    topic = TopicFound("c", 3, 6, 3, 3, 0, {})
    assert topic.without_leader == ""
    assert topic._replace(leaderless=1).without_leader == "1 partition has no leader: their records wait in the journal"
    assert topic._replace(leaderless=2).without_leader.startswith("2 partitions have no leader: ")


@pytest.mark.parametrize(
    ("level", "strict", "code"), [("ok", True, 0), ("warn", False, 0), ("warn", True, 1), ("bad", False, 1)]
)
def test_strict_makes_warnings_failures(
    home: Path, level: Any, strict: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "examine", lambda settings: [Finding(level, "x", "y", "z")])
    arguments = ["doctor", "--home", str(home), *(["--strict"] if strict else [])]
    assert main(arguments) == code


def test_damaged_main_db_is_bad_and_the_other_checks_go_on(home: Path) -> None:
    writer = SqliteWriter(home / "index")
    for n in range(200):
        writer.write(batch([record(1, NOW, account=f"account-{n}", process=None, identity=str(n))]))
    writer.close()
    path = home / "index" / "main.db"
    with path.open("r+b") as f:
        f.seek(16384)
        f.write(b"\xaa" * (path.stat().st_size - 16384))
    found = examined(home)
    assert worst(found["index"]).level == "bad"
    assert "keys" in found


def test_dead_letters_are_named_by_their_newest_reasons(home: Path) -> None:
    writer = SqliteWriter(home / "index")
    writer.write(batch(dead_letters=[DeadLetter("s", "p", n, f"reason {n % 2}", b"secret") for n in range(1200)]))
    writer.close()
    (found,) = examined(home)["dead letters"]
    assert (found.level, found.message) == ("warn", "1,200; newest: reason 1 | reason 0")


def test_keys_that_were_never_used_are_named(home: Path) -> None:
    control = Control(home / "control.db")
    unused = control.create_key("reader", "*")[0]
    control.close()
    assert examined(home)["keys"][-1].message == f"1 active, 0 revoked; never used: {unused}"


@pytest.mark.parametrize("make", [lambda p: p.write_text("x"), lambda p: (p.parent.mkdir(exist_ok=True), p.touch())])
def test_directory_that_is_none_is_bad(home: Path, make: Callable[[Path], Any]) -> None:
    make(home / "journal")
    assert examined(home)["journal"][0].level == "bad"


def test_check_that_fails_does_not_keep_the_next_from_looking(home: Path) -> None:
    def breaks(_: Settings) -> Iterator[Finding]:
        raise RuntimeError("unforeseen")
        yield

    def works(_: Settings) -> Iterator[Finding]:
        yield Finding("ok", "works", "fine")

    first, second = examine(Settings(home=home), [breaks, works])
    assert (first.level, first.about, first.message) == ("bad", "breaks", "could not check: RuntimeError: unforeseen")
    assert second == Finding("ok", "works", "fine")


def test_records_that_go_to_memory_have_no_journal_to_look_at(home: Path) -> None:
    found = examined(home, transport="memory://")
    assert "journal" not in found
    assert "processes" not in found
