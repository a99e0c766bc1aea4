"""The address and security settings of Kafka: accepted values, error messages, and secrets that are never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asgi_audit.errors import ConfigError
from asgi_audit.transport.kafka.config import kafka_config


@pytest.mark.parametrize(
    ("url", "servers", "topic", "tls"),
    [
        ("kafka://localhost:9092/audit", ("localhost:9092",), "audit", False),
        ("kafka://localhost/audit", ("localhost:9092",), "audit", False),
        ("kafkas://a.example:9093,b.example:9094/audit.records-1_x", ("a.example:9093", "b.example:9094"), None, True),
        ("kafka://[::1]:9092,[::2]/t", ("[::1]:9092", "[::2]:9092"), "t", False),
    ],
)
def test_address_is_split_when_it_is_right(url: str, servers: tuple[str, ...], topic: str | None, tls: bool) -> None:
    config = kafka_config(url)
    assert (config.servers, config.topic, config.tls) == (servers, topic or "audit.records-1_x", tls)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://localhost:9092", "kafka://localhost:9092/", "kafka:///audit", "kafka://h:0/t", "kafka://h:99999/t",
        "kafka://h:x/t", "kafka://h,/t", "kafka://h/t/u", "kafka://h/t?acks=1", "kafka://h/t#x", "kafka://h/..",
        "kafka://h/a b", "http://h/t", "h:9092/t", "", "kafka://h/" + "x" * 250, "kafka://h:-1/t", "kafka://h:9²/t",
    ],
)  # fmt: skip
def test_address_is_refused_with_what_is_accepted_when_it_is_wrong(url: str) -> None:
    with pytest.raises(ConfigError, match=r"kafka://host:port\[,host:port\]/topic"):
        kafka_config(url)


@pytest.mark.parametrize("url", ["kafka://user:s3cret@h/t", "kafka://h/t@s3cret", "nonsense s3cret@"])
def test_address_is_never_shown_when_it_may_hold_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        kafka_config(url)
    assert "s3cret" not in f"{raised.value} {raised.value.hint} {raised.value!r}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sasl_mechanism": "GSSAPI", "username": "u", "password": "s3cret"}, "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"sasl_mechanism": "PLAIN", "username": "u"}, "requires a user name and a password"),
        ({"password": "s3cret"}, "without a user name"),
        ({"request_seconds": 0}, "1 to 300"),
        ({"ca_file": "/ca.pem"}, "TLS is off"),
        ({"tls": True, "key_file": "/key.pem"}, "cert_file"),
    ],
)
def test_settings_are_refused_in_one_line_when_they_do_not_fit(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        kafka_config("kafka://h/t", **given)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cret " not in f"{raised.value} "


def test_tls_is_not_turned_off_silently_when_the_scheme_asks_for_it() -> None:
    with pytest.raises(ConfigError, match="kafkas"):
        kafka_config("kafkas://h/t", tls=False)


def test_tls_files_are_named_when_they_cannot_be_read(tmp_path: Path) -> None:
    config = kafka_config("kafkas://h/t", ca_file=tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        config.ssl_context()


def test_certificates_and_names_are_checked_when_tls_is_on() -> None:
    import ssl

    context = kafka_config("kafkas://h/t").ssl_context()
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_secrets_are_masked_in_repr() -> None:
    config = kafka_config("kafkas://h/t", username="u", password="s3cret", key_password="pr1vate", cert_file="/c.pem")
    assert config.sasl_mechanism == "SCRAM-SHA-512"
    assert config.security_protocol == "SASL_SSL"
    assert "s3cret" not in repr(config)
    assert "pr1vate" not in repr(config)
    assert "password='***'" in repr(config) or "password=***" in repr(config)
