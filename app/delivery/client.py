"""One target's HTTP client: sends a request as data, answers a response as data, or why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from app.delivery.addresses import AddressRefused, Guard, GuardedResolver, Lookup, system_lookup
from app.delivery.signing import signed_headers
from app.destinations import Request, Response

#: Bytes read of a response's body; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 16_384
#: How long the body may take after the head.
BODY_SECONDS = 1.0
#: Idle connections are closed before the five seconds after which many servers close theirs.
KEEP_ALIVE_SECONDS = 4.0
#: How long a name's checked addresses are used before it is resolved, and checked, again.
DNS_CACHE_SECONDS = 10
#: The response headers that destinations read.
_KEPT_HEADERS = ("retry-after",)


class Missing(Enum):
    """Why there is no response."""

    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """The request was not sent, or not answered. Whether it arrived is not known unless it was refused."""

    missing: Missing
    reason: str


class Client(Protocol):
    """What sends requests to one target."""

    async def send(self, request: Request) -> Response | NoResponse: ...
    async def close(self) -> None: ...


class HttpClient:
    """Sends over HTTP/1.1 to checked addresses only; follows no redirect, keeps no cookie, uses no proxy of the environment."""

    def __init__(
        self,
        *,
        guard: Guard,
        timeout_seconds: float,
        concurrency: int,
        clock: Callable[[], int],
        lookup: Lookup = system_lookup,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_send`` is asked when the body is about to go into the socket: a process may be frozen at any await before that."""
        self._guard = guard
        self._timeout_seconds = timeout_seconds
        self._concurrency = concurrency
        self._clock = clock
        self._lookup = lookup
        self._may_send = may_send
        self._session: aiohttp.ClientSession | None = None
        self._resolver: GuardedResolver | None = None

    async def send(self, request: Request) -> Response | NoResponse:
        """Name, connection, request and the head of the answer within ``timeout_seconds``; its body within BODY_SECONDS more."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._head(request)
        except TimeoutError:
            return NoResponse(Missing.TIMED_OUT, f"no answer within {self._timeout_seconds:g} s")
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, AddressRefused):
                return NoResponse(Missing.REFUSED, exc.os_error.strerror or str(exc.os_error))
            return NoResponse(Missing.UNREACHABLE, f"cannot connect: {exc.os_error.strerror or exc.os_error}")
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            # ValueError: an answer that is not HTTP can surface as one.
            return NoResponse(Missing.UNREACHABLE, f"{type(exc).__name__}: {exc}")
        async with response:
            body = await _read_start(response)
            headers = {name: response.headers[name][:200] for name in _KEPT_HEADERS if name in response.headers}
            return Response(response.status, headers, body, self._clock())

    async def _head(self, request: Request) -> aiohttp.ClientResponse:
        reused = SimpleNamespace(connection=False)
        try:
            return await self._start(request, reused)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            # A kept connection that the server had just closed says nothing about the server. The same id goes again, so a receiver
            # that did get the first one knows.
            if isinstance(exc, aiohttp.ClientConnectorError) or not reused.connection:
                raise
        return await self._start(request, SimpleNamespace(connection=False))

    async def _start(self, request: Request, reused: SimpleNamespace) -> aiohttp.ClientResponse:
        return await self._connected().request(
            request.method, request.url, data=_Leased(request.body, self._may_send), headers=signed_headers(request, self._clock()),
            allow_redirects=False, trace_request_ctx=reused,
        )

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            traces = aiohttp.TraceConfig()
            traces.on_connection_reuseconn.append(_note_reuse)
            self._resolver = GuardedResolver(self._guard, self._lookup)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver, socket_factory=self._guard.socket, limit=self._concurrency,
                    keepalive_timeout=KEEP_ALIVE_SECONDS, ttl_dns_cache=DNS_CACHE_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
                headers={"user-agent": "Tidings", "accept-encoding": "identity"}, trace_configs=[traces],
            )
        return self._session

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
        if self._resolver is not None:
            await self._resolver.close()


class _Leased(aiohttp.BytesPayload):
    """A body that is written only by who may still write it; without it the receiver gets half a request, which is none."""

    def __init__(self, body: bytes, may_send: Callable[[], bool]) -> None:
        super().__init__(body)
        self._may_send = may_send

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_send():
            raise OSError("the lease ended before the request was written")
        await super().write_with_length(writer, content_length)


async def _note_reuse(session: object, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.connection = True


async def _read_start(response: aiohttp.ClientResponse) -> bytes:
    """The first MAX_RESPONSE_BYTES of the body, or what comes of it in BODY_SECONDS: the head said what matters."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < MAX_RESPONSE_BYTES:
                chunk = await response.content.read(MAX_RESPONSE_BYTES - len(body))
                if not chunk:
                    return bytes(body)
                body += chunk
    except (aiohttp.ClientError, OSError):
        # OSError: TimeoutError is one.
        pass
    response.close()
    return bytes(body)
