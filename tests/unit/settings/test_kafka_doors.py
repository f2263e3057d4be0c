"""TLS and login to Kafka in the settings: what fits together, what each mistake is called, and that no secret is shown."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.errors import SettingsError
from app.settings import KafkaSettings, load_settings
from tests.brokers.certificates import Authority

APP = Path(__file__).resolve().parents[3] / "app"
PASSWORD = "a-password-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def loaded(**kafka: Any) -> KafkaSettings:
    """As the settings file and the environment would give them."""
    return load_settings(Path("/dev/null"), {"kafka": kafka}).kafka


LOGIN = {"sasl_username": "tidings", "sasl_password": "env:KAFKA_PASSWORD"}


def test_without_settings_nothing_is_encrypted_and_nobody_logs_in() -> None:
    assert loaded().client() == {"bootstrap_servers": "127.0.0.1:9092", "request_timeout_ms": 10_000, "security_protocol": "PLAINTEXT"}


def test_tls_checks_the_certificate_and_its_name(authority: Authority) -> None:
    context = loaded(security_protocol="SSL", ca_file=str(authority.file)).client()["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [dict(pair[0] for pair in ca["subject"])["commonName"] for ca in context.get_ca_certs()] == ["authority"]


def test_without_a_ca_file_the_certificates_of_the_system_count() -> None:
    context = loaded(security_protocol="SSL").client()["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_login_reaches_the_client(protocol: str, mechanism: str) -> None:
    client = loaded(security_protocol=protocol, sasl_mechanism=mechanism, **LOGIN).client()
    assert (client["sasl_mechanism"], client["sasl_plain_username"], client["sasl_plain_password"]) == (mechanism, "tidings", PASSWORD)
    assert ("ssl_context" in client) == (protocol == "SASL_SSL")


def test_a_certificate_of_ones_own_is_loaded_with_the_password_of_its_key(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    cert_file, key_file = authority.signed("locked", password=PASSWORD)
    files = {"ca_file": str(authority.file), "cert_file": str(cert_file), "key_file": str(key_file)}
    assert "ssl_context" in loaded(security_protocol="SSL", **files, key_password="env:KAFKA_PASSWORD").client()
    monkeypatch.setenv("WRONG", "another-password")
    with pytest.raises(SettingsError, match="kafka: key_password does not open"):
        loaded(security_protocol="SSL", **files, key_password="env:WRONG")
    with pytest.raises(SettingsError, match=r"kafka: key_file: .* is encrypted: give key_password"):
        loaded(security_protocol="SSL", **files)


def test_every_mistake_with_a_file_names_its_setting(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.signed("one")
    _, other_key = authority.signed("two")
    noise, missing = tmp_path / "noise.pem", tmp_path / "missing.pem"
    noise.write_text("this is no certificate")
    no_curve = tmp_path / "rsa.key"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    no_curve.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    for wrong, said in (
        ({"ca_file": missing}, "kafka.ca_file: cannot read .*missing.pem: No such file"),
        ({"ca_file": tmp_path}, "kafka.ca_file: cannot read .*: Is a directory"),
        ({"ca_file": noise}, "kafka: ca_file: .*noise.pem holds no certificate in PEM"),
        ({"cert_file": missing}, "kafka.cert_file: cannot read"),
        ({"cert_file": cert_file, "key_file": missing}, "kafka.key_file: cannot read"),
        ({"cert_file": noise, "key_file": key_file}, "kafka: cert_file: .*noise.pem holds no certificate"),
        ({"cert_file": cert_file, "key_file": noise}, "kafka: key_file: .*noise.pem holds no private key"),
        ({"cert_file": cert_file}, "kafka: key_file: .*one.pem holds no private key"),
        ({"cert_file": cert_file, "key_file": other_key}, "kafka: key_file: .*two.key is not the key of the certificate in .*one.pem"),
        ({"cert_file": cert_file, "key_file": no_curve}, "kafka: .*key_file"),
        ({"key_file": key_file}, "kafka: key_file or key_password is given without cert_file"),
        ({"cert_file": cert_file, "key_password": "env:KAFKA_PASSWORD"}, "kafka: key_password is given without key_file"),
    ):
        with pytest.raises(SettingsError, match=said):
            loaded(security_protocol="SSL", **{name: str(value) for name, value in wrong.items()})


def test_what_would_not_be_used_is_refused(authority: Authority) -> None:
    for wrong, said in (
        ({"ca_file": str(authority.file)}, "ca_file is given, but security_protocol PLAINTEXT does not use TLS"),
        ({"security_protocol": "SASL_PLAINTEXT", **LOGIN, "ca_file": str(authority.file)}, "SASL_PLAINTEXT does not use TLS"),
        (LOGIN, "sasl_username or sasl_password is given, but security_protocol is PLAINTEXT"),
        ({"security_protocol": "SSL", **LOGIN}, "security_protocol is SSL, without a login"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "tidings"}, "SASL_SSL needs sasl_password"),
        ({"security_protocol": "SASL_SSL", "sasl_password": "env:KAFKA_PASSWORD"}, "SASL_SSL needs sasl_username"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI", **LOGIN}, "kafka.sasl_mechanism: .*SCRAM-SHA-512"),
        ({"security_protocol": "TLS"}, "kafka.security_protocol: .*SASL_SSL"),
    ):
        with pytest.raises(SettingsError, match=said) as error:
            loaded(**wrong)
        assert PASSWORD not in str(error.value)


def test_a_password_is_a_reference_and_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"kafka\.sasl_password: a secret is a reference") as error:
        loaded(security_protocol="SASL_SSL", sasl_username="tidings", sasl_password=PASSWORD)
    assert PASSWORD not in str(error.value)
    settings = loaded(security_protocol="SASL_SSL", **LOGIN)
    assert PASSWORD not in repr(settings) + str(settings.model_dump())


def test_every_kafka_client_of_tidings_is_made_with_what_the_settings_say() -> None:
    """A client that is given an address by itself would knock at a plain door."""
    made = 0
    for file in sorted(APP.rglob("*.py")):
        assert "kafka.client()" not in file.read_text() or file.name == "kafka_client.py", f"{file} would have no tokens"
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name.startswith("AIOKafka") and name != "AIOKafkaConnection":
                made += 1
                keywords = [keyword.arg for keyword in node.keywords]
                assert None in keywords, f"{file}:{node.lineno}"  # **settings
                assert "bootstrap_servers" not in keywords, f"{file}:{node.lineno}"
    assert made >= 6
