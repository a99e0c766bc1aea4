"""The state of the forwarder and the source, and one log line for each change of it.

While a broker does not respond, attempts fail several times a second. The operator needs to know that it does not
respond, and since when; not each attempt.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import NamedTuple

from .errors import blames_topic, translate

__all__ = ["Condition", "ForwarderStats", "KafkaSourceStats", "KafkaState", "log"]

log = logging.getLogger("asgi_audit.transport.kafka")


class KafkaState(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting for Kafka"
    NO_TOPIC = "the topic does not exist"
    DENIED = "Kafka refuses this client until something is changed"
    STOPPED = "stopped"


class ForwarderStats(NamedTuple):
    """Counts since the start. `sent` counts an entry again when it is sent again. `pending`: entries in memory.
    `last_error` holds no secret."""

    state: KafkaState
    sent: int
    acknowledged: int
    refused: int
    refused_records: int
    damaged: int
    batches: int
    retries: int
    pending: int
    pending_bytes: int
    dead_letters: int
    last_error: str


class KafkaSourceStats(NamedTuple):
    state: KafkaState
    queued: int
    lag: int | None  # messages below the last known high watermarks that are not stored; None before the first response
    # Seconds until retention removes the oldest message that is not stored, or one appended now; None: not known.
    expires_in: float | None
    statement_delay: float | None  # append time of each partition's last statement minus its watermark, the largest
    incidents: int
    last_error: str


class Condition:
    """`operation` ('send to', 'read') and `address`: what is tried. `meanwhile`: a sentence that says what happens to
    the records while it fails. Written by one thread, read by any. `last_error` contains no secret."""

    def __init__(self, operation: str, address: str, meanwhile: str) -> None:
        self.state = KafkaState.STARTING
        self.last_error = ""
        self._operation = operation
        self._address = address
        self._meanwhile = meanwhile

    def enter(self, state: KafkaState, error: str = "") -> None:
        """Log a line if this is a change of the state."""
        if error:
            self.last_error = error
        if state is self.state:
            return
        self.state = state
        if state is KafkaState.RUNNING:
            log.info("%s Kafka topic %s", self._operation, self._address)
        elif state is KafkaState.NO_TOPIC:
            log.error("%s; create it with `asgi-audit topics create`. %s", self.last_error, self._meanwhile)
        elif state is not KafkaState.STOPPED:
            log.warning("%s: %s", self._meanwhile.rstrip("."), self.last_error)

    def failed(self, error: BaseException) -> None:
        """An attempt failed: enter the state for this kind of error."""
        if blames_topic(error):
            self.no_topic()
        elif self.state is not KafkaState.NO_TOPIC or not isinstance(error, asyncio.TimeoutError):
            ours = translate(f"{self._operation} {self._address}", error)
            self.enter(
                KafkaState.WAITING if ours.retriable else KafkaState.DENIED,
                f"{ours}; {ours.hint}" if ours.hint else str(ours),
            )

    def no_topic(self) -> None:
        self.enter(KafkaState.NO_TOPIC, f"Kafka topic {self._address} does not exist")

    def error_text(self, error: BaseException) -> str:
        return str(translate(f"{self._operation} {self._address}", error))

    def once(self, text: str) -> None:
        """Log a line without a change of state, unless it repeats the last line."""
        if text != self.last_error:
            self.last_error = text
            log.warning("%s", text)
