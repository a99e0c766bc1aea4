"""The checks of `asgi-audit doctor`: one function per subject, in the order of a record's path.

A check only reads (a free lock is taken for a moment). It yields findings; a ConfigError, TransportError or StoreError
that it raises becomes a finding too. To add a check, write a function and add it to CHECKS.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from ...errors import StoreError
from ...record.line import TIME_END
from ...settings import Settings
from ...store.admin import IndexFacts
from ...wiring.operations import count_acknowledged, look_at_journal, open_admin, open_control, open_store_reader

__all__ = ["CHECKS", "Check", "Finding", "Level", "file_system"]

Level = Literal["ok", "warn", "bad"]

_EPHEMERAL = ("tmpfs", "ramfs", "overlay", "aufs", "devtmpfs")
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs")
_FREE_BAD = 16 << 20
_FREE_WARN = 256 << 20
_LAG_SECONDS = 60.0
_LOOK_SECONDS = 3.0  # a working indexer advances within this time
_AHEAD_SECONDS = 60.0
_REASONS = 3


class Finding(NamedTuple):
    """One line of output. `do`: what the operator should do, '' for nothing."""

    level: Level
    about: str
    message: str
    do: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def settings(s: Settings) -> Iterator[Finding]:
    whole = s.absolute()  # a relative address depends on the working directory: show the absolute one
    where = f"records go to {whole.transport_url}, the index is {whole.store_url}"
    if s.enabled:
        yield Finding("ok", "settings", where)
    else:
        yield Finding("warn", "settings", f"turned off; {where}", "Unset ASGI_AUDIT_ENABLED to record.")


def source(s: Settings) -> Iterator[Finding]:
    """Checks for an index fed from another source: its address may have been a flag of `serve` or `index`."""
    facts = open_admin(s).facts()
    topics = [name for name in facts.sources if name.startswith("kafka:")] if facts is not None else []
    if topics and not s.is_kafka:
        name = topics[-1].rpartition(":")[2]
        text = f"the index reads the Kafka topic {name}, but these settings have no Kafka address"
        yield Finding("warn", "source", text, f"Use the same address as `serve`: --from kafka://host:port/{name}.")


def journal(s: Settings) -> Iterator[Finding]:
    path = _journal_path(s)
    if path is None:
        return
    yield from _directory("journal", path)
    if not path.is_dir():
        return
    used = sum(j.bytes for j in look_at_journal(s))
    share = used / s.journal_bytes_max
    text = f"{_size(used)} of {_size(s.journal_bytes_max)} used ({share:.0%})"
    do = "Start `asgi-audit index`, or find out why it does not keep up. A full journal loses records."
    yield Finding(
        "bad" if share >= 0.9 else "warn" if share >= 0.5 else "ok", "journal", text, do if share >= 0.5 else ""
    )
    free = shutil.disk_usage(path).free
    if _FREE_WARN <= free < s.journal_bytes_max - used:
        yield Finding(
            "warn",
            "journal",
            f"{_size(free)} free on its disk, which fills up before the journal reaches its limit",
            "Lower journal_bytes_max, or free space.",
        )


def processes(s: Settings) -> Iterator[Finding]:
    if _journal_path(s) is None:
        return
    done, command = ("sent", "forward --once") if s.is_kafka else ("indexed", "index")
    found = look_at_journal(s, ask_alive=True)
    alive = [j for j in found if j.is_alive]
    dead = [j for j in found if not j.is_alive]
    yield Finding("ok", "processes", f"{len(alive)} alive")
    if dead:
        waiting = sum(j.waiting_bytes for j in dead)
        text = f"{len(dead)} dead, whose journals are not taken over yet ({_size(waiting)} not {done})"
        yield Finding("warn", "processes", text, f"Start `asgi-audit {command}`: it takes them over within seconds.")
    since = min((j.waiting_since for j in found if j.waiting_since is not None), default=None)
    if since is not None and time.time() - since > _LAG_SECONDS:
        text = f"the oldest record that is not {done} waits for {_age(time.time() - since)}"
        yield Finding("warn", "processes", text, f"Start `asgi-audit {command}`, or look at its log.")


def clock(s: Settings) -> Iterator[Finding]:
    began = (time.time(), time.monotonic())
    time.sleep(0.1)
    drift = (time.time() - began[0]) - (time.monotonic() - began[1])
    ahead: list[str] = []
    if abs(drift) > 0.05:
        ahead.append(f"the clock jumped by {drift:+.2f} s just now")
    now = time.time()
    if _journal_path(s) is not None:
        newest = max((j.newest for j in look_at_journal(s)), default=0.0)
        if newest > now + _AHEAD_SECONDS:
            ahead.append(f"the journal was written to {_age(newest - now)} in the future")
    facts: IndexFacts | None = None
    with contextlib.suppress(StoreError):  # the next check reports it
        facts = open_admin(s).facts()
    if facts is not None:
        tomorrow = (datetime.fromtimestamp(now, UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
        future = [day for day in facts.days if day > tomorrow]
        if future:
            ahead.append(f"the index holds records of {future[-1]}")
        if facts.snapshot.read_until > now + _AHEAD_SECONDS:
            ahead.append(f"the indexer's clock is {_age(facts.snapshot.read_until - now)} ahead of this one")
    for text in ahead:
        yield Finding("warn", "clock", text, "Check the time synchronisation of the machines (chronyc tracking).")
    if not ahead:
        yield Finding("ok", "clock", f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S}Z, no time is in the future")


def index(s: Settings) -> Iterator[Finding]:
    path = s.store_path
    yield from _directory("index", path)
    facts = open_admin(s).facts()
    if facts is None:
        yield Finding("warn", "index", "nothing is indexed yet", "Start `asgi-audit serve` or `asgi-audit index`.")
        return
    damage = open_admin(s).damage()
    if damage:
        do = "Stop the indexer, copy the directory, then restore a backup (asgi-audit restore)."
        yield Finding("bad", "index", f"main.db is damaged: {damage}", do)
    days = (
        f"{len(facts.days)} {'day' if len(facts.days) == 1 else 'days'} from {facts.days[0]}"
        if facts.days
        else "no days"
    )
    kept = (
        "" if facts.horizon is None else f", purged before {datetime.fromtimestamp(facts.horizon / 1000, UTC):%Y-%m-%d}"
    )
    yield Finding(
        "ok",
        "index",
        f"{facts.indexed:,} records ever, {days}, {_size(facts.bytes)}{kept}, id {facts.id or 'not given yet'}",
    )
    at = facts.snapshot.read_until
    if not at:
        yield Finding("warn", "index", "the source has not been read to its end yet", "Look at the indexer's log.")
    elif time.time() - at > _LAG_SECONDS:
        text = f"records of the last {_age(time.time() - at)} may not be indexed yet"
        yield Finding("warn", "index", text, "Start `asgi-audit index`, or look at its log.")
    else:
        yield Finding("ok", "index", f"everything was read up to {_age(max(0.0, time.time() - at))} ago")


def lease(s: Settings) -> Iterator[Finding]:
    facts = open_admin(s).facts()
    start = "Start `asgi-audit serve` or `asgi-audit index`."
    if facts is None:
        waiting = 0 if s.is_kafka or _journal_path(s) is None else sum(j.waiting_bytes for j in look_at_journal(s))
        if waiting:
            yield Finding("bad", "lease", f"no indexer runs, and {_size(waiting)} of the journal wait for it", start)
        return
    if facts.held_by is None:
        yield Finding("bad", "lease", "no indexer runs", start)
        return
    yield Finding("ok", "lease", f"held by {facts.held_by}")
    standing = _standing_seconds(s, facts)
    if standing is None:
        return
    text = f"the indexer, {facts.held_by}, holds the lease but has read nothing for {_age(standing)}"
    do = "Look at its log: its disk or its source may not respond. If the log has no reason, restart it."
    yield Finding("bad", "lease", text, do)


def _standing_seconds(s: Settings, facts: IndexFacts) -> float | None:
    """For how many seconds the indexer has not advanced although it should. None when its positions advance during the
    check (it is catching up)."""
    at = facts.snapshot.read_until
    if not at or time.time() - at <= _LAG_SECONDS:
        return None
    until = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < until:
        time.sleep(0.1)
        now = open_admin(s).facts()
        if now is None or (now.snapshot, now.held_by, now.positions) != (
            facts.snapshot,
            facts.held_by,
            facts.positions,
        ):
            return None
    return time.time() - at


def keys(s: Settings) -> Iterator[Finding]:
    path = s.control_path
    make = "Make one with `asgi-audit keys create --role reader --account NAME`."
    if not path.exists():
        yield Finding("warn", "keys", f"there are none: {path} does not exist", make)
        return
    control = open_control(s)
    try:
        known = control.list_keys()
    finally:
        control.close()
    active = [key for key in known if key.revoked_at is None]
    unused = [key.id for key in active if key.last_used_at is None]
    text = f"{len(active)} active, {len(known) - len(active)} revoked"
    if not active:
        yield Finding("warn", "keys", text, make)
    elif unused:
        more = f" and {len(unused) - _REASONS} more" if len(unused) > _REASONS else ""
        text += f"; never used: {', '.join(unused[:_REASONS])}{more}"
        yield Finding("ok", "keys", text, "Revoke keys that are not needed: `asgi-audit keys revoke ID`.")
    else:
        yield Finding("ok", "keys", text)


def dead_letters(s: Settings) -> Iterator[Finding]:
    facts = open_admin(s).facts()
    if facts is None:
        return
    if not facts.dead:
        yield Finding("ok", "dead letters", "none")
        return
    reasons = list(dict.fromkeys(letter.reason[:120] for letter in facts.newest_dead))[:_REASONS]
    said = f"; newest: {' | '.join(reasons)}" if reasons else ""
    do = "`asgi-audit dead-letters list` shows them, with where they came from."
    yield Finding("warn", "dead letters", f"{facts.dead:,}{said}", do)


def completeness(s: Settings) -> Iterator[Finding]:
    if open_admin(s).facts() is None:
        return
    reader = open_store_reader(s)
    try:
        found = reader.completeness(0, TIME_END)
        acknowledged = count_acknowledged(reader.incidents(0, TIME_END)) if found.incidents else 0
    finally:
        reader.close()
    if found.until is None:
        yield Finding("ok", "completeness", "no process has written a statement yet")
        return
    text = f"complete until {datetime.fromtimestamp(found.until / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    if acknowledged:
        text += f", {acknowledged:,} acknowledged incident{'s' * (acknowledged != 1)}"
    if count := found.incidents - acknowledged:
        text += f", {count:,} open incident{'s' * (count != 1)}"
        do = "`asgi-audit completeness` shows them. Records may be missing; every response counts them."
        yield Finding("warn", "completeness", text, do)
    else:
        yield Finding("ok", "completeness", text)


CHECKS: Sequence[Check] = (
    settings,
    journal,
    processes,
    clock,
    index,
    source,
    lease,
    keys,
    dead_letters,
    completeness,
)


def file_system(path: Path, mounts: str | None = None) -> str:
    """The type of the file system of `path`, '' when unknown. `mounts`: text in the format of /proc/self/mountinfo."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        at = fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        # Of several mounts on one point, the last is effective.
        if (real == at or real.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
            best, kind = at, after.split()[0]
    return kind


def _directory(about: str, path: Path) -> Iterator[Finding]:
    """Checks that a directory can be used, and its file system."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        yield Finding("bad", about, f"{there} is not a directory", "Use another path in the settings.")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        do = f"Give this user access: chown or chmod {there}."
        yield Finding("bad", about, f"this user cannot write to {there}", do)
        return
    kind = file_system(there)
    shown = f"{path} on {kind}" if kind else str(path)
    if kind in _EPHEMERAL:
        do = "Put it on a volume: files here are lost with the container or at a restart."
        yield Finding("warn", about, f"{shown}, which is not persistent", do)
    elif kind in _REMOTE:
        do = "Use a local disk: locks and shared memory do not work reliably over a network."
        yield Finding("bad", about, f"{shown}, which is not a local disk", do)
    else:
        yield Finding("ok", about, shown if path.exists() else f"{shown}, not created yet")
    free = shutil.disk_usage(there).free
    if free < _FREE_WARN:
        level: Level = "bad" if free < _FREE_BAD else "warn"
        yield Finding(level, about, f"only {_size(free)} free on its disk", "Free space on it.")


def _journal_path(s: Settings) -> Path | None:
    return s.journal_path


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
