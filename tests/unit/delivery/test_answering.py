"""What is read of an answer at once is what aiohttp's parser reads of it, and whatever is unusual is left to that."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, TypeVar

import pytest
from aiohttp.client_proto import ResponseHandler

from app.delivery.answering import KEPT_HEADERS, Answering, Started, Whole, whole_answer

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nDate: Sun, 22 Nov 2026 19:46:10 GMT\r\nServer: x\r\n\r\n"
LIMITED = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\nRetry-After:  7 \r\nretry-after: 9\r\nX-Request-Id:\r\n\r\nbusy"


Handler = TypeVar("Handler", bound=ResponseHandler)


class Silent(asyncio.Transport):
    """A transport that nothing goes through."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False


def connected(handler: Handler) -> Handler:
    handler.connection_made(Silent())
    return handler


async def read_by_aiohttp(data: bytes) -> tuple[Whole, bool] | None:
    """The answer and whether its connection may be used again; None if it is not all there."""
    handler = connected(ResponseHandler(asyncio.get_running_loop()))
    handler.set_response_params(read_until_eof=True, auto_decompress=False)
    handler.data_received(data)
    if handler.exception() is not None or not handler._buffer:
        return None
    head, payload = await handler.read()
    if not payload.is_eof():
        return None
    headers = {name: head.headers[name] for name in KEPT_HEADERS.values() if name in head.headers}
    return Whole(head.code, headers, payload.read_nowait(-1)), not handler.should_close


def test_what_comes_whole_is_read_at_once():
    assert whole_answer(NO_CONTENT) == Whole(204, {"date": "Sun, 22 Nov 2026 19:46:10 GMT"}, b"")
    assert whole_answer(LIMITED) == Whole(429, {"retry-after": "7", "x-request-id": ""}, b"busy")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"HTTP/1.1 204 No Content\r\n", NO_CONTENT[:-1], NO_CONTENT + b"x", LIMITED[:-1], LIMITED + b"!", NO_CONTENT + NO_CONTENT,
        b"HTTP/1.0 204 x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + NO_CONTENT, b"HTTP/1.1 204 x\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\n", b"HTTP/1.1 204 x\nDate: y\n\n", b"HTTP/1.1 204 x\r\nDate : y\r\n\r\n",
        b"HTTP/1.1 204 x\r\nDate: y\r\n z\r\n\r\n", b"HTTP/1.1 204 x\r\nDate: \xff\r\n\r\n",
        b"HTTP/1.1 204 x\r\nA: " + b"a" * 5000 + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_aiohttp(data):
    assert whole_answer(data) is None


async def test_what_is_read_at_once_is_what_aiohttp_reads():
    chance, read = Random(3), 0
    heads = [b"HTTP/1.1 %d x" % status for status in (200, 202, 204, 304, 400, 410, 429, 500, 503, 599)]
    names = [b"Content-Length", b"content-length", b"Date", b"Retry-After", b"x-ratelimit-reset", b"Server", b"Connection", b"A!", b"Vary"]
    for _ in range(4_000):
        body = b"b" * chance.randrange(4)
        lines = [chance.choice(heads)]
        for _ in range(chance.randrange(4)):
            value = chance.choice([b"", b"0", b"5", b"keep-alive", b"close", b"\tx y ", b"%d" % len(body)])
            lines.append(chance.choice(names) + b":" + chance.choice([b"", b" "]) + value)
        if chance.random() < 0.7:
            lines.append(b"Content-Length: %d" % len(body))
        data = bytearray(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        if chance.random() < 0.3:
            data[chance.randrange(len(data))] = chance.randrange(256)
        if (whole := whole_answer(bytes(data))) is not None:
            read += 1
            assert await read_by_aiohttp(bytes(data)) == (whole, True), bytes(data)
    assert read > 1_000


async def answers(*pieces: bytes) -> list[Any]:
    """What is answered to two requests over one connection."""
    handler = connected(Answering(asyncio.get_running_loop()))
    got: list[Any] = []
    for _ in range(2):
        handler.expect()
        answer = asyncio.ensure_future(handler.answer())
        await asyncio.sleep(0)
        for piece in pieces:
            handler.data_received(piece)
        got.append(await answer)
        assert not handler.should_close
    return got


async def test_answers_of_both_kinds_come_over_one_connection():
    assert await answers(LIMITED) == [whole_answer(LIMITED)] * 2
    for pieces in ((LIMITED[:30], LIMITED[30:]), (b"HTTP/1.1 100 Continue\r\n\r\n", LIMITED)):
        for answer in await answers(*pieces):
            assert isinstance(answer, Started)
            assert (answer.status, answer.headers["retry-after"], answer.payload.read_nowait(-1)) == (429, "7", b"busy")


async def test_an_answer_that_nobody_asked_for_ends_the_connection():
    handler = connected(Answering(asyncio.get_running_loop()))
    handler.expect()
    handler.data_received(NO_CONTENT)
    handler.data_received(NO_CONTENT)
    assert handler.should_close


async def test_who_answers_before_the_request_is_heard():
    handler = connected(Answering(asyncio.get_running_loop()))
    handler.data_received(LIMITED)
    handler.expect()
    async with asyncio.timeout(1):
        answer = await handler.answer()
    assert isinstance(answer, Started)
    assert answer.status == 429


async def test_a_lost_connection_ends_the_wait():
    for pieces in ((), (LIMITED[:20],)):
        handler = connected(Answering(asyncio.get_running_loop()))
        handler.expect()
        answer = asyncio.ensure_future(handler.answer())
        await asyncio.sleep(0)
        for piece in pieces:
            handler.data_received(piece)
        handler.connection_lost(ConnectionResetError("gone"))
        with pytest.raises(OSError, match="gone"):
            await answer


async def test_nobody_waits_at_a_connection_that_failed_before():
    handler = connected(Answering(asyncio.get_running_loop()))
    handler.set_exception(ConnectionResetError("gone"))
    handler.expect()
    with pytest.raises(OSError, match="gone"):
        async with asyncio.timeout(1):
            await handler.answer()
