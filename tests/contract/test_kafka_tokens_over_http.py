"""Tokens for Kafka: asked for once, anew before they end, and every refusal named by its setting, with no secret in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from app.streams.kafka_client import MAX_ANSWER_BYTES, ClientCredentials, TokenError
from tests.brokers.token_server import TokenServer

SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer("tidings", SECRET, seconds=100) as running:
        yield running


async def test_a_token_is_asked_for_once_and_anew_before_it_ends(server: TokenServer) -> None:
    now = 1000.0
    tokens = ClientCredentials(server.url, "tidings", SECRET, "kafka:all", clock=lambda: now)
    assert set(await asyncio.gather(*(tokens.token() for _ in range(5)))) == {server.tokens[0]}
    assert server.asked == [{"grant_type": "client_credentials", "scope": "kafka:all"}]
    now += 79
    assert await tokens.token() == server.tokens[0]
    now += 2  # four fifths of its 100 s
    assert await tokens.token() == server.tokens[-1]
    assert len(server.asked) == 2


async def test_what_the_endpoint_says_wrong_is_told_by_the_setting_to_look_at(server: TokenServer) -> None:
    good = {"access_token": "abc", "token_type": "bearer", "expires_in": 100}
    for status, said, look in (
        (400, {"error": "invalid_scope"}, r"\(400 invalid_scope\): look at kafka.sasl_scope"),
        (403, {}, r"\(403\): look at kafka.sasl_client_id and kafka.sasl_client_secret"),
        (307, {}, r"\(307\): look at kafka.sasl_token_url"),
        (500, {"error": f"we know {SECRET}"}, r"\(500\): look at kafka.sasl_token_url"),
        (200, {}, "without a bearer token"),
        (200, {**good, "access_token": "abc\x01auth=Bearer def"}, "without a bearer token"),
        (200, {**good, "access_token": ["abc"]}, "without a bearer token"),
        (200, {**good, "token_type": "mac"}, "without a bearer token"),
        (200, {**good, "expires_in": -1}, "for how many seconds"),
        (200, {**good, "expires_in": True}, "for how many seconds"),
        (200, {**good, "access_token": "a" * MAX_ANSWER_BYTES}, f"more than {MAX_ANSWER_BYTES} bytes"),
    ):
        server.says = status, json.dumps(said).encode()
        with pytest.raises(TokenError, match=look) as error:
            await ClientCredentials(server.url, "tidings", SECRET).token()
        assert SECRET not in str(error.value)
    for noise in (b"", b"[]", b"\xff" * 100, b"[" * 60_000):
        server.says = 200, noise
        with pytest.raises(TokenError, match="without a bearer token"):
            await ClientCredentials(server.url, "tidings", SECRET).token()
    with pytest.raises(TokenError, match=r"\(401 invalid_client\): look at kafka.sasl_client_id"):
        await ClientCredentials(server.url, "tidings", "another").token()
    with pytest.raises(TokenError, match=r"cannot be reached \(ClientConnectorError\): look at kafka.sasl_token_url"):
        await ClientCredentials("http://127.0.0.1:1/token", "tidings", SECRET).token()


async def test_a_token_without_an_end_is_kept_for_a_minute_and_a_failure_not_at_all(server: TokenServer) -> None:
    now = 0.0
    tokens = ClientCredentials(server.url, "tidings", SECRET, clock=lambda: now)
    server.says = 503, b""
    with pytest.raises(TokenError):
        await tokens.token()
    server.says = 200, b'{"access_token": "abc"}'
    assert await tokens.token() == await tokens.token() == "abc"
    assert len(server.asked) == 2
    now += 61
    await tokens.token()
    assert len(server.asked) == 3
