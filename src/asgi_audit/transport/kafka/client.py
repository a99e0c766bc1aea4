"""Shared by the forwarder and the source: a thread with its own event loop, connections with the configured security,
and a bounded shutdown.

Invariants: aiokafka only runs in these threads. Every wait for a broker has a timeout. An object of aiokafka that does
not stop in time is cut off: its connections are closed and its tasks cancelled (aiokafka #1101, #1013).

Log lines of aiokafka from these threads are dropped: it writes several a second while a broker does not respond, and at
DEBUG it writes whole requests, including the password of SASL PLAIN. `state.Condition` writes one line for each change
of state instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import errors as vendor
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.codec import has_zstd
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from ...errors import ConfigError, TransportError
from .config import KafkaConfig
from .errors import translate, vendor_calls, vendor_errors

try:
    from .topic_id import TopicIdRequest

    _KNOWS_IDS = True
except ImportError:  # a later aiokafka may have other protocol classes: then topics are recognised by digest alone
    _KNOWS_IDS = False

__all__ = [
    "LoopThread", "Probe", "TopicFacts", "cause_of", "compression", "connection_options", "cut_off", "dispose",
    "new_consumer", "new_producer", "run_bounded",
]  # fmt: skip

T = TypeVar("T")

_TOPIC_RESOURCE = 2  # Kafka's number of the resource type whose settings are requested
STOP_SECONDS = 2.0  # how long a producer, consumer or client may take to stop

# Every logger of aiokafka 0.14 that is used here (`grep getLogger`).
_VENDOR_LOGGERS = (
    "aiokafka", "aiokafka.admin.client", "aiokafka.cluster", "aiokafka.conn", "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator", "aiokafka.consumer.subscription_state",
    "aiokafka.producer.producer", "aiokafka.producer.sender", "asyncio",
)  # fmt: skip
_ours: set[int] = set()  # idents of our threads


class _NotFromUs(logging.Filter):
    """Drops what is logged in these threads. The application's own use of aiokafka logs as before."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in _ours


_filter = _NotFromUs()


class _Loop(asyncio.SelectorEventLoop):
    """Not the loop of the policy, which the application may have set to uvloop; our tests do not cover that. It keeps a
    list of its connections: aiokafka forgets those that it abandons, and with a frozen broker they would stay open."""

    def __init__(self) -> None:
        super().__init__()
        self._opened: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self.set_exception_handler(lambda _loop, _context: None)

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        transport, protocol = await super().create_connection(*arguments, **options)
        self._opened.add(transport)
        return transport, protocol

    def abort_connections(self) -> None:
        for transport in list(self._opened):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()


class LoopThread:
    """A daemon thread that runs `main(stop)` in its own event loop; `ask` sets `stop`.

    The end is bounded: tasks that `main` leaves behind are cancelled and get a second, then the loop is closed. When
    `main` raises, `on_raised` is called with the exception, last in the thread."""

    def __init__(
        self,
        name: str,
        main: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
        on_raised: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._main = main
        self._on_raised = on_raised
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._asked = False
        self._lock = threading.Lock()

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Set `stop`. May be called from any thread, and repeatedly."""
        with self._lock:
            self._asked = True
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end of the thread. Returns whether it ended in time; True when the thread was never started."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout_seconds))
        return not self._thread.is_alive()

    def park(self, timeout_seconds: float) -> bool:
        """Called when the process ends and the thread still runs: make it wait for ever. Returns whether it does, or
        has ended. A thread that returns from compiled code (a codec is Rust) after the interpreter is gone would be
        unwound through that code, and the process would abort."""
        if not self._thread.is_alive():
            return True
        parked = threading.Event()

        def stand() -> None:
            parked.set()
            threading.Event().wait()

        self.call_soon(stand)
        return parked.wait(timeout_seconds) or not self._thread.is_alive()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Run `call` in the loop; nothing happens before the start or after the end."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        ident = threading.get_ident()
        _ours.add(ident)
        for name in _VENDOR_LOGGERS:
            logging.getLogger(name).addFilter(_filter)  # adding it twice does nothing
        loop = _Loop()
        asyncio.set_event_loop(loop)
        raised: BaseException | None = None
        try:
            with self._lock:
                self._stop = asyncio.Event()
                self._loop = loop
                if self._asked:
                    self._stop.set()
            loop.run_until_complete(self._main(self._stop))
        except BaseException as e:
            if self._on_raised is None:
                raise
            raised = e
        finally:
            with self._lock:
                self._loop = None
            with contextlib.suppress(Exception):
                loop.run_until_complete(cut_off(1.0))
                loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            asyncio.set_event_loop(None)
            _ours.discard(ident)
        if raised is not None and self._on_raised is not None:
            self._on_raised(raised)


async def cut_off(seconds: float = 0.2) -> None:
    """End all other tasks of this loop, and all its connections, within about `seconds`. Nothing else uses the loop, so
    they belong to an abandoned object of aiokafka."""
    loop = asyncio.get_running_loop()
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    if rest:
        done, _ = await asyncio.wait(rest, timeout=seconds)
        for task in done:
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not log it
    if isinstance(loop, _Loop):
        loop.abort_connections()
    await asyncio.sleep(0)  # an aborted connection is closed in the loop's next turn


def run_bounded(work: Callable[[], Coroutine[Any, Any, T]], seconds: float, operation: str) -> T:
    """Run `work()` in a new thread and event loop, and wait for its result. May be called anywhere. Raises
    TransportError for errors of Kafka, and when it takes longer than `seconds`; other exceptions pass."""
    result: list[T] = []
    error: list[BaseException] = []

    async def main(_stop: asyncio.Event) -> None:
        try:
            result.append(await asyncio.wait_for(work(), seconds))
        except (TransportError, ConfigError) as e:
            error.append(e)
        except vendor_errors() as e:
            ours = translate(operation, e)
            ours.__cause__ = e
            error.append(ours)
        except Exception as e:  # a defect: raised in the caller as it is
            error.append(e)

    thread = LoopThread("asgi-audit-kafka", main)
    thread.start()
    thread.join(seconds + 2 * STOP_SECONDS)
    if error:
        raise error[0]
    if not result:
        raise TransportError(f"Kafka: {operation}: no response within {seconds:g} s")
    return result[0]


def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """The options of every client of aiokafka. Raises ConfigError when the TLS files cannot be used."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.servers),
        "client_id": config.client_id,
        "request_timeout_ms": int(config.request_seconds * 1000),
        "security_protocol": config.security_protocol,
        "ssl_context": config.ssl_context(),
    }
    if config.sasl_mechanism:
        options["sasl_mechanism"] = config.sasl_mechanism
        options["sasl_plain_username"] = config.username
        options["sasl_plain_password"] = config.password
    return options


def compression() -> str | None:
    """The codec to send with: zstd, which the extra `kafka` installs, else none. aiokafka's gzip uses level 9, which
    costs thirty times as much as everything else in forwarding."""
    return "zstd" if has_zstd() else None


def new_producer(config: KafkaConfig, *, batch_bytes: int, idempotent: bool) -> Any:
    """A producer that is not started. Four of aiokafka's defaults are not safe for audit: acks, idempotence, batch
    size, timeout."""
    return AIOKafkaProducer(
        **connection_options(config),
        acks="all",
        enable_idempotence=idempotent,
        compression_type=compression(),
        max_batch_size=batch_bytes,
        linger_ms=0,
        metadata_max_age_ms=30_000,
        retry_backoff_ms=200,
    )


def new_consumer(config: KafkaConfig, *, fetch_wait_ms: int) -> Any:
    """A consumer that is not started, without a consumer group: the index stores the positions, and aiokafka's group
    code can stall a consumer (#929, #1040)."""
    return AIOKafkaConsumer(
        **connection_options(config),
        group_id=None,
        auto_offset_reset="none",
        enable_auto_commit=False,
        fetch_max_wait_ms=fetch_wait_ms,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=2 << 20,
        metadata_max_age_ms=10_000,
        retry_backoff_ms=200,
    )


async def dispose(stop: Callable[[], Awaitable[Any]], seconds: float = STOP_SECONDS) -> bool:
    """Stop a producer, consumer or client. Returns whether it stopped within `seconds`; if not, call `cut_off`. Raises
    only a cancellation of the caller: `AIOKafkaConsumer.stop()` also raises the cancellation of its own fetches."""
    try:
        with vendor_calls():
            await asyncio.wait_for(stop(), seconds)
    except vendor_errors():
        return False
    return True


async def cause_of(config: KafkaConfig, error: BaseException) -> BaseException:
    """The reason why a cluster could not be reached. aiokafka's bootstrap only logs it (a wrong password, a wrong CA)
    and raises a general error."""
    if not isinstance(error, vendor.KafkaConnectionError):
        return error
    options = connection_options(config)
    servers = options.pop("bootstrap_servers")
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            with vendor_calls():
                connection = await asyncio.wait_for(
                    create_conn(host.strip("[]"), int(port), **options), config.request_seconds
                )
        except vendor_errors() as e:
            error = e
        else:
            connection.close()
    return error


class TopicFacts(NamedTuple):
    """The topic now, as the cluster describes it. `leaders`: partition to node; -1: it has no leader. `topic_id`: 16
    bytes, different after a topic was deleted and created again; None when the broker or aiokafka does not support it.
    `error`: None when the topic exists. `rights`: a bit for each operation that this user may do with the topic, by
    Kafka's numbers of operations; None when it was not requested, or the broker does not return it."""

    cluster_id: str
    topic_id: bytes | None
    leaders: Mapping[int, int]
    brokers: int
    error: BaseException | None
    rights: int | None = None


class Probe:
    """A separate client for what aiokafka's producer and consumer cannot do: read the ids of the cluster and the topic,
    list partitions and their ends, and commit offsets without joining a group. It never creates a topic."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._client = AIOKafkaClient(**connection_options(config), metadata_max_age_ms=30_000)
        self._coordinator: int | None = None
        self._by_id = _KNOWS_IDS

    async def connect(self) -> None:
        """Raises what aiokafka raises."""
        with vendor_calls():
            await asyncio.wait_for(self._client.bootstrap(), self._config.request_seconds)

    async def close(self) -> None:
        await dispose(self._client.close)

    async def facts(self, *, with_rights: bool = False) -> TopicFacts:
        """Sends a request on each call (0.3 ms of CPU). Raises what aiokafka raises."""
        topic = self._config.topic
        if self._by_id:
            try:
                answer = await self._ask(TopicIdRequest(topic, with_rights=with_rights))
            except vendor.IncompatibleBrokerVersion:  # a broker before 3.0
                self._by_id = False
        if not self._by_id:
            answer = await self._ask(MetadataRequest([topic], False))
        found = next((t for t in answer.topics if t[1] == topic), None)
        error: BaseException | None = None
        topic_id: bytes | None = None
        partitions: list[tuple[Any, ...]] = []
        rights: int | None = None
        if found is None:
            error = vendor.UnknownTopicOrPartitionError()
        else:
            kind = vendor.for_code(found[0])
            error = None if kind is vendor.NoError else kind()
            topic_id = found[2] if self._by_id else None
            partitions = found[4] if self._by_id else found[3]
            rights = found[5] if self._by_id and found[5] >= 0 else None
        return TopicFacts(
            cluster_id=str(answer.cluster_id),
            topic_id=topic_id,
            leaders={p[1]: p[2] for p in partitions},
            brokers=len(answer.brokers),
            error=error,
            rights=rights,
        )

    async def ends(self, leaders: Mapping[int, int]) -> tuple[dict[int, int], dict[int, str]]:
        """(the offset after the last readable message, by partition; for the other partitions, why it is not known). A
        broker that has just become leader refuses the request until it knows its end (KIP-207)."""
        refused = {partition: "it has no leader" for partition, node in leaders.items() if node < 0}
        by_node: dict[int, list[int]] = {}
        for partition, node in leaders.items():
            if node >= 0:
                by_node.setdefault(node, []).append(partition)
        found: dict[int, int] = {}
        for one, why in await asyncio.gather(*(self._ends_at(node, asked) for node, asked in by_node.items())):
            found |= one
            refused |= why
        return found, refused

    async def _ends_at(self, node: int, partitions: list[int]) -> tuple[dict[int, int], dict[int, str]]:
        wanted = [(partition, OffsetResetStrategy.LATEST) for partition in partitions]
        request = OffsetRequest(-1, 0, [(self._config.topic, wanted)])
        found: dict[int, int] = {}
        refused: dict[int, str] = {}
        try:
            async with asyncio.timeout(self._config.request_seconds):
                with vendor_calls():
                    if self._client.cluster.broker_metadata(node) is None:
                        await self._client.force_metadata_update()
                    answer = await self._client.send(node, request)
        except vendor_errors() as e:
            return {}, dict.fromkeys(partitions, f"broker {node} does not respond: {type(e).__name__}")
        for _topic, answered in answer.topics:
            for partition, code, *rest in answered:
                kind = vendor.for_code(code)
                if kind is vendor.NoError:
                    found[partition] = rest[-1][0] if isinstance(rest[-1], list) else rest[-1]
                else:
                    refused[partition] = f"broker {node} says {kind.__name__}"
        return found, refused

    async def retention_ms(self) -> int | None:
        """How long the topic keeps a message; None: for ever, or this user may not read it. Raises what aiokafka
        raises."""
        answer = await self._ask(DescribeConfigsRequest([(_TOPIC_RESOURCE, self._config.topic, ["retention.ms"])]))
        for code, _text, _kind, _name, entries in answer.resources:
            for entry in entries:
                if code == 0 and entry[0] == "retention.ms" and entry[1] is not None and int(entry[1]) >= 0:
                    return int(entry[1])
        return None

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit offsets under the configured group, for lag tools; they are not used here. Raises what aiokafka
        raises."""
        group = self._config.group_id
        if self._coordinator is None:
            with vendor_calls():
                lookup = self._client.coordinator_lookup(CoordinationType.GROUP, group)
                self._coordinator = await asyncio.wait_for(lookup, self._config.request_seconds)
        topics = [(self._config.topic, [(partition, offset, "") for partition, offset in offsets.items()])]
        request = OffsetCommitRequest(group, -1, "", -1, topics)
        try:
            answer = await self._send(self._coordinator, request)
        except vendor_errors():
            self._coordinator = None
            raise
        for _topic, partitions in answer.topics:
            for _partition, code in partitions:
                kind = vendor.for_code(code)
                if kind is not vendor.NoError:
                    self._coordinator = None
                    raise kind()

    async def _ask(self, request: Any) -> Any:
        """Send the request to any broker; each is tried once."""
        error: BaseException = vendor.NodeNotReadyError("no broker is known")
        for broker in sorted(self._client.cluster.brokers()):
            try:
                return await self._send(broker.nodeId, request)
            except (TimeoutError, vendor.KafkaError, OSError) as e:
                if isinstance(e, vendor.IncompatibleBrokerVersion):
                    raise
                error = e
        raise error

    async def _send(self, node: Any, request: Any) -> Any:
        with vendor_calls():
            return await asyncio.wait_for(self._client.send(node, request), self._config.request_seconds)
