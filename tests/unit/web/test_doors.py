"""What each route asks of whoever knocks, and how clients that are slow, or too large, or too many are kept from holding the server."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from app.web.openapi import openapi_document
from app.web.server import WebServer, build_web

from .worlds import ALL, INGEST, FakeLog, FakeProductLog, FakeViews, settings_with, world

#: Every route and the scope it needs. A new one belongs here, whoever may use it.
SCOPE_OF = {
    ("POST", "/v1/events"): "ingest",
    ("PUT", "/v1/products"): "ingest",
    ("PATCH", "/v1/products"): "ingest",
    ("DELETE", "/v1/products"): "ingest",
    ("PUT", "/v1/products/{product_id}"): "ingest",
    ("PATCH", "/v1/products/{product_id}"): "ingest",
    ("DELETE", "/v1/products/{product_id}"): "ingest",
    ("GET", "/v1/products/{product_id}"): "read",
    ("GET", "/v1/users/{user_id}"): "read",
    ("GET", "/v1/users/{user_id}/recommendations"): "read",
    ("GET", "/v1/users/{user_id}/deliveries"): "read",
    ("GET", "/v1/items/{product_id}/neighbours"): "read",
    ("GET", "/v1/destinations"): "read",
    # Open, for who asks has no token and none of these tells of a person: the supervisor and the load balancer, Prometheus, and a reader
    # who wants to know what may be asked.
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/"): None,
}
#: A token for everything but the scope.
LACKING = {"ingest": "lacks-ingest-0123456789", "read": "lacks-read-0123456789", "operate": "lacks-operate-0123456789"}


def served_routes() -> set[tuple[str, str]]:
    app = build_web(FakeViews(), FakeLog(), settings_with(), products=FakeProductLog())
    # aiohttp would answer HEAD by itself where a route is added with add_get: none is.
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}


def test_every_route_is_in_the_table_of_scopes():
    assert served_routes() == set(SCOPE_OF)


@pytest.mark.parametrize(("method", "path"), sorted(SCOPE_OF))
async def test_a_route_takes_a_token_with_its_scope_and_no_other(method: str, path: str) -> None:
    scopes = {token: [scope for scope in LACKING if scope != lacked] for lacked, token in LACKING.items()}
    scope, place = SCOPE_OF[method, path], re.sub(r"\{\w+\}", "x", path)
    async with world(settings_with(scopes), token=None) as w:

        async def ask(token: str | None) -> aiohttp.ClientResponse:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await w.client.request(method, w.url + place, headers=headers)

        without, unknown = await ask(None), await ask("a-token-that-nobody-gave-out")
        answers = {lacked: await ask(token) for lacked, token in LACKING.items()}
        if scope is None:
            assert {without.status, unknown.status, *(answer.status for answer in answers.values())} == {200}
            return
        assert (without.status, unknown.status, answers[scope].status) == (401, 401, 403)
        assert f'scope="{scope}"' in answers[scope].headers["WWW-Authenticate"]
        assert not [lacked for lacked, answer in answers.items() if lacked != scope and answer.status in (401, 403)]
        assert (w.log.events, w.products.records) == ([], []) or method == "DELETE"


@pytest.mark.parametrize(("method", "path"), sorted(SCOPE_OF))
def test_the_document_says_of_each_route_whether_it_asks_for_a_token(method: str, path: str) -> None:
    operation = openapi_document()["paths"][path][method.lower()]
    assert bool(operation["security"]) == (SCOPE_OF[method, path] is not None)
    assert {"401", "403"} <= set(operation["responses"]) or SCOPE_OF[method, path] is None


async def test_whoever_has_no_token_is_answered_before_their_body_is_read():
    """Otherwise anybody could fill the places for bodies."""
    async with raw_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        assert b" 401 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


# ---------------------------------------------------------------------- slow, large, many


@asynccontextmanager
async def raw_server(**limits: float) -> AsyncIterator[WebServer]:
    server = WebServer(build_web(FakeViews(), FakeLog(), settings_with(), products=FakeProductLog()), "127.0.0.1", 0, **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ended(reader: asyncio.StreamReader, seconds: float = 5) -> bytes:
    """What comes until the server closes the connection. Raises TimeoutError if it does not."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def until_nobody_is_connected(server: WebServer, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while server.connections:  # noqa: ASYNC110  aiohttp tells nobody when a connection ends
            await asyncio.sleep(0.02)


async def trickle(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte every now and then."""
    try:
        for byte in text:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
    except ConnectionError:
        return


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["the first request", "a later one"])
async def test_headers_that_come_byte_by_byte_are_cut_off(first: bytes) -> None:
    async with raw_server(idle_timeout_seconds=0.4) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(first)
        sender = asyncio.create_task(trickle(writer, b"GET /healthz HTTP/1.1\r\nHost: " + b"x" * 400))
        assert (await ended(reader)).count(b"HTTP/1.1 200") == (1 if first else 0)
        await until_nobody_is_connected(server)
        sender.cancel()
        writer.close()


async def test_a_connection_that_says_nothing_is_closed():
    async with raw_server(idle_timeout_seconds=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await ended(reader) == b""
        writer.close()


@pytest.mark.parametrize("requests", [1, 400], ids=["one answer", "many answers, asked for at once"])
async def test_a_client_that_does_not_read_what_it_asked_for_is_cut_off(requests: int) -> None:
    async with raw_server(send_timeout_seconds=0.5, idle_timeout_seconds=1) as server:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect(("127.0.0.1", server.port))
            ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * requests
            raw.setblocking(False)
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(raw, ask), 5)
            await asyncio.sleep(0.1)
            assert server.connections == 1
            await until_nobody_is_connected(server)


async def test_a_client_that_reads_slowly_but_reads_gets_all_of_its_answers():
    async with raw_server(send_timeout_seconds=2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = bytearray()
        async with asyncio.timeout(20):
            while chunk := await reader.read(65_536):
                got += chunk
                await asyncio.sleep(0.01)
        assert got.count(b"HTTP/1.1 200") == 21
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-No-End: " + b"x" * 100_000,
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["a long path", "a long header", "many headers", "a header without end", "two lengths", "a negative length"],
)
async def test_a_head_above_its_limits_is_refused_and_the_connection_closed(head: bytes) -> None:
    async with raw_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head)
        assert (await ended(reader)).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        writer.close()


async def test_a_body_above_the_limit_is_refused_by_its_length_before_it_is_sent():
    async with raw_server() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {INGEST}\r\nContent-Length: 999999999\r\n\r\n".encode())
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_connections_of_silent_clients_give_way_in_time():
    """The limit on connections keeps others out for no longer than the idle time-out."""
    async with raw_server(max_connections=3, idle_timeout_seconds=0.5) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        await asyncio.sleep(0.05)
        refused, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await ended(refused) == b""
        writer.close()
        await until_nobody_is_connected(server)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ALL}"}) as client:
            assert (await client.get(f"{server.url}/healthz")).status == 200
        for _, writer in silent:
            writer.close()
