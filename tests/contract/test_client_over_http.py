"""Delivery's client against real servers on 127.0.0.1: what targets need that have more than one URL and say more than a status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.delivery.addresses import Guard
from app.delivery.client import MAX_RESPONSE_BYTES, HttpClient
from app.destinations.requests import Request, Response
from tests.unit.delivery.worlds import real_clock


class _Server:
    """Answers each request over a kept connection, and keeps heads and connections."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                for line in head.split(b"\r\n"):
                    name, _, value = line.partition(b": ")
                    if name == b"content-length":
                        await reader.readexactly(int(value))
                writer.write(self.answer)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def _serving(server: _Server) -> AsyncIterator[_Server]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@asynccontextmanager
async def _client(response_bytes: int = MAX_RESPONSE_BYTES) -> AsyncIterator[HttpClient]:
    client = HttpClient(guard=Guard(["127.0.0.0/8"]), timeout_seconds=2, concurrency=4, clock=real_clock, response_bytes=response_bytes)
    try:
        yield client
    finally:
        await client.close()


def _get(server: _Server, path: str) -> Request:
    return Request("GET", f"http://127.0.0.1:{server.port}{path}", {}, b"")


def _post(server: _Server, path: str, body: bytes = b"{}") -> Request:
    return Request("POST", f"http://127.0.0.1:{server.port}{path}", {}, body)


async def _ok(client: HttpClient, request: Request) -> Response:
    answer = await client.send(request, lambda: True)
    assert isinstance(answer, Response), answer
    return answer


async def test_a_question_has_no_body_and_says_no_length_of_it() -> None:
    async with _serving(_Server()) as server, _client() as client:
        await _ok(client, _get(server, "/jobs/1"))
        await _ok(client, _post(server, "/people", b""))
    assert b"content-length" not in server.heads[0]
    assert b"content-length: 0\r\n" in server.heads[1]


async def test_many_urls_of_one_server_share_its_connections() -> None:
    async with _serving(_Server()) as server, _client() as client:
        for number in range(50):
            await _ok(client, _get(server, f"/jobs/{number}"))
            await _ok(client, _post(server, "/people"))
    assert server.connections == 1
    assert [head.split()[1].decode() for head in server.heads[::2]] == [f"/jobs/{number}" for number in range(50)]


async def test_two_servers_get_what_is_theirs_over_their_own_connections() -> None:
    async with _serving(_Server()) as one, _serving(_Server()) as other, _client() as client:
        for _ in range(3):
            await _ok(client, _post(one, "/one"))
            await _ok(client, _get(other, "/other"))
    assert (one.connections, other.connections) == (1, 1)
    assert all(b" /one " in head for head in one.heads)
    assert all(b" /other " in head for head in other.heads)


async def test_an_answer_is_read_up_to_the_bytes_that_the_target_needs() -> None:
    size = 300_000
    server = _Server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    async with _serving(server), _client(response_bytes=size) as client:
        for _ in range(3):
            assert len((await _ok(client, _post(server, "/people"))).body) == size
    async with _serving(server), _client() as client:
        assert len((await _ok(client, _post(server, "/people"))).body) == MAX_RESPONSE_BYTES


async def test_what_headers_say_of_limits_is_kept_and_nothing_else() -> None:
    head = (
        b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nX-RateLimit-Reset: 1700000000\r\nX-Ratelimit-Retry-After: 3\r\n"
        b"RateLimit-Remaining: 4\r\nRateLimit-Reset: 5\r\nX-RateLimit-Limit: 6\r\nX-RateLimit-Remaining: 8\r\nX-Request-Id: r1\r\n"
        b"Date: Sun, 22 Nov 2026 10:00:00 GMT\r\nSet-Cookie: a=b\r\nServer: x\r\ncontent-length: 0\r\n\r\n"
    )
    async with _serving(_Server(head)) as server, _client() as client:
        answer = await _ok(client, _post(server, "/people"))
    assert answer.headers == {
        "retry-after": "7", "x-ratelimit-reset": "1700000000", "x-ratelimit-retry-after": "3", "ratelimit-remaining": "4",
        "ratelimit-reset": "5", "x-ratelimit-limit": "6", "x-ratelimit-remaining": "8", "x-request-id": "r1",
        "date": "Sun, 22 Nov 2026 10:00:00 GMT",
    }  # fmt: skip
