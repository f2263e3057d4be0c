"""Deliveries over HTTP: how one person stands at each destination, and how each destination is, over the whole fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from app.delivery.standing import reason_name, standing_of
from app.delivery.status import LineStatus
from app.domain.validation import MAX_USER_ID_BYTES
from app.web.owners import Owners, json_response
from app.web.peers import HOP_HEADER
from app.web.problems import Problem
from app.web.reads import UNKNOWN_USER, id_of
from app.web.representations import iso_time
from app.web.views import Views
from tidings.state.v1.outbox_pb2 import Delivery, OutboxEntry


class Deliveries:
    """The handlers of GET /v1/users/{user_id}/deliveries, of acknowledged state, and of GET /v1/destinations."""

    def __init__(self, views: Views, owners: Owners, clock: Callable[[], int], kinds: Mapping[str, str]) -> None:
        """``kinds``: the kind of each destination of the settings, by its name."""
        self._views = views
        self._owners = owners
        self._clock = clock
        self._kinds = kinds

    async def destinations(self, request: web.Request) -> web.StreamResponse:
        """All destinations; what is counted is added up over the workers, and the answer says whose words are missing."""
        here = [destination_json(line, self._kinds.get(line.name, ""), self._clock()) for line in self._views.destinations()]
        if HOP_HEADER in request.headers:
            return json_response({"destinations": here})
        others = await self._owners.others(request)
        told = [document["destinations"] for document in others.values() if document is not None]
        return json_response({
            "destinations": [added_up(one, [d for of_other in told for d in of_other if d.get("name") == one["name"]]) for one in here],
            "workers": {"answered": 1 + len(told), "silent": sorted(url for url, document in others.items() if document is None)},
        })

    async def of_user(self, request: web.Request) -> web.StreamResponse:
        user_id = id_of(request, "user_id", MAX_USER_ID_BYTES)

        def here() -> dict[str, Any] | Problem:
            entry = self._views.outbox_entry(user_id)
            if entry is None and self._views.profile(user_id) is None:
                return UNKNOWN_USER
            return deliveries_json(user_id, entry if entry is not None else OutboxEntry(), self._clock())

        return await self._owners.answer(request, user_id, here, ranked=True)


#: What is counted on each worker.
_COUNTS = ("due", "resync_due", "in_flight", "in_jobs")


def destination_json(line: LineStatus, kind: str, now_ms: int) -> dict[str, Any]:
    """How it goes at one destination, on one worker."""
    breaker = line.breaker
    return {
        "name": line.name,
        "kind": kind,
        "state": "paused" if breaker.kind == "closed" and line.paused_until_ms > now_ms else breaker.kind,
        "cause": breaker.cause.value if breaker.cause is not None and breaker.kind != "closed" else None,
        "reason": breaker.reason or None,
        "since": iso_time(breaker.since_ms),
        "until": iso_time(breaker.until_ms or line.paused_until_ms),
        "due": line.due,
        "resync_due": line.resync_due,
        "in_flight": line.in_flight,
        "in_jobs": line.in_jobs,
        "oldest_due_seconds": line.oldest_due_ms / 1000,
    }


def added_up(one: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, Any]:
    """One worker's words of a destination, with the others' of the same: counts are sums, the state is the worst that any worker has."""
    worst = max([one, *others], key=lambda told: _BADNESS.get(told["state"], 0))
    together = {**one, **{key: worst[key] for key in ("state", "cause", "reason", "since", "until")}}
    for key in _COUNTS:
        together[key] = sum(told[key] for told in (one, *others))
    together["oldest_due_seconds"] = max(told["oldest_due_seconds"] for told in (one, *others))
    return together


_BADNESS = {"closed": 0, "paused": 1, "half_open": 2, "open": 3}


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
