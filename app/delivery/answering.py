"""The receiving side of one connection: an answer that comes whole and says nothing unusual is read at once, any other by aiohttp's parser.

Nearly all answers are of the first kind, and most of what aiohttp does for each of them (a parser, a message, a stream, a queue) is for
the others.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

#: The response headers that destinations read, by their names in lower case.
KEPT_HEADERS = {
    name.encode(): name
    for name in (
        "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-retry-after", "ratelimit-remaining",
        "ratelimit-reset", "x-request-id", "date",
    )
}  # fmt: skip
#: Characters kept of a header's value.
MAX_HEADER_CHARS = 200
#: What is longer, aiohttp's parser reads, and holds against its own limits of lines and headers.
_MAX_WHOLE_BYTES = 4_096
_WHOLE_HEAD = re.compile(rb"HTTP/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e]*)?\r\n((?:[\w!#$%&'*+.^`|~-]+:[\t\x20-\x7e]*\r\n)*)\r\n", re.ASCII)
#: Headers that say how the answer is to be read, or that the connection ends: not for us.
_UNUSUAL = frozenset((b"transfer-encoding", b"connection", b"proxy-connection", b"upgrade", b"keep-alive", b"trailer"))
_WITHOUT_BODY = (204, 304)


class Whole(NamedTuple):
    """An answer: its status, the headers that are kept, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Started(NamedTuple):
    """The head of an answer of which more may come: its status, the headers that are kept, and where its body comes from."""

    status: int
    headers: Mapping[str, str]
    payload: StreamReader


class Answering(ResponseHandler):
    """``expect`` before each request is written, and ``answer`` after it, with no await between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        #: While an answer is expected of which nothing has come yet: the whole of it, or None, if aiohttp's parser has the beginning.
        self._first: asyncio.Future[Whole | None] | None = None

    def expect(self) -> None:
        if self._tail:  # it was answered before it was asked
            self._parse()
        elif self._exception is None:
            self._first = self._loop.create_future()

    async def answer(self) -> Whole | Started:
        """The final one. Raises what ``set_exception`` was called with, and what aiohttp raises for a connection that is lost."""
        if (first := self._first) is not None and (whole := await first) is not None:
            return whole
        head, payload = await self.read()
        while 100 <= head.code <= 199 and head.code != 101:
            head, payload = await self.read()
        headers = {name: head.headers[name][:MAX_HEADER_CHARS] for name in KEPT_HEADERS.values() if name in head.headers}
        return Started(head.code, headers, payload)

    def data_received(self, data: bytes) -> None:
        first = self._first
        if first is not None and data:
            self._first = None
            if first.done():
                self.force_close()  # nobody waits for it any more
                return
            whole = whole_answer(data)
            first.set_result(whole)
            if whole is not None:
                return
            self._parse()
        super().data_received(data)

    def _parse(self) -> None:
        """From here on it is aiohttp's."""
        self.set_response_params(read_until_eof=True, auto_decompress=False)

    def set_exception(self, exc: BaseException, *args: BaseException) -> None:
        first, self._first = self._first, None
        super().set_exception(exc, *args)
        if first is not None and not first.done():
            first.set_exception(exc)


def whole_answer(data: bytes) -> Whole | None:
    """These bytes as an answer; None if they are not all of one, or say anything that asks for a closer look."""
    if len(data) > _MAX_WHOLE_BYTES or (head := _WHOLE_HEAD.match(data)) is None:
        return None
    status, body = int(head[1]), data[head.end() :]
    headers: dict[str, str] = {}
    length: bytes | None = None
    for line in head[2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _UNUSUAL:
            return None
        if name == b"content-length":
            if length is not None:
                return None
            length = value.strip(b" \t")
        elif (kept := KEPT_HEADERS.get(name)) is not None:
            headers.setdefault(kept, value.strip(b" \t").decode("ascii")[:MAX_HEADER_CHARS])
    if status in _WITHOUT_BODY:
        return Whole(status, headers, b"") if not body and length in (None, b"0") else None
    if length is None or not length.isdigit() or int(length) != len(body):
        return None
    return Whole(status, headers, body)
