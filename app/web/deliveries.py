"""Deliveries over HTTP: how one person stands at each destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from app.delivery.standing import reason_name, standing_of
from app.domain.validation import MAX_USER_ID_BYTES
from app.web.owners import Owners
from app.web.problems import Problem
from app.web.reads import UNKNOWN_USER, id_of
from app.web.representations import iso_time
from app.web.views import Views
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry


class Deliveries:
    """The handler of GET /v1/users/{user_id}/deliveries; the answer is of acknowledged state."""

    def __init__(self, views: Views, owners: Owners, clock: Callable[[], int]) -> None:
        self._views = views
        self._owners = owners
        self._clock = clock

    async def of_user(self, request: web.Request) -> web.StreamResponse:
        user_id = id_of(request, "user_id", MAX_USER_ID_BYTES)

        def here() -> dict[str, Any] | Problem:
            entry = self._views.outbox_entry(user_id)
            if entry is None and self._views.profile(user_id) is None:
                return UNKNOWN_USER
            return deliveries_json(user_id, entry if entry is not None else OutboxEntry(), self._clock())

        return await self._owners.answer(request, user_id, here)


def deliveries_json(user_id: str, entry: OutboxEntry, now_ms: int) -> dict[str, Any]:
    """The version that destinations should have, and how each stands."""
    return {
        "user_id": user_id,
        "version": entry.update.version,
        "deliveries": [_delivery_json(delivery, now_ms) for delivery in entry.deliveries],
    }


def _delivery_json(delivery: Delivery, now_ms: int) -> dict[str, Any]:
    standing = standing_of(delivery, now_ms)
    is_given_up = standing in ("dead", "blocked", "withheld")
    return {
        "destination": delivery.target,
        "state": standing,
        "desired_version": delivery.desired_version,
        "confirmed_version": delivery.confirmed_version,
        "confirmed_at": iso_time(delivery.confirmed_at_ms),
        "due_since": iso_time(delivery.due_since_ms),
        "attempts": delivery.attempts,
        "next_attempt_at": iso_time(delivery.next_attempt_at_ms),
        "job": delivery.job or None,
        "last_error": delivery.last_error or None,
        "given_up_because": reason_name(delivery.dead_reason) if is_given_up and delivery.dead_reason else None,
        "given_up_at": iso_time(delivery.abandoned_at_ms) if is_given_up else None,
    }
