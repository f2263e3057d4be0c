"""Ingest: POST /v1/events takes events as JSON and answers when Kafka has them."""

from __future__ import annotations

from typing import assert_never

from aiohttp import web

from app.domain.json_event import event_from_json
from app.errors import BrokerError
from app.metrics import INGESTED
from app.web.intake import Intake, accepted
from app.web.json_body import Entries, EntryKind, read_entries
from app.web.problems import Problem, try_again
from app.web.views import EventLog
from tidings.events.v1.event_pb2 import Event

_EVENT = EntryKind("event", "events")


class Ingest:
    """The handler. All of a request's events are accepted, or none is published."""

    def __init__(self, log: EventLog, intake: Intake) -> None:
        self._log = log
        self._intake = intake

    async def post(self, request: web.Request) -> web.StreamResponse:
        return await self._intake.take(request, self._read, self._publish)

    def _read(self, body: bytes, content_type: str) -> Entries[Event] | Problem:
        now_ms = self._intake.now_ms()
        return read_entries(body, content_type, _EVENT, self._intake.max_entries, lambda value: event_from_json(value, now_ms))

    async def _publish(self, outcome: Entries[Event] | Problem) -> web.StreamResponse:
        match outcome:
            case Problem():
                INGESTED.labels("invalid").inc(max(1, len(outcome.errors)))
                return outcome.response()
            case Entries(entries=events):
                try:
                    positions = await self._log.publish(events)
                except BrokerError as exc:
                    INGESTED.labels("failed").inc(len(events))
                    hint = "an event with an event_id, or with a timestamp, counts once however often it is sent"
                    return try_again("kafka-unavailable", f"{exc} ({hint})").response()
                INGESTED.labels("accepted").inc(len(events))
                return accepted(positions)
            case _:
                assert_never(outcome)
