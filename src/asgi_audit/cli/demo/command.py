"""See asgi-audit work in half a minute: audits, indexes and queries Datasette, a third-party application.

Starts the application, the sidecar and the API in separate processes and sends real HTTP requests. Then it queries all
five dialects as documented (usage, trail, logs, an export, usage.api.list), compares every result with the requests,
and searches every byte on disk for the secrets that it used. The exit code is 0 only when all numbers agree and no
secret was found. Everything starts from a clean state and stops at the end.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import os
import secrets
import shutil
import signal
import tempfile
import textwrap
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from ...disk import PRIVATE
from ...errors import AuditError, ConfigError
from ...record.line import TIME_END
from ...settings import PREFIX, Settings, make_settings
from ...wiring.operations import open_control, open_store_reader
from ..ask_lines import ask_lines
from ..processes import Child, free_port, wait_for_port
from .agree import agree, agree_but_for_ids, seen_in_entry, seen_in_record, seen_in_result
from .app import ACCOUNT, INSTANCE, SERVICE, make_database
from .ask import Client, leaks
from .drive import Drive, Secrets, Sent
from .show import WIDTH, next_steps, shortened, table

__all__ = ["add_arguments", "run"]

_MARKER = ".asgi-audit-demo"
_INDEX_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="keep everything running, print a key and example commands")
    parser.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="use this directory (emptied first if an earlier demo created it) and keep it",
    )


def run(arguments: argparse.Namespace) -> int:
    for package in ("datasette", "datasette_auth_passwords"):
        import_module(package)  # so that a missing extra is reported at once, not by a child

    def interrupted(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, interrupted)
    home = _clean_home(arguments.home)
    demo = _Demo(home)
    try:
        code = demo.run()
        if arguments.keep:
            demo.keep()
        else:
            say(next_steps(kept=arguments.home))
        say(demo.last_line)
        return code
    finally:
        demo.stop()
        signal.signal(signal.SIGTERM, before)
        if arguments.home is None:
            shutil.rmtree(home, ignore_errors=True)


def say(text: str) -> None:
    print(text, flush=True)


def _clean_home(given: Path | None) -> Path:
    if given is None:
        return Path(tempfile.mkdtemp(prefix="asgi-audit-demo-"))
    home = given.absolute()
    if home.exists():
        if not home.is_dir() or (any(home.iterdir()) and not (home / _MARKER).exists()):
            raise ConfigError(
                f"{given} is not empty and was not created by the demo; accepted: a new or empty directory"
            )
        shutil.rmtree(home)
    PRIVATE.makedirs(home)
    PRIVATE.create(home / _MARKER)
    return home


class _Demo:
    """One run. `stop` may be called at any time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.last_line = ""
        self.children: list[Child] = []
        self.logs = home / "logs"
        # Use the demo's own settings only: the demo must work in any environment.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        self.environment[PREFIX + "HOME"] = str(home)
        self.settings: Settings = make_settings({}, home=home)
        self.hidden = Secrets()
        self.problems: list[str] = []
        self.key = ""
        self.app_port = self.api_port = 0

    def start(self, name: str, module: str, *arguments: str, first_line: str | None = None) -> Child:
        log = self.logs / f"{name}.log"
        child = Child(name, module, arguments, log=log, environment=self.environment, first_line=first_line)
        self.children.append(child)
        return child

    def stop(self) -> None:
        """Stops the application first, so that the sidecar can index its last records."""
        for child in self.children:
            child.stop()
        self.children.clear()

    def run(self) -> int:
        """Runs the demo and returns the exit code; `last_line` holds the counts."""
        began = time.monotonic()
        self._start_all()
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
        drive = self._drive()
        self._wait_for_index(len(drive.sent))
        window = {
            "from": since.isoformat(timespec="milliseconds"),
            "to": (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat(
                timespec="milliseconds"
            ),
        }
        client = Client(self.api_port, self.key)
        export = client.begin_export(f"classic/{ACCOUNT}/{SERVICE}", window)  # meanwhile the others are queried
        usage = client.query(f"/usage/{SERVICE}/{INSTANCE}", window)
        trail = client.query("/trail", window)
        logs = client.logs(SERVICE, window)
        listed = client.listed(SERVICE, window)
        self._ask_more(client, window, drive.sent)
        exported = [json.loads(line) for line in client.export(export).splitlines()]
        stored = {r["metadata"]["requestId"]: r for r in self._stored()}
        sent = drive.sent
        # Trail shows all services of the account, including the requests to this API.
        of_trail = [r for r in trail.records if r["metadata"]["service"] == SERVICE]
        agreements = [
            agree("the index", sent, map(seen_in_record, stored.values())),
            agree("usage", sent, map(seen_in_record, usage.records)),
            agree("trail", sent, map(seen_in_record, of_trail)),
            agree("logs", sent, map(seen_in_entry, logs)),
            agree("the export", sent, map(seen_in_record, exported)),
            agree_but_for_ids("usage.api.list", sent, map(seen_in_result, listed)),
        ]
        counts = [agreement.right for agreement in agreements]
        self.problems += [problem for agreement in agreements for problem in agreement.problems]
        say(table(client.asked))
        login = next((s for s in drive.sent if s.method == "POST" and s.status == 302), None)
        if login is not None and login.request_id in stored:
            say("\nOne record as it is stored: the login with the right password.\n")
            say(shortened(stored[login.request_id]))
        self._search(client, usage.records, trail.records, logs, exported, listed)
        words = "records indexed", "answered by usage", "by trail", "by logs", "exported", "by usage.api.list"
        said = ", ".join(f"{count} {word}" for count, word in zip(counts, words, strict=True))
        self.last_line = f"demo: {len(sent)} requests, {said}"
        self.problems += drive.wrong
        for problem in self.problems[:20]:
            say(f"wrong: {problem}")
        say(f"took {time.monotonic() - began:.1f} s\n")
        return 0 if set(counts) == {len(sent)} and not self.problems else 1

    def keep(self) -> None:
        """Keep serving until Ctrl-C or SIGTERM."""
        say(f"application  http://127.0.0.1:{self.app_port}/")
        say(f"API          http://127.0.0.1:{self.api_port}/docs\n")
        say("Query its records from another terminal; use the application and query again:\n")
        for line in ask_lines(f"http://127.0.0.1:{self.api_port}", self.key):
            say("  " + line)
        say("\nserving until Ctrl-C")
        try:
            while all(child.running() for child in self.children):
                time.sleep(0.3)
            dead = next(child for child in self.children if not child.running())
            raise AuditError(f"{dead.name} ended with code {dead.process.returncode}: {dead.log_tail()}")
        except KeyboardInterrupt:
            say("")

    def _start_all(self) -> None:
        PRIVATE.mkdir(self.logs)
        database = self.home / "shop.db"
        PRIVATE.create(database)
        make_database(database)
        control = open_control(self.settings)
        try:
            self.key = control.create_key("auditor", [ACCOUNT])[1]
        finally:
            control.close()
        self.app_port, self.api_port = free_port(), free_port()
        say(f"home         {self.home}")
        application = self.start(
            "application", "asgi_audit.cli.demo.app", str(database), str(self.app_port), first_line=self.hidden.password
        )
        self.start("sidecar", "asgi_audit", "index", "--until-stdin-closes")
        api = self.start(
            "api", "asgi_audit", "serve", "--no-index", "--port", str(self.api_port), "--until-stdin-closes"
        )
        wait_for_port(application, self.app_port)
        say(f"application  Datasette under uvicorn, http://127.0.0.1:{self.app_port}")
        say("sidecar      asgi-audit index")
        wait_for_port(api, self.api_port)
        say(f"API          asgi-audit serve --no-index, http://127.0.0.1:{self.api_port}\n")

    def _drive(self) -> Drive:
        drive = Drive(self.app_port, self.hidden, secrets.token_hex(4))
        for label, send in drive.groups():
            before, began = len(drive.sent), time.monotonic()
            try:
                send()
            except (OSError, http.client.HTTPException) as e:
                raise AuditError(f"the application stopped responding during {label!r}: {e}") from e
            sent = drive.sent[before:]
            size = sum(s.bytes for s in sent)
            say(f"sent  {len(sent):4} {label:26} {size / 1e6:6.1f} MB received in {time.monotonic() - began:4.1f} s")
        return drive

    def _wait_for_index(self, expected: int) -> None:
        began = time.monotonic()
        indexed = 0
        while time.monotonic() - began < _INDEX_SECONDS:
            reader = open_store_reader(self.settings)
            try:
                indexed = sum(p.indexed for p in reader.processes() if p.service == SERVICE)
            finally:
                reader.close()
            if indexed >= expected:
                break
            for child in self.children:
                if not child.running():
                    raise AuditError(f"{child.name} ended with code {child.process.returncode}: {child.log_tail()}")
            time.sleep(0.05)
        say(f"index {indexed:4} records, complete {time.monotonic() - began:.1f} s after the last request\n")

    def _ask_more(self, client: Client, window: dict[str, str], sent: list[Sent]) -> None:
        """Further documented cases: the method filter, small pages, an empty window, and errors."""
        path = f"/usage/{SERVICE}/{INSTANCE}"
        posts = client.query(path, {**window, "method": "POST"}, limit=2)
        expected = sum(s.method == "POST" for s in sent)
        if len(posts.records) != expected:
            self.problems.append(f"usage with method POST returned {len(posts.records)} records, {expected} were sent")
        empty = client.query(path, {"from": window["from"], "to": window["from"]})
        if empty.records:
            self.problems.append("an empty time range returned records")
        for note, status, method, target, body, key in (
            ("wrong key", 401, "POST", path, window, "aa_000000000000_wrong"),
            ("unknown instance", 404, "POST", f"/usage/{SERVICE}/none", window, None),
            ("without `to`", 400, "POST", path, {"from": window["from"]}, None),
        ):
            answered, said = client.call(method, target, body, key=key)
            client.note(f"{method} {target}, {note}", answered, str(said.get("message", "")))
            if answered != status:
                self.problems.append(f"{method} {target}, {note}: returned {answered}, expected {status}")

    def _stored(self) -> Iterator[dict[str, Any]]:
        """Every complete record of the application in the index."""
        import orjson

        for data in _stored_bytes(self.settings):
            record = orjson.loads(data)
            if record["service"] == SERVICE:
                yield record

    def _search(self, client: Client, *answers: list[dict[str, Any]]) -> None:
        wanted = {**self.hidden.named(), "the API key": self.key, "the session of TR50": client.session_id}
        files = [p for p in sorted(self.home.rglob("*")) if p.is_file()]
        texts: list[tuple[str, bytes]] = [("a stored record", data) for data in _stored_bytes(self.settings)]
        texts += [("a response", repr(answer).encode()) for answer in answers]
        found, searched = leaks(wanted, files, texts)
        self.problems += sorted(set(found))
        verdict = f"{len(set(found))} places" if found else "nowhere"
        size = f"{len(files)} files, {len(texts)} records and responses, {searched / 1e6:.1f} MB"
        say("\n" + textwrap.fill(f"Searched {size} for {', '.join(wanted)}:", WIDTH))
        say(f"Found: {verdict}.")


def _stored_bytes(settings: Settings) -> Iterator[bytes]:
    from ...store.base import Query

    reader = open_store_reader(settings)
    try:
        published = reader.snapshot().published
        query = Query(accounts=None, start=0, end=TIME_END)
        before: int | None = None
        more = True
        while more:
            rows, more = reader.page(query, published=published, before=before, limit=500, bytes_max=8 << 20)
            for row in rows:
                yield row.record
                before = row.id
    finally:
        reader.close()
