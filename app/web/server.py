"""The worker's HTTP server: its routes, who may use them, and the limits on its clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from app.domain.catalog import NO_CATALOG, Catalog
from app.errors import TidingsError
from app.metrics import READ
from app.settings import Scope, Settings
from app.web.access import Access, Handler
from app.web.deliveries import Deliveries
from app.web.health import Health
from app.web.ingest import Ingest
from app.web.intake import Intake
from app.web.owners import Owners
from app.web.problems import problems
from app.web.products import Products
from app.web.reads import Reads
from app.web.views import EventLog, RecordLog, Views

log = logging.getLogger(__name__)

#: From the first to the last byte of a body.
BODY_TIMEOUT_SECONDS = 10.0
#: From the connection to the end of the first headers, and between requests on one connection.
IDLE_TIMEOUT_SECONDS = 30.0
#: How long what was answered may wait for the client to read it, from the first byte that the socket did not take.
SEND_TIMEOUT_SECONDS = 20.0
#: Of a request line and of each header; and headers at most.
MAX_HEADER_BYTES = 8190
MAX_HEADERS = 64
#: Connections beyond are closed at once.
MAX_CONNECTIONS = 1_000
#: How long requests under way may take when the server stops.
_SHUTDOWN_SECONDS = 5.0


class Route(NamedTuple):
    method: str
    path: str
    scope: Scope | None
    handler: Handler


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def build_web(
    views: Views,
    publisher: EventLog,
    settings: Settings,
    clock: Callable[[], int] = wall_clock_ms,
    *,
    products: RecordLog,
    catalog: Catalog = NO_CATALOG,
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
) -> web.Application:
    """The application. ``clock`` gives the time in milliseconds since 1970: what an event without a timestamp gets.

    ``publisher`` writes events and ``products`` the products topic; ``catalog`` is this worker's copy of what became of the latter.
    """
    access = Access(settings.tokens)
    owners = Owners(views, settings.http.forward_timeout_seconds, clock)
    intake = Intake(settings.http, clock, body_timeout_seconds)
    ingest = Ingest(publisher, intake)
    shop = Products(products, catalog, intake)
    reads = Reads(views, owners, catalog, clock)
    deliveries = Deliveries(views, owners, clock, {target.name: target.kind for target in settings.targets})
    health = Health(views)
    routes = [
        Route("POST", "/v1/events", "ingest", ingest.post),
        Route("GET", "/v1/users/{user_id}", "read", reads.profile),
        Route("GET", "/v1/users/{user_id}/recommendations", "read", reads.recommendations),
        Route("GET", "/v1/users/{user_id}/deliveries", "read", deliveries.of_user),
        Route("GET", "/v1/items/{product_id}/neighbours", "read", reads.neighbours),
        Route("PUT", "/v1/products", "ingest", shop.put),
        Route("PATCH", "/v1/products", "ingest", shop.patch),
        Route("DELETE", "/v1/products", "ingest", shop.delete),
        Route("GET", "/v1/products/{product_id}", "read", shop.get_one),
        Route("PUT", "/v1/products/{product_id}", "ingest", shop.put_one),
        Route("PATCH", "/v1/products/{product_id}", "ingest", shop.patch_one),
        Route("DELETE", "/v1/products/{product_id}", "ingest", shop.delete_one),
        Route("GET", "/v1/destinations", "read", deliveries.destinations),
        Route("GET", "/healthz", None, health.healthz),
        Route("GET", "/readyz", None, health.readyz),
        Route("GET", "/metrics", None, health.metrics),
        Route("GET", "/openapi.json", None, health.openapi),
        Route("GET", "/", None, health.index),
    ]
    app = web.Application(middlewares=[measured, problems], client_max_size=settings.http.max_body_bytes)
    for route in routes:
        app.router.add_route(route.method, route.path, access.protect(route.scope, route.handler))
    app.cleanup_ctx.append(owners.open)
    return app


@web.middleware
async def measured(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Times each request under its route's template, so that labels come from a closed set."""
    started = time.perf_counter()
    response = await handler(request)
    resource = request.match_info.route.resource
    READ.labels(resource.canonical if resource is not None else "unmatched", str(response.status)).observe(time.perf_counter() - started)
    return response


class WebServer:
    """Serves an application on the running event loop; ``url`` has the real port once started."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        max_connections: int = MAX_CONNECTIONS,
        *,
        idle_timeout_seconds: float = IDLE_TIMEOUT_SECONDS,
        send_timeout_seconds: float = SEND_TIMEOUT_SECONDS,
    ) -> None:
        self.host = host
        self.port = port
        self._max_connections = max_connections
        self._send_timeout_seconds = send_timeout_seconds
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=idle_timeout_seconds,
            lingering_time=2.0,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._listener: asyncio.Server | None = None
        self._slow_readers: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, app: web.Application, settings: Settings) -> WebServer:
        return cls(app, settings.http.host, settings.http.port)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._runner.server.connections) if self._runner.server is not None else 0

    async def start(self) -> None:
        """Listens. Raises TidingsError when the address cannot be had."""
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._protocol, self.host, self.port, backlog=128)
        except OSError as exc:
            await self._runner.cleanup()
            raise TidingsError(f"cannot listen on {self.host}:{self.port}: {exc.strerror or exc}; set http.host and http.port") from exc
        self.port = self._listener.sockets[0].getsockname()[1]
        self._slow_readers = asyncio.create_task(self._cut_off_slow_readers())
        log.info("listening on %s", self.url)

    async def stop(self) -> None:
        """Takes no more connections, lets requests under way finish, and closes."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._runner.cleanup()
        if self._slow_readers is not None:
            self._slow_readers.cancel()
            self._slow_readers = None

    async def _cut_off_slow_readers(self) -> None:
        """Ends connections whose client does not read: aiohttp would wait for it without end, when it answers as when it closes."""
        waiting_since: dict[asyncio.Transport, float] = {}
        while True:
            await asyncio.sleep(self._send_timeout_seconds / 10)
            now = time.monotonic()
            # Private in aiohttp, hence the bound on its version; a handler itself forgets its transport before everything is sent.
            transports = list(self._runner.server._connections.values()) if self._runner.server is not None else []
            waiting_since = {t: waiting_since.get(t, now) for t in transports if t.get_write_buffer_size()}
            for transport, since in waiting_since.items():
                if now - since > self._send_timeout_seconds:
                    transport.abort()

    def _protocol(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None, "the runner is set up before it listens"
        if len(server.connections) >= self._max_connections:
            return _Refused()
        return server()


class _Refused(asyncio.Protocol):
    """A connection above the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
