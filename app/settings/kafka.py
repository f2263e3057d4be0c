"""The ``[kafka]`` section: where the log is, how the group behaves, and how its doors are opened (TLS, SASL).

``KafkaSettings.client()`` is the one place that turns them into the arguments of a Kafka client; every client of Tidings is made with it,
by way of app/streams/kafka_client.py, which knows how to ask for tokens.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from app.settings.section import SecretRef, Section


class KafkaSettings(Section):
    """Where the log is and how the group behaves."""

    bootstrap_servers: str = "127.0.0.1:9092"
    #: SSL is TLS; SASL is a login: a user's name and password, or a token.
    #: Over TLS the broker's certificate must be good for the name it is reached by.
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    #: Certificates (PEM) that may sign the broker's; those of the system when empty.
    ca_file: str = ""
    #: This client's own certificate and key (PEM), for brokers that ask for one. The key may stand in cert_file, too.
    cert_file: str = ""
    key_file: str = ""
    key_password: SecretRef | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: SecretRef | None = None
    #: Of OAUTHBEARER: where a client's own credentials are changed for a token. https, unless on this machine; what ca_file signs is good.
    sasl_token_url: str = ""
    sasl_client_id: str = ""
    sasl_client_secret: SecretRef | None = None
    sasl_scope: str = ""
    #: Consumer group, and prefix of changelog topics and of the partitions' producer ids.
    application_id: str = Field("tidings", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    #: Topics are <prefix>.<name>.v1
    topic_prefix: str = Field("tidings", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    #: Of every topic and table. Fixed for the life of the data: at least four times the largest number of workers.
    partitions: int = Field(8, ge=1, le=1024)
    replication_factor: int = Field(1, ge=1, le=7)
    min_insync_replicas: int = Field(1, ge=1, le=7)
    session_timeout_seconds: float = Field(15, ge=6, le=300)
    heartbeat_interval_seconds: float = Field(3, gt=0, le=100)
    rebalance_timeout_seconds: float = Field(30, ge=6, le=600)
    request_timeout_seconds: float = Field(10, ge=1, le=120)
    commit_interval_seconds: float = Field(0.5, gt=0, le=60)
    #: How long the broker may hold a fetch that has nothing to give.
    fetch_max_wait_ms: int = Field(100, ge=5, le=5000)
    #: How long it may collect what comes in, while records come, so that many events are applied and written together. For a worker that
    #: is busy, twice as long.
    fetch_linger_ms: int = Field(15, ge=1, le=1000)
    #: Go on against a broker without idempotence and producer ids (the embedded one), where a paused worker is not fenced.
    allow_unfenced: bool = False

    @property
    def is_encrypted(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def has_login(self) -> bool:
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def has_tokens(self) -> bool:
        return self.has_login and self.sasl_mechanism == "OAUTHBEARER"

    def client(self) -> dict[str, Any]:
        """What every Kafka client is made with: address, time-out, TLS and login. Reads the certificates' files."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "request_timeout_ms": int(self.request_timeout_seconds * 1000),
            "security_protocol": self.security_protocol,
        }
        if self.is_encrypted:
            arguments["ssl_context"] = _tls(self)
        if self.has_tokens:
            arguments["sasl_mechanism"] = self.sasl_mechanism
        elif self.has_login and self.sasl_password is not None:
            arguments["sasl_mechanism"] = self.sasl_mechanism
            arguments["sasl_plain_username"] = self.sasl_username
            arguments["sasl_plain_password"] = self.sasl_password.get_secret_value()
        return arguments

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _can_be_read(cls, file: str) -> str:
        if file:
            try:
                Path(file).read_bytes()
            except OSError as exc:
                raise ValueError(f"cannot read {file}: {exc.strerror}") from None
        return file

    @model_validator(mode="after")
    def _timeouts_fit(self) -> KafkaSettings:
        if self.heartbeat_interval_seconds * 2 > self.session_timeout_seconds:
            raise ValueError("heartbeat_interval_seconds must be at most half of session_timeout_seconds")
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas must not be above replication_factor")
        return self

    @model_validator(mode="after")
    def _doors_fit(self) -> KafkaSettings:
        """What is given and would not be used is a mistake: a password that nobody asks for, a certificate for a plain connection."""
        if not self.is_encrypted:
            for name in ("ca_file", "cert_file", "key_file", "key_password"):
                if getattr(self, name):
                    raise ValueError(f"{name} is given, but security_protocol {self.security_protocol} does not use TLS")
        self._login_fits()
        if not self.cert_file and (self.key_file or self.key_password):
            raise ValueError("key_file or key_password is given without cert_file")
        if self.key_password and not self.key_file:
            raise ValueError("key_password is given without key_file")
        if self.is_encrypted:
            _tls(self)
        return self

    def _login_fits(self) -> None:
        needed: tuple[str, ...]
        unused: tuple[str, ...]
        password, token = ("sasl_username", "sasl_password"), ("sasl_token_url", "sasl_client_id", "sasl_client_secret")
        if not self.has_login:
            if self.sasl_username or self.sasl_password:
                raise ValueError(
                    f"sasl_username or sasl_password is given, but security_protocol is {self.security_protocol}, without a login"
                )
            needed, unused, why = (), (*token, "sasl_scope"), f"security_protocol is {self.security_protocol}, without a login"
        elif self.has_tokens:
            needed, unused, why = token, password, "sasl_mechanism is OAUTHBEARER"
        else:
            needed, unused, why = password, (*token, "sasl_scope"), f"sasl_mechanism is {self.sasl_mechanism}"
        for name in unused:
            if getattr(self, name):
                raise ValueError(f"{name} is given, but {why}")
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"security_protocol {self.security_protocol} needs {name}" + (f": {why}" if self.has_tokens else ""))
        if self.has_tokens:
            _check_token_url(self.sasl_token_url)


def _check_token_url(url: str) -> None:
    """Raises ValueError unless a secret may be sent there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("sasl_token_url must be an https URL")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("sasl_token_url must carry neither a user nor a password nor a fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("sasl_token_url must be https, unless it is on this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(kafka: KafkaSettings) -> ssl.SSLContext:
    """Verifies the broker's certificate and its name, always. Raises ValueError, which names the setting."""
    try:
        context = ssl.create_default_context(cafile=kafka.ca_file or None)
    except (ssl.SSLError, OSError):
        raise ValueError(f"ca_file: {kafka.ca_file} holds no certificate in PEM") from None
    if kafka.cert_file:
        password = kafka.key_password.get_secret_value() if kafka.key_password else ""
        try:
            # A password is always given, if only an empty one: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(kafka.cert_file, kafka.key_file or None, password=password)
        except (ssl.SSLError, OSError) as exc:
            raise ValueError(_why_no_key(kafka, getattr(exc, "reason", None))) from None
    return context


def _why_no_key(kafka: KafkaSettings, reason: str | None) -> str:
    key_file = kafka.key_file or kafka.cert_file
    key = Path(key_file).read_bytes()
    if reason == "KEY_VALUES_MISMATCH":
        return f"key_file: {key_file} is not the key of the certificate in {kafka.cert_file}"
    if b"-----BEGIN CERTIFICATE-----" not in Path(kafka.cert_file).read_bytes():
        return f"cert_file: {kafka.cert_file} holds no certificate in PEM"
    if b"PRIVATE KEY-----" not in key:
        return f"key_file: {key_file} holds no private key in PEM"
    if b"ENCRYPTED" in key:
        return f"key_password does not open {key_file}" if kafka.key_password else f"key_file: {key_file} is encrypted: give key_password"
    return f"cert_file, key_file: {kafka.cert_file} and {key_file} cannot be used ({reason or 'unreadable'})"
