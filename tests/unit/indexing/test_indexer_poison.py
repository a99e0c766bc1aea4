"""The indexer passes any entry of a partition: it is indexed or becomes a dead letter, in the real store."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.records import NOON, payload, statement
from tests.support.source import ListSource

from asgi_audit.errors import RecordError
from asgi_audit.indexing.indexer import Indexer, IndexerProgress
from asgi_audit.record.line import TIME_END
from asgi_audit.record.loss import Loss, decode_loss, encode_loss
from asgi_audit.record.statement import STATEMENT_BYTES_MAX, encode_statement
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.sqlite.inspect import inspect
from asgi_audit.transport.base import Kind

LOSS = Loss(process=str(uuid.UUID(int=1 << 64)), sequence=2, at=NOON, reason="refused", leaf="00" * 32, bytes=9)
GOOD = {
    Kind.RECORD: orjson.loads(payload(1)),
    Kind.STATEMENT: orjson.loads(encode_statement(statement(1, 1, 3, lost=[(2, 2, "queue")], started=NOON))),
    Kind.LOSS: orjson.loads(encode_loss(LOSS)),
}
EDGES = [e + d for e in (0, 1 << 40, 1 << 43, 1 << 53, 1 << 63, 1 << 64, 1 << 70) for d in (-1, 0, 1)]
NUMBERS = st.sampled_from([*EDGES, *(-e for e in EDGES)]) | st.integers()
VALUES = st.recursive(
    NUMBERS | st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.uuids().map(str) | st.sampled_from(["", "\0", "ffffffff-ffff-7fff-8fff-ffffffffffff", "x" * 70_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def paths(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [p for k in keys for p in ((*before, k), *paths(value[k], (*before, k)))]


def altered(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path or not isinstance(value, dict | list):
        return to
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = {k: altered(v, path[1:], to) if k == path[0] else v for k, v in items}
    return found if isinstance(value, dict) else list(found.values())


@st.composite
def messages(draw: st.DrawFn) -> tuple[Kind, bytes]:
    kind = draw(st.sampled_from(sorted(GOOD)))
    value = GOOD[kind]
    for path in draw(st.lists(st.sampled_from(paths(value)), min_size=1, max_size=3, unique=True)):
        value = altered(value, path, draw(NUMBERS if path[-1] not in ("process", "leaf") else VALUES | NUMBERS))
        if not draw(st.booleans()):
            value = altered(value, path, draw(VALUES))
    return kind, encoded(value)


def encoded(value: Any) -> bytes:
    """JSON with whole numbers of any size."""
    return json.dumps(value, separators=(",", ":")).encode()


class Ending(ListSource):
    """Sets `stop` when everything was read."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self.stop = stop
        self.now = lambda: NOON / 1000

    def poll(self, messages_max: int, timeout_seconds: float) -> Any:
        found = super().poll(messages_max, timeout_seconds)
        if not found.messages:
            self.stop.set()
        return found


def index(directory: Path, given_messages: list[tuple[Kind, bytes]]) -> IndexerProgress:
    """Indexes it from a partition that belongs to no process, as with Kafka. All readers of the index must work
    afterwards."""
    stop = threading.Event()
    source = Ending(stop)
    for kind, data in given_messages:
        source.put("0", kind, 0, data)
    clock = lambda: NOON / 1000  # noqa: E731
    writer = SqliteWriter(directory, clock=clock)
    try:
        indexer = Indexer(source, writer, clock=clock, stop=stop, linger_seconds=0)
        indexer.run()
        writer.resumed()
        writer.purge(NOON)
    finally:
        writer.close()
    assert inspect(directory, source=source.name) is not None
    reader = SqliteReader(directory)
    try:
        reader.processes()
        reader.incidents(0, TIME_END)
        reader.completeness(0, TIME_END)
    finally:
        reader.close()
    return indexer.progress


@settings(suppress_health_check=list(HealthCheck))
@given(found=st.lists(messages(), min_size=1, max_size=30))
def test_indexer_indexes_or_buries_each_message_when_its_json_is_odd(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[Kind, bytes]]
) -> None:
    done = index(tmp_path_factory.mktemp("index"), found)
    losses = sum(is_loss(data) for kind, data in found if kind == Kind.LOSS)
    assert done.indexed + done.duplicates + done.expired + done.dead + done.statements + losses == len(found)


def is_loss(data: bytes) -> bool:
    try:
        return bool(uuid.UUID(decode_loss(data).process))
    except (RecordError, ValueError):
        return False


NUMERIC = ("number", "at", "last", "lost_more", "excluded", "unwaited", "open_count", "open_oldest", "open_long",
           "open_long_newest", "watermark", "clock_steps", "started")  # fmt: skip


@pytest.mark.parametrize("number", [-1, 1 << 43, 1 << 63, 10**30])
def test_indexer_buries_statement_and_loss_when_a_number_is_out_of_bounds(tmp_path: Path, number: int) -> None:
    found = [(Kind.STATEMENT, encoded(GOOD[Kind.STATEMENT] | {key: number})) for key in NUMERIC]
    found += [(Kind.LOSS, encoded(GOOD[Kind.LOSS] | {key: number})) for key in ("sequence", "at", "bytes")]
    assert index(tmp_path / "index", found).dead == len(found)


def test_indexer_goes_on_when_the_largest_numbers_that_are_taken_come_from_many_processes(tmp_path: Path) -> None:
    top = (1 << 40) - 1
    found = [
        (Kind.STATEMENT, encode_statement(statement(top, top, top, process=uuid.UUID(int=n << 64), excluded=top)))
        for n in range(1, 200)
    ]
    assert index(tmp_path / "index", found).statements == len(found)
    facts = inspect(tmp_path / "index")
    assert facts is not None
    assert (facts.captured, facts.excluded) == (top * len(found), top * len(found))


@pytest.mark.parametrize("lost", [[[1, 0, "q"]], [[1, 1 << 39, "q"], [1, 1 << 39, "q"]]])
def test_indexer_buries_a_statement_when_its_losses_cannot_be(tmp_path: Path, lost: list[Any]) -> None:
    assert index(tmp_path / "index", [(Kind.STATEMENT, encoded(GOOD[Kind.STATEMENT] | {"lost": lost}))]).dead == 1


def test_indexer_takes_a_statement_when_its_host_fills_it(tmp_path: Path) -> None:
    """It grows when it is encoded again, and has no loss that could be left out."""
    bare = GOOD[Kind.STATEMENT] | {"lost": [], "host": ""}
    short = {k: v for k, v in bare.items() if v not in (None, 0, "", [])}
    data = orjson.dumps(short | {"host": "x" * (STATEMENT_BYTES_MAX - len(orjson.dumps(short | {"host": ""})))})
    assert len(data) == STATEMENT_BYTES_MAX
    done = index(tmp_path / "index", [(Kind.STATEMENT, data), (Kind.STATEMENT, data + b" ")])
    assert (done.statements, done.dead) == (1, 1)


def test_indexer_dates_a_process_by_the_batch_when_its_uuid_names_a_time_that_is_no_date(tmp_path: Path) -> None:
    process = uuid.UUID("ffffffff-ffff-7fff-8fff-ffffffffffff")
    index(tmp_path / "index", [(Kind.RECORD, payload(1, process=process))])
    reader = SqliteReader(tmp_path / "index")
    (found,) = reader.processes()
    reader.close()
    assert (found.started, found.low) == (0, NOON)
