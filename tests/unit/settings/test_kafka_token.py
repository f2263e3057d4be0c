"""A login to Kafka with tokens in the settings: what fits together, what each mistake is called, and who is given the provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.engine.app import _group_credentials
from app.errors import SettingsError
from app.settings import KafkaSettings, load_settings
from app.streams.kafka_client import kafka_client

SECRET = "a-secret-that-nobody-may-see"
TOKENS = {
    "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER", "sasl_token_url": "https://login.example/token",
    "sasl_client_id": "tidings", "sasl_client_secret": "env:CLIENT_SECRET",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", SECRET)


def loaded(**kafka: Any) -> KafkaSettings:
    return load_settings(Path("/dev/null"), {"kafka": kafka}).kafka


def test_every_client_and_the_group_member_ask_the_same_provider() -> None:
    kafka = loaded(**TOKENS)
    client = kafka_client(kafka)
    assert client["sasl_mechanism"] == "OAUTHBEARER"
    assert client["sasl_oauth_token_provider"] is kafka_client(kafka)["sasl_oauth_token_provider"]
    assert not {"sasl_plain_username", "sasl_plain_password"} & client.keys()
    credentials: Any = _group_credentials(client)
    assert (credentials.oauth_cb, credentials.protocol.value) == (client["sasl_oauth_token_provider"], "SASL_PLAINTEXT")
    encrypted = kafka_client(loaded(**{**TOKENS, "security_protocol": "SASL_SSL"}))
    member: Any = _group_credentials(encrypted)
    assert (member.protocol.value, member.ssl_context) == ("SASL_SSL", encrypted["ssl_context"])
    assert SECRET not in repr(kafka) + str(kafka.model_dump()) + repr(client)


def test_what_does_not_fit_is_refused_by_name() -> None:
    for wrong, said in (
        ({"sasl_token_url": ""}, "needs sasl_token_url: sasl_mechanism is OAUTHBEARER"),
        ({"sasl_client_id": ""}, "needs sasl_client_id"),
        ({"sasl_client_secret": None}, "needs sasl_client_secret"),
        ({"sasl_username": "ann"}, "sasl_username is given, but sasl_mechanism is OAUTHBEARER"),
        ({"sasl_mechanism": "PLAIN"}, "sasl_token_url is given, but sasl_mechanism is PLAIN"),
        ({"security_protocol": "SSL"}, "sasl_token_url is given, but security_protocol is SSL, without a login"),
        ({"sasl_token_url": "http://login.example/token"}, "sasl_token_url must be https"),
        ({"sasl_token_url": "http://127.0.0.1.example/token"}, "sasl_token_url must be https"),
        ({"sasl_token_url": "login.example"}, "sasl_token_url must be an https URL"),
        ({"sasl_token_url": "https://ann:pass@login.example"}, "sasl_token_url must carry neither"),
    ):
        with pytest.raises(SettingsError, match=said) as error:
            loaded(**{name: value for name, value in {**TOKENS, **wrong}.items() if value is not None})
        assert SECRET not in str(error.value)
    for here in ("http://127.0.0.1:8080/token", "http://localhost/token", "http://[::1]:1/token"):
        assert loaded(**{**TOKENS, "sasl_token_url": here}).has_tokens
