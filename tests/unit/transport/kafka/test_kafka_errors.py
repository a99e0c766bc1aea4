"""Every exception of aiokafka is mapped at the one seam, and few count as errors of the data."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka import errors as vendor

from asgi_audit.errors import TransportError
from asgi_audit.transport.kafka import errors


def _all() -> Iterator[type[BaseException]]:
    for value in vars(vendor).values():
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == vendor.__name__:
            yield value


# Errors that repeat until an operator changes a setting, a right or the topic. State the reason when you move a class
# here or away.
FINAL = """
AuthenticationFailedError AuthenticationMethodNotSupported ClusterAuthorizationFailedError CorruptRecordException
DelegationTokenAuthDisabled DelegationTokenAuthorizationFailed DelegationTokenExpired DelegationTokenNotFound
DelegationTokenOwnerMismatch DelegationTokenRequestNotAllowed GroupAuthorizationFailedError IllegalArgumentError
IllegalOperation IllegalSaslStateError IllegalStateError InconsistentGroupProtocolError IncompatibleBrokerVersion
InvalidCommitOffsetSizeError InvalidConfigurationError InvalidFetchRequestError InvalidGroupIdError
InvalidPartitionsError InvalidPrincipalType InvalidReplicationAssignmentError InvalidReplicationFactorError
InvalidRequestError InvalidRequiredAcksError InvalidSessionTimeoutError InvalidTimestampError InvalidTopicError
InvalidTransactionTimeout KafkaConfigurationError ListenerNotFound MessageSizeTooLargeError NonEmptyGroup
OffsetMetadataTooLargeError PolicyViolationError RecordListTooLargeError RecordTooLargeError
SaslAuthenticationFailed SecurityDisabled TopicAlreadyExistsError TopicAuthorizationFailedError
TransactionalIdAuthorizationFailed UnrecognizedBrokerVersion UnsupportedCodecError UnsupportedForMessageFormatError
UnsupportedSaslMechanismError UnsupportedVersionError
""".split()  # noqa: SIM905


@pytest.mark.parametrize("kind", sorted(set(_all()), key=lambda k: k.__name__))
def test_every_vendor_exception_is_caught_and_translated(kind: type[BaseException]) -> None:
    error = kind()
    assert isinstance(error, errors.vendor_errors())
    ours = errors.translate("send to h:9092/t", error)
    assert isinstance(ours, TransportError)
    assert str(ours).startswith("Kafka: send to h:9092/t: ")
    assert "\n" not in str(ours)
    assert ours.retriable == (kind.__name__ not in FINAL)


def test_vendor_says_no_to_a_retry_that_we_make_only_when_we_know_why() -> None:
    """aiokafka never retries these; the forwarder does, with a new producer, because they pass."""
    ours_alone = {k.__name__ for k in set(_all()) if errors.is_retriable(k()) and not getattr(k, "retriable", False)}
    assert {"OutOfOrderSequenceNumber", "UnknownProducerId", "InvalidProducerEpoch", "ProducerClosed"} <= ours_alone
    never = {k.__name__ for k in set(_all()) if getattr(k, "retriable", False) and not errors.is_retriable(k())}
    assert never == set()


def test_data_is_blamed_only_for_what_the_broker_says_of_the_data() -> None:
    blamed = {k.__name__ for k in set(_all()) if errors.blames_data(k())}
    assert blamed == {
        "MessageSizeTooLargeError", "RecordListTooLargeError", "RecordTooLargeError", "CorruptRecordException",
        "UnsupportedForMessageFormatError", "PolicyViolationError",
    }  # fmt: skip
    assert errors.blames_clock(vendor.InvalidTimestampError())
    assert errors.blames_topic(vendor.UnknownTopicOrPartitionError())


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (TimeoutError(), "no response in time", "advertised.listeners"),
        (ConnectionRefusedError(111, "refused"), "refused", "advertised.listeners"),
        (ssl.SSLCertVerificationError("bad"), "bad", "CA of the broker"),
        (vendor.UnknownTopicOrPartitionError(), "UnknownTopicOrPartition", "topics create"),
        (vendor.KafkaConnectionError("x" * 1000), "xxx", "advertised.listeners"),
    ],
)
def test_message_and_hint_help_the_operator(error: BaseException, told: str, hint: str) -> None:
    ours = errors.translate("send to h/t", error)
    assert told in str(ours)
    assert hint in ours.hint
    assert len(str(ours)) < 500


@pytest.mark.parametrize("kind", [AssertionError, ValueError, AttributeError, KeyError, RuntimeError, TypeError])
def test_what_a_call_of_the_vendor_raises_is_its_defect(kind: type[Exception]) -> None:
    with pytest.raises(errors.VendorDefect, match=kind.__name__) as raised, errors.vendor_calls():
        raise kind("x")
    assert isinstance(raised.value, errors.vendor_errors())
    assert errors.is_retriable(raised.value)
    assert isinstance(raised.value.__cause__, kind)
    assert not isinstance(kind("x"), errors.vendor_errors()), "raised outside of such a call it is ours"


@pytest.mark.parametrize("kind", sorted(set(_all()), key=lambda k: k.__name__))
def test_error_of_the_vendor_leaves_its_call_as_it_is(kind: type[BaseException]) -> None:
    with pytest.raises(kind) as raised, errors.vendor_calls():
        raise kind()
    assert type(raised.value) is kind


def test_request_that_a_broker_does_not_know_says_so() -> None:
    with pytest.raises(vendor.IncompatibleBrokerVersion), errors.vendor_calls():
        raise NotImplementedError("no version of it")


def test_only_the_caller_cancels_a_call_of_the_vendor() -> None:
    async def waits(future: asyncio.Future[None]) -> None:
        with errors.vendor_calls():
            await future

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(waits(future))
        await asyncio.sleep(0)
        future.cancel()  # as aiokafka cancels its own
        with pytest.raises(errors.VendorDefect):
            await task
        task = asyncio.create_task(waits(asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_defect_names_its_place_and_not_what_a_record_holds() -> None:
    try:
        raise KeyError("a secret")
    except KeyError as e:
        ours = errors.defect("read h:9092/t", e)
    assert not ours.retriable
    assert str(ours).startswith("Kafka: read h:9092/t: a bug in asgi-audit, KeyError at test_kafka_errors.py:")
    assert "secret" not in str(ours)
