"""Keys: created once, stored hashed, compared in constant time, revocable at once; the file is private and survives
misuse."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.waiting import until

from asgi_audit.control import Control
from asgi_audit.control.database import open_frozen, store_errors
from asgi_audit.errors import ConfigError, StoreError


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(tmp_path / "home" / "control.db")
    yield made
    made.close()


@pytest.fixture
def unused(control: Control) -> Control:
    """Notes no uses, which a thread would write to the file at any time."""
    control._uses.close()
    return control


def test_key_authenticates_with_role_and_accounts_when_right(control: Control) -> None:
    key_id, text = control.create_key("reader", ["b", "a"])
    assert text.startswith(f"aa_{key_id}_")
    assert len(text.split("_", 2)[2]) >= 43  # 32 bytes in base64
    grant = control.authenticate(text)
    assert grant is not None
    assert (grant.key_id, grant.role, grant.accounts) == (key_id, "reader", frozenset({"a", "b"}))
    _, everything = control.create_key("auditor", "*")
    grant = control.authenticate(everything)
    assert grant is not None
    assert (grant.role, grant.accounts) == ("auditor", None)


def test_key_is_recalled_until_anybody_writes_to_the_file(unused: Control) -> None:
    """A look-up is remembered until any process writes the file: a revocation takes effect with the next request."""
    key_id, text = unused.create_key("reader", ["a"])
    other_id, other = unused.create_key("auditor", "*")
    assert unused.recall(text) is None
    for elsewhere in (unused, Control(unused.path)):
        grant = unused.authenticate(text)
        assert unused.authenticate(other) is not None
        assert grant is not None
        assert unused.recall(text) == grant
        assert unused.recall(text[:-1]) is None
        assert unused.recall("é" + text) is None
        elsewhere.revoke(other_id)
        elsewhere.create_key("reader", ["b"])
        assert unused.recall(text) is None
        assert unused.recall(other) is None
        assert unused.authenticate(text) == grant
        assert unused.recall(text) == grant
        _, other = unused.create_key("auditor", "*")
    elsewhere.revoke(key_id)
    elsewhere.close()
    assert unused.recall(text) is None
    assert unused.authenticate(text) is None


def test_key_is_not_recalled_when_another_process_has_revoked_it(unused: Control) -> None:
    key_id, text = unused.create_key("reader", ["a"])
    assert unused.authenticate(text) is not None
    assert unused.recall(text) is not None
    code = f"from asgi_audit.control import Control; Control({str(unused.path)!r}).revoke({key_id!r})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert unused.recall(text) is None
    assert unused.authenticate(text) is None


def test_key_is_not_recalled_as_of_later_when_it_was_revoked_while_it_was_looked_up(
    unused: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, text = unused.create_key("reader", ["a"])
    read = unused._read

    def reading(*given: Any) -> list[Any]:
        found = read(*given)
        unused.revoke(key_id)
        return found

    monkeypatch.setattr(unused, "_read", reading)
    assert unused.authenticate(text) is not None
    assert unused.recall(text) is None


def test_recall_does_not_wait_when_another_look_up_runs(unused: Control) -> None:
    _, text = unused.create_key("reader", ["a"])
    assert unused.authenticate(text) is not None
    with unused._lock:
        assert unused.recall(text) is None
    assert unused.recall(text) is not None


def test_few_keys_of_few_accounts_are_recalled(unused: Control) -> None:
    _, many = unused.create_key("reader", [f"account-{n}" for n in range(65)])
    assert unused.authenticate(many) is not None
    assert unused.recall(many) is None
    texts = [unused.create_key("reader", [f"account-{n}" for n in range(64)])[1] for _ in range(257)]
    assert all(unused.authenticate(text) for text in texts)
    assert [unused.recall(text) is None for text in texts] == [True] * 256 + [False]


def test_closed_control_recalls_nothing(unused: Control) -> None:
    _, text = unused.create_key("reader", ["a"])
    assert unused.authenticate(text) is not None
    unused.close()
    assert unused.recall(text) is None


def test_key_is_refused_when_wrong_malformed_or_of_another_id(control: Control) -> None:
    key_id, text = control.create_key("reader", ["a"])
    other_id, _ = control.create_key("reader", ["a"])
    secret = text.split("_", 2)[2]
    wrong = [
        "",
        "aa_",
        "aa__",
        f"aa_{key_id}_",
        f"aa_{key_id}",
        text[:-1],
        text + "x",
        f"aa_{other_id}_{secret}",
        f"aa_{'0' * 12}_{secret}",
        text.upper(),
        text + "é",
        "aa_" + "x" * 10_000,
        f"aa_{key_id}_\x00",
    ]
    assert [t for t in wrong if control.authenticate(t) is not None] == []


def test_database_holds_no_secret_in_clear(control: Control) -> None:
    _, text = control.create_key("reader", ["a"])
    secret = text.split("_", 2)[2]
    files = [p.read_bytes() for p in control.path.parent.iterdir()]
    assert any(b"reader" in data for data in files)
    assert not any(secret.encode() in data for data in files)


def test_revoked_key_is_refused_at_once_when_another_process_revokes(control: Control) -> None:
    key_id, text = control.create_key("reader", ["a"])
    assert control.authenticate(text) is not None
    elsewhere = Control(control.path)
    elsewhere.revoke(key_id)
    elsewhere.revoke(key_id)
    elsewhere.close()
    assert control.authenticate(text) is None
    [listed] = control.list_keys()
    assert listed.revoked_at is not None
    with pytest.raises(ConfigError, match="no key has the id 'nope'"):
        control.revoke("nope")


@pytest.mark.parametrize(
    ("role", "accounts"),
    [("admin", ["a"]), ("reader", []), ("reader", [""]), ("reader", ["a", "*"]), ("reader", ["a\n"]), ("reader", "")],
)
def test_create_key_names_what_is_wrong(control: Control, role: str, accounts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"accepted|at least one"):
        control.create_key(role, accounts)
    assert control.list_keys() == []


def test_last_use_is_recorded_once_a_minute(tmp_path: Path) -> None:
    wall, mono = [1_000_000.0], [5.0]
    control = Control(tmp_path / "control.db", clock=lambda: wall[0], monotonic=lambda: mono[0])
    _, text = control.create_key("reader", ["a"])
    assert control.list_keys()[0].last_used_at is None
    seen = []
    for step in (0.0, 59.0, 61.0):
        wall[0], mono[0] = 1_000_100.0 + step, 5.0 + step
        assert control.authenticate(text) is not None
        if control._uses._writer is not None:
            control._uses._writer.submit(lambda: None).result()  # queued after the job that writes
        last = control.list_keys()[0].last_used_at
        assert last is not None
        seen.append(last.timestamp() - 1_000_100.0)
    control.close()
    assert seen == [0.0, 0.0, 61.0]


def test_authenticate_is_neither_slow_nor_failing_when_another_process_holds_the_write_lock(control: Control) -> None:
    _, text = control.create_key("reader", ["a"])
    holder = apsw.Connection(str(control.path))
    holder.execute("BEGIN IMMEDIATE")
    done: list[bool] = []
    asking = threading.Thread(target=lambda: done.append(control.authenticate(text) is not None))
    asking.start()
    asking.join(60)
    assert done == [True], "while the other holds the lock"
    holder.execute("ROLLBACK")
    holder.close()


def test_no_look_up_waits_behind_a_write_that_waits_for_another_process(control: Control) -> None:
    key_id, text = control.create_key("auditor", ["a"])
    holder = apsw.Connection(str(control.path))
    holder.execute("BEGIN IMMEDIATE")
    opened: list[str] = []

    def work() -> None:
        while not opened:
            with contextlib.suppress(StoreError):  # it waits 2 s at most
                opened.append(control.sessions.open(key_id))

    opening = threading.Thread(target=work)
    opening.start()
    until(control._write_lock.locked, "the write waits")
    assert control.authenticate(text) is not None
    assert control.sessions.find("none") is None
    assert opened == []
    holder.execute("ROLLBACK")
    holder.close()
    opening.join(60)
    assert control.sessions.find(opened[0]) is not None


def test_control_reads_when_disk_is_read_only() -> None:
    """Goal: the API still works on a machine whose disk became read-only. Another user without write permission
    replaces the read-only disk, because permissions do not restrict root."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        control = Control(home / "control.db")
        _, text = control.create_key("reader", ["a"])
        secret = control.secret()
        control.close()
        (home / "control.db").chmod(0o444)
        home.chmod(0o555)
        code = (
            "import os, sys; from asgi_audit.control import Control; from asgi_audit.errors import StoreError\n"
            "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "c = Control(sys.argv[1])\n"
            "print(c.authenticate(sys.argv[2]).role, c.authenticate('aa_0_0'), c.secret().hex())\n"
            "try: c.create_key('reader', ['a'])\n"
            "except StoreError as e: print(e.retriable, e)\n"
        )
        try:
            done = subprocess.run(
                [sys.executable, "-c", code, str(home / "control.db"), text], capture_output=True, text=True, timeout=60
            )
        finally:
            home.chmod(0o755)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == f"reader None {secret.hex()}"
    assert second == f"False {home / 'control.db'} is read-only"


def test_secret_is_the_same_when_many_processes_ask_first(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    secrets: list[bytes] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        control = Control(path)
        secrets.append(control.secret())
        control.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(secrets) == 8
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32


def test_files_are_private_when_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        control = Control(tmp_path / "made" / "control.db")
        control.secret()
        modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "made").iterdir()}
        assert modes == {0o600}
        assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
        control.close()
    finally:
        os.umask(before)


def test_files_are_private_when_the_home_is_everybodys(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "control.db").touch()
    (tmp_path / "control.db").chmod(0o644)  # of an earlier version, or created by an operator
    control = Control(tmp_path / "control.db")
    control.secret()
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}
    control.close()


def test_control_refuses_a_link_in_place_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "control.db").symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="symbolic link"):
        Control(tmp_path / "control.db")
    assert not (tmp_path / "target").exists()


def test_locks_of_an_open_connection_stay_when_the_file_is_opened_again(control: Control) -> None:
    """Closing any descriptor of a file frees all locks that the process holds on it. Opening it to set its mode took
    SQLite's lock from every connection of this process."""
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"

    def may_be_locked() -> bool:
        return (
            subprocess.run([sys.executable, "-c", code, control.path], capture_output=True, timeout=60).returncode == 0
        )

    control.secret()
    assert not may_be_locked()
    second = Control(control.path)
    assert not may_be_locked()
    second.close()


def test_control_raises_one_clear_error_when_file_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="not a database") as caught:
        Control(tmp_path / "control.db")
    assert not caught.value.retriable
    (tmp_path / "dir").mkdir()
    with pytest.raises(StoreError, match="opening the keys in"):
        Control(tmp_path / "dir")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="opening the keys in"):
        Control(tmp_path / "file" / "control.db")


def test_control_refuses_when_schema_is_newer(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "control.db"))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(StoreError, match="has schema 99"):
        Control(tmp_path / "control.db")


def _of_version_1(path: Path) -> Path:
    """A file as asgi-audit 0.1.0 created it, with times in microseconds: `aa_000000000001_old` is in use, the other key
    is revoked."""
    connection = apsw.Connection(str(path))
    connection.execute("""
        CREATE TABLE keys (
            id TEXT PRIMARY KEY NOT NULL, hash BLOB NOT NULL, role TEXT NOT NULL, accounts TEXT NOT NULL,
            created_us INTEGER NOT NULL, revoked_us INTEGER, last_used_us INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE secrets (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO secrets VALUES ('tokens', zeroblob(32));
        PRAGMA user_version = 1;
    """)
    secret = hashlib.sha256(b"old").digest()
    connection.executemany(
        "INSERT INTO keys VALUES (?, ?, 'reader', '[\"a\"]', ?, ?, ?)",
        [
            ("000000000001", secret, 1_700_000_000_123_456, None, 1_700_000_060_999_999),
            ("000000000002", secret, 1_700_000_000_123_999, 1_700_000_100_000_001, None),
        ],
    )
    connection.close()
    return path


def _seen_of(control: Control) -> list[tuple[object, ...]]:
    assert control.secret() == bytes(32)
    assert control.authenticate("aa_000000000002_old") is None
    keys = [(key.id, key.created_at, key.revoked_at, key.last_used_at) for key in control.list_keys()]
    assert control.authenticate("aa_000000000001_old") is not None
    return keys


_OF_VERSION_1 = [
    (
        "000000000001",
        datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
        None,
        datetime(2023, 11, 14, 22, 14, 20, 999_000, tzinfo=UTC),
    ),
    (
        "000000000002",
        datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC),
        datetime(2023, 11, 14, 22, 15, tzinfo=UTC),
        None,
    ),
]


def test_file_of_version_1_is_brought_to_milliseconds_once_when_many_open_it(tmp_path: Path) -> None:
    path = _of_version_1(tmp_path / "control.db")
    opened: list[Control] = []
    threads = [threading.Thread(target=lambda: opened.append(Control(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len(opened) == len(threads)
        assert _seen_of(opened[0]) == _OF_VERSION_1
    finally:
        for control in opened:
            control.close()


def test_file_of_version_1_is_read_as_it_is_when_the_disk_is_read_only(tmp_path: Path) -> None:
    path = _of_version_1(tmp_path / "control.db")
    before = path.read_bytes()
    with open_frozen(path) as connection:
        rows = connection.execute("SELECT id, created_ms, revoked_ms, last_used_ms FROM keys ORDER BY id").fetchall()
        for later in ("sessions", "exports", "export_runners"):
            assert connection.execute(f"SELECT * FROM {later}").fetchall() == []
    assert rows == [
        ("000000000001", 1_700_000_000_123, None, 1_700_000_060_999),
        ("000000000002", 1_700_000_000_123, 1_700_000_100_000, None),
    ]
    assert path.read_bytes() == before


def test_every_vendor_exception_becomes_a_store_error(tmp_path: Path) -> None:
    kinds: list[type[BaseException]] = [apsw.Error]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) > 30
    for kind in kinds:
        with pytest.raises(StoreError, match=kind.__name__), store_errors("testing", tmp_path):
            raise kind("x")


def test_closed_control_says_so(control: Control) -> None:
    _, text = control.create_key("reader", ["a"])
    control.close()
    control.close()
    with pytest.raises(StoreError, match="is closed"):
        control.authenticate(text)
