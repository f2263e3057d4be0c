"""Ingest: POST /v1/events takes events as JSON and answers when Kafka has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from app.errors import BrokerError
from app.metrics import INGESTED
from app.settings import HttpSettings
from app.web.event_body import Events, read_events
from app.web.owners import json_response
from app.web.problems import Problem, try_again
from app.web.views import EventLog
from tidings.events.v1.event_pb2 import Event

#: A larger body is read in a thread, so that the worker's event loop goes on meanwhile: 64 kB are about 10 ms.
_LARGE_BODY_BYTES = 64 * 1024
#: Requests under way at once; with max_body_bytes it bounds the memory. Further ones are told to try again.
MAX_BODIES_AT_ONCE = 64


class Ingest:
    """The handler. All of a request's events are accepted, or none is published."""

    def __init__(self, log: EventLog, settings: HttpSettings, clock: Callable[[], int], body_timeout_seconds: float) -> None:
        self._log = log
        self._settings = settings
        self._clock = clock
        self._body_timeout_seconds = body_timeout_seconds
        self._room = asyncio.Semaphore(MAX_BODIES_AT_ONCE)

    async def post(self, request: web.Request) -> web.StreamResponse:
        if (request.content_length or 0) > self._settings.max_body_bytes:
            raise web.HTTPRequestEntityTooLarge(self._settings.max_body_bytes, request.content_length or 0)
        if self._room.locked():
            return try_again("busy", f"{MAX_BODIES_AT_ONCE} requests are under way already").response()
        async with self._room:
            return await self._post(request)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._body_timeout_seconds):
                body = await request.read()
        except TimeoutError:
            response = Problem(408, "slow-body", f"the body did not arrive within {self._body_timeout_seconds:g} s").response()
            response.force_close()
            return response
        content_type = request.content_type if "Content-Type" in request.headers else "application/json"
        args = (body, content_type, self._clock(), self._settings.max_events_per_request)
        outcome = read_events(*args) if len(body) < _LARGE_BODY_BYTES else await asyncio.to_thread(read_events, *args)
        match outcome:
            case Problem():
                INGESTED.labels("invalid").inc(max(1, len(outcome.errors)))
                return outcome.response()
            case Events(events=events):
                return await self._publish(events)

    async def _publish(self, events: list[Event]) -> web.StreamResponse:
        try:
            positions = await self._log.publish(events)
        except BrokerError as exc:
            INGESTED.labels("failed").inc(len(events))
            hint = "an event with an event_id, or with a timestamp, counts once however often it is sent"
            return try_again("kafka-unavailable", f"{exc} ({hint})").response()
        INGESTED.labels("accepted").inc(len(events))
        return json_response(
            {"accepted": len(events), "positions": [{"partition": p.partition, "offset": p.offset} for p in positions]}, status=202
        )
