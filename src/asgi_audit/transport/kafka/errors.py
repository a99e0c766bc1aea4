"""The one place where exceptions of aiokafka are translated.

It decides three things: the message for the operator; whether the same attempt can succeed later; and whether the
*data* of a batch caused the error (then the batch is split) or something else (then it waits). Few errors count as
errors of the data, because a wrong decision there would throw away good records.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import traceback
from collections.abc import Iterator

from aiokafka import errors as vendor

from ...errors import TransportError

__all__ = [
    "VendorDefect",
    "blames_batch_size",
    "blames_clock",
    "blames_data",
    "blames_topic",
    "defect",
    "is_retriable",
    "translate",
    "vendor_calls",
    "vendor_errors",
]

_TOO_LARGE: tuple[type[BaseException], ...] = (
    vendor.MessageSizeTooLargeError,
    vendor.RecordListTooLargeError,
    vendor.RecordTooLargeError,
)
_DATA: tuple[type[BaseException], ...] = (
    *_TOO_LARGE,
    # Not InvalidTimestampError: the timestamp is the send time, so the broker refuses this machine's clock, and with it
    # every batch.
    vendor.CorruptRecordException,
    vendor.UnsupportedForMessageFormatError,
    vendor.PolicyViolationError,
)

# The same attempt fails until a setting, a right or the topic is changed. Threads still try again, slowly, because the
# operator changes it at the broker and may not restart the application; a command gives up at once (`retriable`).
_FINAL: tuple[type[BaseException], ...] = (
    vendor.AuthenticationFailedError,
    vendor.AuthenticationMethodNotSupported,
    vendor.SaslAuthenticationFailed,
    vendor.UnsupportedSaslMechanismError,
    vendor.IllegalSaslStateError,
    vendor.TopicAuthorizationFailedError,
    vendor.GroupAuthorizationFailedError,
    vendor.ClusterAuthorizationFailedError,
    vendor.TransactionalIdAuthorizationFailed,
    vendor.DelegationTokenAuthDisabled,
    vendor.DelegationTokenNotFound,
    vendor.DelegationTokenOwnerMismatch,
    vendor.DelegationTokenRequestNotAllowed,
    vendor.DelegationTokenAuthorizationFailed,
    vendor.DelegationTokenExpired,
    vendor.InvalidPrincipalType,
    vendor.SecurityDisabled,
    vendor.InvalidTopicError,
    vendor.TopicAlreadyExistsError,
    vendor.InvalidPartitionsError,
    vendor.InvalidReplicationFactorError,
    vendor.InvalidReplicationAssignmentError,
    vendor.InvalidConfigurationError,
    vendor.InvalidRequestError,
    vendor.InvalidFetchRequestError,
    vendor.InvalidRequiredAcksError,
    vendor.InvalidGroupIdError,
    vendor.InvalidSessionTimeoutError,
    vendor.InvalidTransactionTimeout,
    vendor.InvalidCommitOffsetSizeError,
    vendor.OffsetMetadataTooLargeError,
    vendor.InconsistentGroupProtocolError,
    vendor.UnsupportedVersionError,
    vendor.UnrecognizedBrokerVersion,
    vendor.IncompatibleBrokerVersion,
    vendor.UnsupportedCodecError,
    vendor.KafkaConfigurationError,
    vendor.IllegalStateError,
    vendor.IllegalArgumentError,
    vendor.IllegalOperation,
    vendor.NonEmptyGroup,
    vendor.ListenerNotFound,
    vendor.InvalidTimestampError,
    ssl.SSLCertVerificationError,
    *_DATA,
)

_NAMED = re.compile(r"^(\[Error \d+\] )?[A-Z]\w*(: |$)")
_IN_SYNC = "Too few replicas are in sync for min.insync.replicas; start the missing brokers."
_RIGHTS = "Grant this user rights on the topic: Write to send, Read to index, Create to create it."
_CLUSTER = "Brokers before 2.8 require IdempotentWrite on the cluster. To create the topic, Create is required."
_REACH = (
    "Check that the broker runs, that its advertised.listeners can be reached from here, and that its port matches the "
    "settings of TLS (kafkas://) and SASL."
)

_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (vendor.AuthenticationFailedError, "Check the user name and the password of Kafka."),
    (vendor.SaslAuthenticationFailed, "Check the user name and the password of Kafka."),
    (vendor.UnsupportedSaslMechanismError, "Choose a SASL mechanism that the broker has enabled."),
    (vendor.IllegalSaslStateError, "The listener may not use SASL; check the port and the SASL settings."),
    (vendor.TopicAuthorizationFailedError, _RIGHTS),
    (vendor.GroupAuthorizationFailedError, "Grant this user Read on the consumer group."),
    (vendor.ClusterAuthorizationFailedError, _CLUSTER),
    (vendor.UnknownTopicOrPartitionError, "Create it with `asgi-audit topics create`."),
    (vendor.InvalidReplicationFactorError, "The cluster has fewer brokers than the requested number of replicas."),
    (vendor.UnsupportedCodecError, "Install the codecs: pip install 'asgi-audit[kafka]'."),
    (vendor.NotEnoughReplicasError, _IN_SYNC),
    (vendor.NotEnoughReplicasAfterAppendError, _IN_SYNC),
    (vendor.InvalidTimestampError, "The clocks of this machine and of the broker are more than an hour apart."),
    (vendor.KafkaStorageError, "A disk of the broker has failed; see the broker's log."),
    (ssl.SSLCertVerificationError, "Set kafka_ca_file to the CA of the broker's certificate; use a host name in it."),
    (ssl.SSLError, "The listener may not use TLS; check the port, kafka:// or kafkas://."),
    (vendor.KafkaConnectionError, _REACH),
    (OSError, _REACH),
)  # fmt: skip


class VendorDefect(vendor.KafkaError):  # type: ignore[misc]
    """aiokafka raised an exception that is not an error of Kafka. Some of its assertions fail after a connection was
    replaced, and it passes on what struct and the codecs raise for malformed bytes. A new client may work."""

    retriable = True


@contextlib.contextmanager
def vendor_calls() -> Iterator[None]:
    """Wrap calls of aiokafka, and nothing else: what they raise leaves as one of `vendor_errors`. An AssertionError or
    KeyError from elsewhere is then known to be a defect of our code, and is not mistaken for an error of the broker.

    A cancellation of the caller passes. When aiokafka cancels one of its own futures, that becomes a VendorDefect."""
    try:
        yield
    except asyncio.CancelledError as e:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise VendorDefect("a call was cancelled inside aiokafka") from e
    except vendor_errors():
        raise
    except NotImplementedError as e:  # raised when the broker knows no version of a request
        raise vendor.IncompatibleBrokerVersion(str(e)) from e
    except Exception as e:
        raise VendorDefect(f"{type(e).__name__}: {e}") from e


def vendor_errors() -> tuple[type[BaseException], ...]:
    """What a call inside `vendor_calls` may raise, for an `except`."""
    return (vendor.KafkaError, vendor.ConsumerStoppedError, vendor.IllegalOperation, OSError, asyncio.TimeoutError)


def blames_data(error: BaseException) -> bool:
    """Whether the broker refused the contents of the batch, so that it will refuse the batch again."""
    return isinstance(error, _DATA)


def blames_batch_size(error: BaseException) -> bool:
    """Whether the broker may accept the same records in smaller batches."""
    return isinstance(error, _TOO_LARGE)


def blames_clock(error: BaseException) -> bool:
    """Whether the broker refused the send time, which is by this machine's clock. It accepts the batch without a
    timestamp."""
    return isinstance(error, vendor.InvalidTimestampError)


def blames_topic(error: BaseException) -> bool:
    """Whether the cluster responds and has no such topic."""
    return isinstance(error, vendor.UnknownTopicOrPartitionError)


def is_retriable(error: BaseException) -> bool:
    """False when the same attempt will fail until something is changed."""
    return not isinstance(error, _FINAL)


def translate(operation: str, error: BaseException) -> TransportError:
    """A TransportError, to be raised `from error`. `operation`: what was tried, as 'send to topic audit-records'."""
    hint = next((text for kind, text in _HINTS if isinstance(error, kind)), "")
    return TransportError(f"Kafka: {operation}: {_said(error)}", retriable=is_retriable(error), hint=hint)


def defect(operation: str, error: BaseException) -> TransportError:
    """A TransportError, to be raised `from error`, which is a defect of the code: it is not retriable. The message
    names the place in the code, and not the error's text, which may contain data of a record."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return TransportError(
        f"Kafka: {operation}: a bug in asgi-audit, {type(error).__name__}{place}",
        retriable=False,
        hint="Nothing is lost: what is not indexed or acknowledged yet is read again at the next start.",
    )


def _said(error: BaseException) -> str:
    """The error's name and text on one line, bounded. aiokafka puts no passwords into its texts; a test checks that."""
    name = type(error).__name__.lstrip("_").removesuffix("Error").removesuffix("Exception") or "Error"
    try:
        text = " ".join(str(error).split())[:300]
    except AttributeError:  # str() of aiokafka's base class of broker errors fails
        text = ""
    # aiokafka writes the name before the text, with and without its number.
    if isinstance(error, vendor.KafkaError):
        text = _NAMED.sub("", text)
    if isinstance(error, asyncio.TimeoutError):
        return "no response in time"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return f"{name}: {text}" if text else name
