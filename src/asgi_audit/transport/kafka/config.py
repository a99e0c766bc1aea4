"""Address and security settings of the topic, `kafka://host:port[,host:port]/topic`, validated together.

The address contains no secrets: user and password come from settings, and are masked in `repr`. A wrong value raises a
ConfigError that says what is accepted and shows no secret.
"""

from __future__ import annotations

import dataclasses
import ssl
from dataclasses import dataclass
from pathlib import Path

from ...addresses import kafka_address
from ...errors import ConfigError

__all__ = ["SASL_MECHANISMS", "KafkaConfig", "kafka_config"]

SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, kw_only=True)
class KafkaConfig:
    """One topic of one cluster. Built by `kafka_config`; a dataclass so that tests may replace a field."""

    servers: tuple[str, ...]
    topic: str
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = dataclasses.field(default=None, metadata={"secret": True})
    sasl_mechanism: str = ""
    username: str = ""
    password: str | None = dataclasses.field(default=None, metadata={"secret": True})
    client_id: str = "asgi-audit"
    group_id: str = "asgi-audit-indexer"
    request_seconds: float = 15.0

    def __repr__(self) -> str:
        shown = (
            f"{f.name}={'***' if f.metadata.get('secret') else repr(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        )
        return f"KafkaConfig({', '.join(shown)})"

    @property
    def address(self) -> str:
        """`host:port[,host:port]/topic`, for messages. It contains no secret."""
        return f"{','.join(self.servers)}/{self.topic}"

    @property
    def security_protocol(self) -> str:
        return ("SASL_" if self.sasl_mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Checks the server's certificate and host name; with `cert_file` the client presents its own. None without
        TLS. Raises ConfigError."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
            if self.cert_file:
                # Not None, because OpenSSL would then ask for a password on the terminal and wait for ever.
                key = str(self.key_file) if self.key_file else None
                context.load_cert_chain(str(self.cert_file), key, password=self.key_password or "")
        except (OSError, ssl.SSLError) as e:
            files = ", ".join(str(f) for f in (self.ca_file, self.cert_file, self.key_file) if f)
            raise ConfigError(
                f"the TLS files of Kafka ({files or 'the system CA store'}) cannot be used: {e}; "
                "accepted: PEM files that this process can read"
            ) from None
        return context


def kafka_config(
    url: str,
    *,
    tls: bool | None = None,
    ca_file: str | Path | None = None,
    cert_file: str | Path | None = None,
    key_file: str | Path | None = None,
    key_password: str | None = None,
    sasl_mechanism: str | None = None,
    username: str | None = None,
    password: str | None = None,
    client_id: str = "asgi-audit",
    group_id: str = "asgi-audit-indexer",
    request_seconds: float = 15.0,
) -> KafkaConfig:
    """The configuration from an address and settings; None and '' mean that a setting is not given. Raises ConfigError.

    `kafkas://` means `tls`. SASL is on when a mechanism or a user is given (SCRAM-SHA-512 when only a user is).
    `group_id`: the name under which offsets are committed for lag tools. `request_seconds`: the timeout of one request
    to a broker."""
    address = kafka_address(url)
    if tls is False and address.is_tls:
        raise ConfigError("kafkas:// cannot be combined with TLS turned off; use kafka:// without TLS")
    tls = address.is_tls or bool(tls)
    if not tls:
        for name, value in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
            if value:
                raise ConfigError(f"Kafka's {name} is given but TLS is off; use kafkas:// in place of kafka://")
    if key_file and not cert_file:
        raise ConfigError("Kafka's key_file requires a cert_file")
    if username and not sasl_mechanism:
        sasl_mechanism = "SCRAM-SHA-512"
    if sasl_mechanism:
        sasl_mechanism = sasl_mechanism.upper()
        if sasl_mechanism not in SASL_MECHANISMS:
            raise ConfigError(
                f"SASL mechanism {sasl_mechanism[:40]!r} is unknown; accepted: {', '.join(SASL_MECHANISMS)}"
            )
        if not username or not password:
            raise ConfigError(f"SASL {sasl_mechanism} requires a user name and a password")
    elif password:
        raise ConfigError("a password for Kafka is given without a user name")
    if not 1 <= request_seconds <= 300:
        raise ConfigError(f"request_seconds is {request_seconds}; accepted: seconds from 1 to 300")
    return KafkaConfig(
        servers=address.servers,
        topic=address.topic,
        tls=tls,
        ca_file=Path(ca_file) if ca_file else None,
        cert_file=Path(cert_file) if cert_file else None,
        key_file=Path(key_file) if key_file else None,
        key_password=key_password or None,
        sasl_mechanism=sasl_mechanism or "",
        username=username or "",
        password=password or None,
        client_id=client_id,
        group_id=group_id,
        request_seconds=float(request_seconds),
    )
