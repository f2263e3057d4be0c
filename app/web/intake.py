"""Intake: how a request's body is taken, whatever it holds: within its limits, read as a whole, answered when Kafka has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from app.settings import HttpSettings
from app.streams.publisher import Position
from app.web.json_body import Entries
from app.web.owners import json_response
from app.web.problems import Problem, try_again

T = TypeVar("T")

#: A larger body is read in a thread, so that the worker's event loop goes on meanwhile: 64 kB are about 10 ms.
_LARGE_BODY_BYTES = 64 * 1024
#: Requests under way at once, and bytes of their bodies: what is read of one takes up to MEMORY_FACTOR times as much, until Kafka has it
#: (measured: 20, of a body of small events). Further ones are told to try again. A single body may be as large as the settings say.
MAX_BODIES_AT_ONCE = 64
MAX_BODY_BYTES_AT_ONCE = 8 * 1024**2
MEMORY_FACTOR = 20


class Intake:
    """Shared by the routes that take bodies, since the bounds hold for all of them together."""

    def __init__(self, settings: HttpSettings, clock: Callable[[], int], body_timeout_seconds: float) -> None:
        #: Of one request.
        self.max_entries = settings.max_events_per_request
        self.now_ms = clock
        self._max_body_bytes = settings.max_body_bytes
        self._body_timeout_seconds = body_timeout_seconds
        #: Requests under way, and bytes of their bodies: as declared, or as many as may be until they are there.
        self.under_way = 0
        self.bytes_under_way = 0

    async def take(
        self,
        request: web.Request,
        read: Callable[[bytes, str], Entries[T] | Problem],
        publish: Callable[[Entries[T] | Problem], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """``publish`` of what ``read`` makes of the body and its Content-Type; 408, 413 or 503 where it does not come to that."""
        declared = request.content_length
        if (declared or 0) > self._max_body_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_body_bytes, declared or 0)
        size = self._max_body_bytes if declared is None else declared
        if self.under_way >= MAX_BODIES_AT_ONCE:
            return try_again("busy", f"{MAX_BODIES_AT_ONCE} requests are under way already").response()
        if self.under_way and self.bytes_under_way + size > MAX_BODY_BYTES_AT_ONCE:
            return try_again("busy", f"{MAX_BODY_BYTES_AT_ONCE:,} bytes of requests are under way already").response()
        with _Place(self, size) as place:
            try:
                async with asyncio.timeout(self._body_timeout_seconds):
                    body = await request.read()
            except TimeoutError:
                response = Problem(408, "slow-body", f"the body did not arrive within {self._body_timeout_seconds:g} s").response()
                response.force_close()
                return response
            place.shrink_to(len(body))
            content_type = request.content_type if "Content-Type" in request.headers else "application/json"
            is_small = len(body) < _LARGE_BODY_BYTES
            return await publish(read(body, content_type) if is_small else await asyncio.to_thread(read, body, content_type))


class _Place:
    """A request under way."""

    def __init__(self, intake: Intake, size: int) -> None:
        self._intake = intake
        self._size = size

    def __enter__(self) -> _Place:
        self._intake.under_way += 1
        self._intake.bytes_under_way += self._size
        return self

    def __exit__(self, *_: object) -> None:
        self._intake.under_way -= 1
        self._intake.bytes_under_way -= self._size

    def shrink_to(self, size: int) -> None:
        """The body is there, and no larger."""
        self._intake.bytes_under_way -= self._size - size
        self._size = size


def accepted(positions: list[Position]) -> web.Response:
    """202: Kafka has all of them, and where."""
    places = [{"partition": p.partition, "offset": p.offset} for p in positions]
    return json_response({"accepted": len(places), "positions": places}, status=202)
