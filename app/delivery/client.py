"""One target's HTTP client: sends a request as data, answers a response as data, or why there is none.

It stands on aiohttp's connector (names, addresses, TLS), its protocol and its parser (answering.py), without its ClientSession: what a
session adds for each request (redirects, cookies, traces, timers, a task that writes) costs five times as much as the rest, and is not
wanted here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import chain
from time import monotonic
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EofStream, StreamReader
from yarl import URL

from app.delivery.addresses import AddressRefused, Guard, GuardedResolver, Lookup, system_lookup
from app.delivery.answering import Answering, Whole
from app.delivery.scrubbing import scrubbed
from app.delivery.signing import signed_headers
from app.destinations.requests import Request, Response

#: Bytes read of a response's body, unless the target's limits say otherwise; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 16_384
#: How long the body may take after the head; and one that is allowed to be longer, for it says what became of each of many people.
BODY_SECONDS = 1.0
LONG_BODY_SECONDS = 5.0
#: Idle connections are closed before the five seconds after which many servers close theirs.
KEEP_ALIVE_SECONDS = 4.0
#: How long a name's checked addresses are used before it is resolved, and checked, again.
DNS_CACHE_SECONDS = 10
#: Heads of requests that are kept: of the one URL that nearly all go to, and of jobs that are asked for.
_MAX_ROUTES = 16


class Missing(Enum):
    """Why there is no response."""

    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    #: Its name was not resolved: by our own resolver, so the target cannot help it.
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """The request was not sent, or not answered. Whether it arrived is not known unless it was refused or forbidden: then it did not."""

    missing: Missing
    reason: str


class Client(Protocol):
    """What sends requests to one target."""

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        """``may_send`` is asked when the request is about to go into the socket; what it raises is raised."""

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
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._guard = guard
        self._timeout_seconds = timeout_seconds
        self._concurrency = concurrency
        self._clock = clock
        self._lookup = lookup
        self._keep_alive_seconds = keep_alive_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connector: aiohttp.TCPConnector | None = None
        self._resolver: GuardedResolver | None = None
        self._response_bytes = response_bytes
        self._body_seconds = BODY_SECONDS if response_bytes <= MAX_RESPONSE_BYTES else LONG_BODY_SECONDS
        #: The route that was used last, and those that were used lately.
        self._route: _Route | None = None
        self._routes: OrderedDict[tuple[str, str], _Route] = OrderedDict()
        #: Connections that wait for the next request, each with the loop's time since when and where it leads. At most ``concurrency``.
        self._idle: list[tuple[Connection, float, str]] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def send(self, request: Request, may_send: Callable[[], bool]) -> Response | NoResponse:
        """Name, connection, request and the head of the answer within ``timeout_seconds``; its body within BODY_SECONDS more."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # once: it asks the system for the process's id each time
        now = loop.time()
        deadline = now + self._timeout_seconds
        try:
            if self._idle and (kept := self._take_idle(self._route_of(request).origin, now)) is not None:
                # A kept connection that the server had just closed says nothing about the server. The same id goes again, so a receiver
                # that did get the first one knows.
                with suppress(aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    return await self._exchange(loop, kept, request, may_send, deadline)
            return await self._exchange(loop, await self._connect(request, deadline), request, may_send, deadline)
        except _Forbidden:
            return NoResponse(Missing.FORBIDDEN, "the lease or the consent ended before the request was written")
        except TimeoutError:
            return NoResponse(Missing.TIMED_OUT, f"no answer within {self._timeout_seconds:g} s")
        except aiohttp.ClientConnectorError as exc:
            if isinstance(exc.os_error, AddressRefused):
                return NoResponse(Missing.REFUSED, exc.os_error.strerror or str(exc.os_error))
            missing = Missing.UNRESOLVED if isinstance(exc, aiohttp.ClientConnectorDNSError) else Missing.UNREACHABLE
            return NoResponse(missing, f"cannot connect: {exc.os_error.strerror or exc.os_error}")
        except (aiohttp.ClientError, HttpProcessingError, EofStream, OSError, ValueError) as exc:
            # ValueError: an answer that is not HTTP can surface as one.
            return NoResponse(Missing.UNREACHABLE, f"{type(exc).__name__}: {exc}")

    async def _exchange(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, request: Request, may_send: Callable[[], bool], deadline: float
    ) -> Response:
        """The request and its answer over this connection, which is kept for the next one or closed."""
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                raise aiohttp.ServerDisconnectedError
            assert isinstance(protocol, Answering)
            message = self._message(request)
            # A process may be frozen at any await before this: no await may come between the question and the socket.
            if not may_send():
                raise _Forbidden
            if monotonic() >= deadline:  # frozen; the loop's own time may be that of before
                raise TimeoutError
            protocol.expect()
            transport.write(message)
            timer = loop.call_at(deadline, protocol.set_exception, TimeoutError())
            try:
                answer = await protocol.answer()
            finally:
                timer.cancel()
            if isinstance(answer, Whole):
                body = answer.body[: self._response_bytes]
            elif answer.payload.is_eof() and not answer.payload.exception():
                body = answer.payload.read_nowait(self._response_bytes)
            else:
                body = await self._start_of(answer.payload)
        except BaseException:
            connection.close()
            raise
        if isinstance(answer, Whole) or answer.payload.is_eof():
            self._keep(loop, connection, self._route_of(request).origin)
        else:
            connection.close()
        return scrubbed(Response(answer.status, answer.headers, body, self._clock()), request)

    def _message(self, request: Request) -> bytes:
        """Head and body as they go into the socket, in one piece: without its body a request is none."""
        lines = [self._route_of(request).head]
        for name, value in chain(signed_headers(request, self._clock()).items(), request.secret_headers.items()):
            if "\r" in value or "\n" in value or "\0" in value:
                raise ValueError(f"the header {name} has a line break in it")
            lines.append(f"{name}: {value}\r\n")
        lines.append(f"content-length: {len(request.body)}\r\n\r\n" if request.body or request.method != "GET" else "\r\n")
        return "".join(lines).encode() + request.body

    def _route_of(self, request: Request) -> _Route:
        last = self._route
        if last is not None and last.url == request.url and last.method == request.method:
            return last
        key = request.method, request.url
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = _Route.to(request)
            if len(self._routes) > _MAX_ROUTES:
                self._routes.popitem(last=False)
        else:
            self._routes.move_to_end(key)
        self._route = route
        return route

    async def _connect(self, request: Request, deadline: float) -> Connection:
        if self._connector is None:
            self._resolver = GuardedResolver(self._guard, self._lookup)
            self._connector = aiohttp.TCPConnector(
                resolver=self._resolver, socket_factory=self._guard.socket, limit=self._concurrency, ttl_dns_cache=DNS_CACHE_SECONDS,
            )
            self._connector._factory = partial(Answering, asyncio.get_running_loop())  # type: ignore[assignment]  # it makes a subclass
        async with asyncio.timeout_at(deadline):
            return await self._connector.connect(self._route_of(request).prepared, [], aiohttp.ClientTimeout(total=None))

    def _take_idle(self, origin: str, now: float) -> Connection | None:
        """The connection to there that was used last, if it still stands and is silent."""
        for place in range(len(self._idle) - 1, -1, -1):
            if self._idle[place][2] != origin:
                continue
            connection, since, _ = self._idle.pop(place)
            protocol = connection.protocol
            if now - since <= self._keep_alive_seconds and protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()
        return None

    def _keep(self, loop: asyncio.AbstractEventLoop, connection: Connection, origin: str) -> None:
        if self._connector is None or self._connector.closed or connection.protocol is None or connection.protocol.should_close:
            connection.close()
            return
        self._idle.append((connection, loop.time(), origin))
        if self._sweep is None:
            self._sweep = loop.call_later(self._keep_alive_seconds, self._close_old)

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._keep_alive_seconds
        for connection, since, _ in self._idle:
            if since <= latest:
                connection.close()
        self._idle = [kept for kept in self._idle if kept[1] > latest]
        self._sweep = loop.call_later(self._keep_alive_seconds, self._close_old) if self._idle else None

    async def _start_of(self, payload: StreamReader) -> bytes:
        """The body up to the limit, or what comes of it in its time: the head said what matters most."""
        body = bytearray()
        with suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            async with asyncio.timeout(self._body_seconds):
                while len(body) < self._response_bytes:
                    chunk = await payload.read(self._response_bytes - len(body))
                    if not chunk:
                        break
                    body += chunk
        return bytes(body)

    async def close(self) -> None:
        """Closes all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection, _, _ in self._idle:
            connection.close()
        self._idle = []
        if self._connector is not None:
            await self._connector.close()
        if self._resolver is not None:
            await self._resolver.close()


class _Forbidden(Exception):
    """Whoever asked to send may not any more."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What is the same in all requests to one URL."""

    method: str
    url: str
    head: str
    #: Scheme, host and port.
    origin: str
    #: What the connector wants to know: never sent, it only names the host, the port and TLS.
    prepared: ClientRequest

    @classmethod
    def to(cls, request: Request) -> _Route:
        """Raises aiohttp.InvalidURL, which is a ValueError."""
        url = URL(request.url)
        prepared = ClientRequest(request.method, url, loop=asyncio.get_running_loop())
        head = (
            f"{request.method} {url.raw_path_qs} HTTP/1.1\r\nhost: {prepared.headers[hdrs.HOST]}\r\n"
            "user-agent: Tidings\r\naccept: */*\r\naccept-encoding: identity\r\n"
        )
        return cls(request.method, request.url, head, str(url.origin()), prepared)
