"""The small parts of the SQLite store: error table, frames and dictionary, lease, `fence`, names and tokens."""

from __future__ import annotations

import errno
import itertools
import os
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
import zstandard
from tests.support.synthetic import synthetic_records

from asgi_audit.errors import StoreError
from asgi_audit.store.sqlite import SqliteWriter, codec, retention
from asgi_audit.store.sqlite.codec import DICTIONARY_ID, Compressor, Decompressor
from asgi_audit.store.sqlite.errors import MAPPED, translated
from asgi_audit.store.sqlite.fence import FENCE_NAME, FenceFile, read_fence
from asgi_audit.store.sqlite.lease import LEASE_NAME, Lease
from asgi_audit.store.sqlite.packing import pack_hex, pack_uuid, unpack_hex, unpack_uuid
from asgi_audit.store.sqlite.schema import VERSION, check_version, create, day_of_name, token
from asgi_audit.store.state import ReadUntil


def _all_below(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(_all_below(s) for s in cls.__subclasses__()))


def test_every_exception_of_apsw_is_mapped() -> None:
    assert _all_below(apsw.Error) - {apsw.Error} == set(MAPPED)


@pytest.mark.parametrize("cls", sorted(MAPPED, key=lambda c: c.__name__))
def test_apsw_error_becomes_a_chained_store_error(cls: type[Exception]) -> None:
    with pytest.raises(StoreError) as caught, translated("write", Path("x.db")):
        raise cls("what SQLite said")
    assert str(caught.value) == f"could not write x.db: {cls.__name__}: what SQLite said"
    assert (caught.value.retriable, caught.value.hint) == MAPPED[cls]
    assert type(caught.value.__cause__) is cls


def test_full_disk_and_locks_are_retriable_and_damage_is_not() -> None:
    assert all(
        MAPPED[c][0] for c in (apsw.FullError, apsw.BusyError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError)
    )
    assert not any(MAPPED[c][0] for c in (apsw.CorruptError, apsw.NotADBError, apsw.SQLError))


def test_io_error_is_not_retriable_when_the_data_is_damaged() -> None:
    e = apsw.IOError("checksum")
    e.extendedresult = 10 | 32 << 8  # SQLITE_IOERR_DATA
    with pytest.raises(StoreError) as caught, translated("read", Path("x.db")):
        raise e
    assert not caught.value.retriable


def test_os_error_is_retriable_and_other_exceptions_pass() -> None:
    with pytest.raises(StoreError) as caught, translated("write", Path("x")):
        raise OSError(28, "No space left on device")
    assert caught.value.retriable
    with pytest.raises(KeyError), translated("write", Path("x")):
        raise KeyError


def test_frame_names_its_dictionary_and_gives_the_bytes_back() -> None:
    compress, decompress = Compressor().compress, Decompressor()
    records = list(synthetic_records(99, 200))
    frames = compress(records)
    assert [decompress(f) for f in frames] == records
    assert {zstandard.get_frame_parameters(f).dict_id for f in frames} == {DICTIONARY_ID}
    # 18 % measured; without the dictionary 45 %.
    assert sum(map(len, frames)) < 0.25 * sum(map(len, records))
    assert decompress(zstandard.ZstdCompressor().compress(b"no dictionary")) == b"no dictionary"


def test_frame_of_the_first_dictionary_is_read_as_ever() -> None:
    data = zstandard.ZstdCompressionDict(Path(codec.__file__).with_name("records.dict").read_bytes())
    assert data.dict_id() == 42_449
    assert Decompressor()(zstandard.ZstdCompressor(dict_data=data).compress(b"as it was")) == b"as it was"


def test_newest_dictionary_knows_the_mask_of_today() -> None:
    data = Path(codec.__file__).with_name(codec._FILES[DICTIONARY_ID]).read_bytes()
    assert b"[REDACTED]" in data
    assert b"[redacted]" not in data


def test_frame_is_refused_when_damaged_or_of_an_unknown_dictionary() -> None:
    frame = bytearray(Compressor().compress([b"x" * 50 + os.urandom(200)])[0])
    frame[len(frame) // 2] ^= 1
    with pytest.raises(StoreError, match="damaged"):
        Decompressor()(bytes(frame))
    records: list[bytes | bytearray | memoryview] = list(synthetic_records(3, 300))
    other = zstandard.train_dictionary(2048, records, dict_id=40_000)
    with pytest.raises(StoreError, match="dictionary 40000"):
        Decompressor()(zstandard.ZstdCompressor(dict_data=other).compress(b"y" * 100))


@pytest.mark.parametrize("name", sorted(codec._FILES.values()))
def test_dictionary_holds_only_made_up_names(name: str) -> None:
    """Goal: the dictionary is never trained on real data by mistake. Method: everything in it that looks like an
    address is a reserved one."""
    data = Path(codec.__file__).with_name(name).read_bytes()
    assert not re.findall(rb"[\w.]+@[\w.]+", data)
    hosts = set(re.findall(rb"[a-z0-9]+\.example\.(?:com|org)", data))
    assert set(re.findall(rb"[a-z0-9.]+\.(?:com|org|net)\b", data)) <= hosts | {b"example.com", b"example.org"}
    addresses = set(re.findall(rb"(?<![\d./])\d{1,3}(?:\.\d{1,3}){3}", data))
    assert all(a.startswith((b"192.0.2.", b"10.0.0.")) for a in addresses), addresses


def test_token_is_one_word_of_the_tokenizer() -> None:
    memory = apsw.Connection(":memory:")
    tokenize = memory.fts5_tokenizer("unicode61", [])
    for value, version in itertools.product(("acme-eu", "", "é", "\ud800", "x" * 10_000), (1, 2)):
        word = token("a", value, version)
        assert re.fullmatch("a[0-9a-f]{16}" if version == 1 else "a[0-9a-f]{10}", word)
        words = tokenize(word.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
        assert list(words) == [word]
    assert token("a", "x") != token("s", "x")[1:]
    memory.close()


@pytest.mark.parametrize(
    "text",
    [
        "3f1043be-5a85-8d58-70b4-dc58bae32691", "3F1043BE-5a85-8d58-70b4-dc58bae32691", "0" * 32, "f" * 32,
        "F" * 32, "",
        "3f1043be5a858d5870b4dc58bae32691", "3f1043be-5a85-8d58-70b4-dc58bae3269 ",
        "3f1043be-5a85-8d58-70b4-dc58bae3269g",
        "3f1043be 5a85 8d58 70b4 dc58bae32691", "  1043be-5a85-8d58-70b4-dc58bae32691", "\ud800", "٣" * 32,
        "-" * 36, "3f1043be-5a85-8d58-70b4--c58bae32691",
    ],
)  # fmt: skip
def test_id_is_packed_and_comes_back(text: str) -> None:
    """No two ids have the same packed form, because a filter compares packed forms."""
    for pack, unpack in ((pack_uuid, unpack_uuid), (pack_hex, unpack_hex)):
        packed = pack(text)
        assert unpack(packed) == text
        assert len(packed) == 16 or packed == text
    assert pack_uuid("3f1043be-5a85-8d58-70b4-dc58bae32691") == pack_hex("3f1043be5a858d5870b4dc58bae32691")


def test_day_of_name_accepts_day_files_only() -> None:
    assert day_of_name("day-2026-11-22.db") == "2026-11-22"
    for name in ("day-2026-11-22.db-wal", "day-2026-13-22.db", "main.db", "day-2026-1-22x.db", "xday-2026-11-22.db"):
        assert day_of_name(name) is None


def test_fence_is_what_was_written_last_and_never_when_torn(tmp_path: Path) -> None:
    assert read_fence(tmp_path) is None
    file = FenceFile(tmp_path)
    assert read_fence(tmp_path) is None
    mark = ReadUntil(1_700_000_000_125, 1_700_000_000_200, 55, "0b5d7c9a-9a3a-4a3e-9a0e-4b1d9d8f7c11", 77)
    file.write(7, mark)
    assert read_fence(tmp_path) == (7, mark)
    back = ReadUntil(1_600_000_000_000, 1_600_000_000_000, 60, "", 80)  # the clock was set back
    file.write(8, back)
    assert read_fence(tmp_path) == (8, back)
    with (tmp_path / FENCE_NAME).open("r+b") as f:
        f.seek(3)
        f.write(b"\xff")
    assert read_fence(tmp_path) is None
    file.close()


def test_lease_is_refused_when_this_process_holds_it(tmp_path: Path) -> None:
    first = Lease(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for directory in (tmp_path, link):
        with pytest.raises(StoreError, match=r"another indexer holds the lease .*this very process") as caught:
            Lease(directory)
        assert caught.value.retriable
    # The refused attempts must not have freed it: POSIX frees a lock when any descriptor of the file is closed.
    assert _other_process(tmp_path).startswith("refused")
    first.close()
    Lease(tmp_path).close()


def test_lease_names_its_holder_and_is_free_when_the_holder_dies(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from asgi_audit.store.sqlite.lease import Lease; "
        "lease = Lease(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} on "):
            Lease(tmp_path)
        holder.kill()
        holder.wait()
        Lease(tmp_path).close()


def test_lease_is_taken_by_the_standby_when_it_is_freed(tmp_path: Path) -> None:
    first = Lease(tmp_path)
    timer = threading.Timer(0.15, first.close)
    timer.start()
    Lease(tmp_path, wait_seconds=60).close()
    timer.join()


def test_lease_stops_waiting_when_told(tmp_path: Path) -> None:
    first = Lease(tmp_path)
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with pytest.raises(StoreError):
        Lease(tmp_path, wait_seconds=3600, stop=stop)  # longer than this test may take
    timer.join()
    first.close()


def test_lease_is_taken_and_freed_when_the_disk_has_no_room_for_its_text(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        lease = Lease(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / LEASE_NAME).stat().st_size
    assert _other_process(tmp_path).startswith("refused")
    code = (
        "import sys, pathlib; from asgi_audit.store.sqlite.lease import holder; "
        "print(holder(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "a process that could not write its name\n"
    lease.close()
    Lease(tmp_path).close()


def test_lease_is_free_again_when_the_writer_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(retention, "keep_reserve", fails)
        with pytest.raises(StoreError, match="Input/output error"):
            SqliteWriter(tmp_path)
    SqliteWriter(tmp_path).close()


def test_lease_is_lost_when_its_file_is_replaced(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    assert not lease.lost()
    (tmp_path / LEASE_NAME).unlink()
    assert lease.lost()
    (tmp_path / LEASE_NAME).touch()
    assert lease.lost()
    lease.close()


def _other_process(directory: Path) -> str:
    code = (
        "import sys, pathlib\n"
        "from asgi_audit.errors import StoreError\n"
        "from asgi_audit.store.sqlite.lease import Lease\n"
        "try: Lease(pathlib.Path(sys.argv[1])); print('taken')\n"
        "except StoreError as e: print('refused', e)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("at", range(4))
def test_index_that_is_made_while_it_is_looked_at_is_one_of_ours(tmp_path: Path, at: int) -> None:
    """Method: the tables are created after the first, second … statement of the check. A reader that started together
    with the indexer reported `a database, but not an index of asgi-audit`."""
    path = tmp_path / "main.db"
    made = apsw.Connection(str(path))
    made.execute("PRAGMA journal_mode=wal").fetchall()
    reading = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    seen = 0

    def before(*_: object) -> bool:
        nonlocal seen
        if seen == at:
            create(made, "CREATE TABLE t (a)", VERSION)
        seen += 1
        return True

    reading.exec_trace = before
    assert check_version(reading, path) in (0, VERSION)
    reading.exec_trace = None
    assert check_version(reading, path) == (VERSION if seen > at else 0)
    reading.close()
    made.close()
