"""Settings: connection to Kafka. `transport` holds the address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from . import checks
from .checks import setting

__all__ = ["Kafka", "KafkaSettings"]


class KafkaSettings(TypedDict, total=False):
    kafka_ca_file: str | Path
    kafka_cert_file: str | Path
    kafka_key_file: str | Path
    kafka_key_password: str
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    kafka_username: str
    kafka_password: str
    kafka_linger_seconds: float


@dataclass(frozen=True, kw_only=True)
class Kafka:
    kafka_ca_file: Path | None = setting(  # noqa: RUF009 - a frozen default
        None,
        checks.optional_path,
        "CA certificates (PEM) to verify a `kafkas://` broker. Default: the system's.",
    )
    kafka_cert_file: Path | None = setting(  # noqa: RUF009
        None, checks.optional_path, "Client certificate (PEM), if the broker requires one."
    )
    kafka_key_file: Path | None = setting(  # noqa: RUF009
        None, checks.optional_path, "Private key of the client certificate (PEM)."
    )
    kafka_key_password: str = setting("", checks.text, "Password of the key file.", secret=True)
    kafka_sasl_mechanism: str = setting(
        "",
        checks.optional_choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. Default: the last, if a user name is set.",
    )
    kafka_username: str = setting("", checks.text, "User name for the broker.")
    kafka_password: str = setting("", checks.text, "Password for the broker.", secret=True)
    kafka_linger_seconds: float = setting(
        0.1,
        checks.seconds(0.005, 10),
        "Interval between sends to Kafka: a longer one makes larger batches and adds delay.",
    )
