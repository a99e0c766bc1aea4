"""kill -9 of a serving application under load, repeatedly; then every response that its clients saw complete is looked
up.

    python -m tests.fault.kill_application --times 30 --delivery both [--workers 2] [--seed N]

Each run: real uvicorn processes that share one socket and one journal serve a small Starlette application with the
middleware. Clients on several connections send requests, each with an `X-Request-ID` of its own, and note those whose
response they read to its end. At a random moment all servers are killed at once. Then a fresh indexer reads the journal
(it adopts those of the dead processes) into a fresh index, and the results are compared:

* durable: every request that a client saw complete has its record.
* buffered: records + stated losses = last sequence given, for each process; and no more is missing than is stated, as
  lost or as open (the server may be killed between an answer's last byte and the seal).
* both: no dead letter, no record twice, nothing left in the journal, each tail proven.
One line per run, a table at the end, exit code 1 on any disagreement.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.waiting import until

from asgi_audit.record.line import TIME_END

CONNECTIONS = 6


class Outcome(NamedTuple):
    delivery: str
    seconds: float  # from the first answer to the kill
    seen: int  # requests that a client saw complete
    given: int  # sequences given by the servers
    indexed: int
    lost: int  # stated
    missing: int  # seen by a client, and not in the index
    open_count: int  # begun and not sealed when killed, as stated
    wrong: list[str]


# ------------------------------------------------------------------------------------------------------------- server


def application() -> Any:
    import asyncio

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    import asgi_audit
    from asgi_audit.transport.journal import writer as journal_writer

    if "FAULT_SEGMENT_BYTES" in os.environ:  # small ones, so that there are several
        journal_writer.SEGMENT_BYTES = int(os.environ["FAULT_SEGMENT_BYTES"])

    async def order(request: Request) -> JSONResponse:
        return JSONResponse({"received": await request.json()})

    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"item {request.path_params['id']}")

    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> Any:
            for n in range(5):
                yield b"chunk %d\n" % n
                await asyncio.sleep(0.001)

        return StreamingResponse(chunks())

    routes = [Route("/orders", order, methods=["POST"]), Route("/items/{id}", item), Route("/stream", stream)]
    app = Starlette(routes=routes)
    app.add_middleware(asgi_audit.AuditMiddleware)
    return app


def serve(fd: int) -> None:
    import uvicorn

    config = uvicorn.Config(application, factory=True, log_level="error", access_log=False, backlog=64)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


# ------------------------------------------------------------------------------------------------------------- clients


class Clients:
    """Connections that send until the server is gone. `seen` holds the ids of responses read to their end."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self.seen: list[str] = []
        self.first = threading.Event()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(n, random.Random(f"{seed}.{n}"))) for n in range(CONNECTIONS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number: int, choice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        count = 0
        while not self._stop.is_set():
            count += 1
            name = f"request-{number}-{count}"
            try:
                kind = choice.random()
                if kind < 0.5:
                    body = json.dumps({"password": "hunter2", "n": count, "text": "x" * choice.randrange(1500)})
                    headers = {"X-Request-ID": name, "Content-Type": "application/json"}
                    connection.request("POST", "/orders", body, headers)
                else:
                    path = "/stream" if kind > 0.9 else f"/items/{count}"
                    connection.request("GET", path, headers={"X-Request-ID": name})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if self.first.is_set():
                    return  # killed
                self._stop.wait(0.02)  # not listening yet
                continue
            if answer.status != 200:
                self.wrong.append(f"{name} was answered {answer.status}")
            self.seen.append(name)
            self.first.set()


# ------------------------------------------------------------------------------------------------------------- a run


def run(delivery: str, workers: int, seed: int, seconds: tuple[float, float]) -> Outcome:
    choice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kill-application-") as directory:
        home = Path(directory)
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        os.set_inheritable(listening.fileno(), True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ASGI_AUDIT_")}
        environment |= {
            "ASGI_AUDIT_HOME": str(home),
            "ASGI_AUDIT_DELIVERY": delivery,
            "FAULT_SEGMENT_BYTES": "262144",
        }
        command = [sys.executable, "-m", "tests.fault.kill_application", "--serve", str(listening.fileno())]
        servers = [
            subprocess.Popen(command, env=environment, pass_fds=[listening.fileno()], stderr=subprocess.PIPE)
            for _ in range(workers)
        ]
        port = listening.getsockname()[1]
        listening.close()
        clients = Clients(port, seed)
        clients.start()
        try:
            if not clients.first.wait(60):
                raise RuntimeError("no server answered in 60 s")
            began = time.monotonic()
            time.sleep(choice.uniform(*seconds))  # the moment of the kill is an input
        finally:
            for server in servers:
                server.send_signal(signal.SIGKILL)
            lasted = time.monotonic() - began if clients.first.is_set() else 0.0
            said = b"".join(server.communicate()[1] for server in servers)
            clients.stop()
        wrong = clients.wrong
        errors = [line for line in said.splitlines() if b" records the requests of service " not in line]
        if errors:
            wrong.append(f"the server said {errors[-3:]!r}")
        return _compare(home, delivery, lasted, set(clients.seen), wrong)


def _compare(home: Path, delivery: str, lasted: float, seen: set[str], wrong: list[str]) -> Outcome:
    from asgi_audit.store.base import Query
    from asgi_audit.wiring import environment, operations

    settings = environment.settings_from(home=home)
    stop = threading.Event()
    writer = operations.open_store_writer(settings)
    indexer = operations.build_indexer(settings, writer, stop=stop)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    journal = home / "journal"
    with contextlib.suppress(AssertionError):  # remaining entries are counted below
        until(lambda: not any(journal.glob("[!.]*")) or not thread.is_alive())
    stop.set()
    thread.join(30)
    writer.close()
    left = [p.name for p in journal.glob("[!.]*")]
    if left:
        wrong.append(f"left in the journal: {left}")
    reader = operations.open_store_reader(settings)
    found: list[str] = []
    sequences: list[tuple[str, int]] = []
    before: int | None = None
    query = Query(accounts=None, start=0, end=TIME_END)
    while True:
        rows, is_more = reader.page(
            query, published=reader.snapshot().published, before=before, limit=1000, bytes_max=8 << 20
        )
        for row in rows:
            record = json.loads(row.record)
            if b"hunter2" in row.record:
                wrong.append("a record holds the password")
            found.append(record["metadata"]["requestId"])
            sequences.append((record["context"]["capture"]["process"], record["context"]["capture"]["sequence"]))
        if not is_more:
            break
        before = rows[-1].id
    processes = reader.processes()
    dead_letters = reader.dead_letters()
    reader.close()
    if len(set(sequences)) != len(sequences) or len(set(found)) != len(found):
        wrong.append("a record is there twice")
    if dead_letters:
        wrong.append(f"{dead_letters} dead letters")
    for process in processes:
        indexed = sum(1 for name, _ in sequences if name == str(process.process))
        if indexed + process.lost != process.last or process.indexed != indexed:
            wrong.append(
                f"{process.process}: {indexed} records + {process.lost} stated lost, but {process.last} sequences given"
            )
        if process.closed != "adopted" or not process.proven:
            wrong.append(f"{process.process}: closed {process.closed!r}, proven {process.proven}")
    lost = sum(process.lost for process in processes)
    missing = len(seen - set(found))
    if delivery == "durable" and missing:
        wrong.append(f"{missing} requests that a client saw complete have no record")
    open_count = sum(process.open_count for process in processes)
    if missing > lost + open_count:
        wrong.append(f"{missing} requests are missing, {lost} are stated lost and {open_count} as open")
    return Outcome(
        delivery,
        lasted,
        len(seen),
        sum(process.last for process in processes),
        len(found),
        lost,
        missing,
        open_count,
        wrong,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=30, help="kills for each delivery (default: %(default)s)")
    parser.add_argument("--delivery", choices=["durable", "buffered", "both"], default="both")
    parser.add_argument("--workers", type=int, default=2, help="server processes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.2, 1.5), metavar=("LEAST", "MOST"))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--serve", type=int, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve is not None:
        serve(given.serve)
        return 0
    seed = given.seed if given.seed is not None else random.randrange(1 << 30)
    print(f"seed {seed}; {given.times} kills each, {given.workers} server processes, {CONNECTIONS} connections")
    deliveries = ["durable", "buffered"] if given.delivery == "both" else [given.delivery]
    outcomes: list[Outcome] = []
    for delivery in deliveries:
        for n in range(given.times):
            outcome = run(delivery, given.workers, seed + n, tuple(given.seconds))
            outcomes.append(outcome)
            print(
                f"{delivery} {n + 1}/{given.times}: killed at {outcome.seconds:.2f} s, {outcome.seen} seen, "
                f"{outcome.given} sequences = {outcome.indexed} indexed + {outcome.lost} stated lost, "
                f"{outcome.missing} of the seen missing, {outcome.open_count} were open"
                + "".join(f"; WRONG: {wrong}" for wrong in outcome.wrong),
                flush=True,
            )
    heads = ("kills", "seen", "given", "indexed", "stated lost", "seen, missing", "wrong")
    print("delivery", *(f"{head:>13}" for head in heads))
    for delivery in deliveries:
        of = [o for o in outcomes if o.delivery == delivery]
        sums = (
            len(of),
            sum(o.seen for o in of),
            sum(o.given for o in of),
            sum(o.indexed for o in of),
            sum(o.lost for o in of),
            sum(o.missing for o in of),
            sum(bool(o.wrong) for o in of),
        )
        print(delivery, *(f"{number:>13}" for number in sums))
    return 1 if any(o.wrong for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
