"""What Kafka clients are made with; and tokens for a login with OAUTHBEARER, asked for at a token endpoint, and kept while they last."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus
from weakref import WeakKeyDictionary

import aiohttp
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from app.settings import KafkaSettings

#: An answer of the endpoint: tokens are a few kilobytes, and Kafka itself takes no more.
MAX_ANSWER_BYTES = 64 * 1024
#: For a whole answer. While a connection to a broker waits for it, others stand still.
TIMEOUT_SECONDS = 5.0
#: A token is asked for anew so long before it ends, or at four fifths of a short life.
EARLY_SECONDS = 30.0
#: A token that does not say how long it lasts is kept so long.
UNSAID_SECONDS = 60.0
#: What a bearer token is made of (RFC 6750, 2.1): above all none of what Kafka's message puts around it.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
#: What an endpoint may be quoted with (RFC 6749, 5.2).
_ERROR = re.compile(r"[a-z_]{1,40}")


class TokenError(KafkaConnectionError):
    """No token to show to Kafka: what the endpoint said, by the setting to look at. For Kafka's client a broker that is not reached."""


def kafka_client(kafka: KafkaSettings) -> dict[str, Any]:
    """What every Kafka client is made with: all that the settings say, and who asks for tokens, if a token is the login."""
    arguments = kafka.client()
    if kafka.has_tokens:
        arguments["sasl_oauth_token_provider"] = _provider(kafka)
    return arguments


@lru_cache(maxsize=4)  # one for all clients of a process: a token is asked for once
def _provider(kafka: KafkaSettings) -> ClientCredentials:
    secret = kafka.sasl_client_secret.get_secret_value() if kafka.sasl_client_secret else ""
    tls = ssl.create_default_context()
    if kafka.ca_file:
        tls.load_verify_locations(kafka.ca_file)
    return ClientCredentials(kafka.sasl_token_url, kafka.sasl_client_id, secret, kafka.sasl_scope, tls)


class ClientCredentials(AbstractTokenProvider):
    """The client credentials grant (RFC 6749, 4.4), for all clients of a process: they live in more than one event loop."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        scope: str = "",
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)),
    ) -> None:
        """``tls``: of https. ``clock``: seconds, those spent suspended included."""
        self._url = url
        login = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"  # RFC 6749, 2.3.1
        self._headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}", "Accept": "application/json"}
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        self._tls = tls
        self._clock = clock
        #: And until when it is used.
        self._kept: tuple[str, float] = ("", 0.0)
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def token(self) -> str:
        """Raises TokenError."""
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            token, until = self._kept
            if not token or self._clock() >= until:
                asked_at = self._clock()
                token, seconds = await self._ask()
                self._kept = token, asked_at + max(seconds - EARLY_SECONDS, seconds * 0.8)
            return token

    async def _ask(self) -> tuple[str, float]:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session,
                # A redirect would take the secret elsewhere.
                session.post(self._url, data=self._form, headers=self._headers, ssl=self._tls or True, allow_redirects=False) as answer,
            ):
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise TokenError(f"the token endpoint answers more than {MAX_ANSWER_BYTES} bytes: look at kafka.sasl_token_url")
                return _read(answer.status, bytes(body))
        except aiohttp.ClientConnectorCertificateError:
            raise TokenError(
                "the token endpoint shows a certificate that does not hold: look at kafka.sasl_token_url and kafka.ca_file"
            ) from None
        except TimeoutError:
            raise TokenError(f"the token endpoint did not answer within {TIMEOUT_SECONDS:.0f} s: look at kafka.sasl_token_url") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise TokenError(f"the token endpoint cannot be reached ({type(exc).__name__}): look at kafka.sasl_token_url") from None


def _read(status: int, body: bytes) -> tuple[str, float]:
    """The token, and for how many seconds it is good. Nothing of what was sent or received is repeated but the name of an error."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        said = {}
    if status != 200:
        error = said.get("error")
        why = f"{status} {error}" if isinstance(error, str) and _ERROR.fullmatch(error) else str(status)
        match error:
            case "invalid_scope":
                look = "kafka.sasl_scope"
            case "invalid_client" | "unauthorized_client":
                look = "kafka.sasl_client_id and kafka.sasl_client_secret"
            case _:
                look = "kafka.sasl_client_id and kafka.sasl_client_secret" if status in (401, 403) else "kafka.sasl_token_url"
        raise TokenError(f"the token endpoint gives no token ({why}): look at {look}")
    token, seconds, kind = said.get("access_token"), said.get("expires_in", UNSAID_SECONDS), said.get("token_type", "bearer")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenError("the token endpoint answers without a bearer token: look at kafka.sasl_token_url")
    if isinstance(seconds, str) and re.fullmatch(r"[0-9]{1,10}", seconds):  # as some write it
        seconds = int(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e10:
        raise TokenError("the token endpoint does not say for how many seconds its token is good: look at kafka.sasl_token_url")
    return token, float(seconds)
