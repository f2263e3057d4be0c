"""What the OpenAPI document says of how current an answer is."""

from __future__ import annotations

from typing import Any

from app.web.freshness import (
    CURRENT_TO,
    LAG,
    MAX_STALENESS_MS,
    OWN_WRITE_SECONDS,
    SERVED_BY,
    SOURCE_OFFSET,
    STANDBY_STALENESS_MS,
)

_POSITION = {"type": "string", "pattern": "^[0-9]{1,6}/[0-9]{1,18}$", "examples": ["3/1041"]}

MAX_STALENESS: dict[str, Any] = {
    "in": "query",
    "name": "max_staleness_ms",
    "description": "How old the answer may be. An older one is refused with 503; for a slot, what anybody gets is answered instead, "
    f"with `fallback_because`. Without it the owner of the partition always answers, and a copy of up to {STANDBY_STALENESS_MS} ms.",
    "required": False,
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_STALENESS_MS},
}
AFTER: dict[str, Any] = {
    "in": "query",
    "name": "after",
    "description": "The position (`partition/offset`) that POST /v1/events answered for an event of this user: the answer has that "
    f"event in it. It is waited for up to {OWN_WRITE_SECONDS:g} s; then 503.",
    "required": False,
    "schema": _POSITION,
}
FRESHNESS_HEADERS: dict[str, Any] = {
    SOURCE_OFFSET: {
        "description": "`partition/offset` of the last record that is in the answer: of the events topic, and for items of the visits "
        "topic; the offset is -1 before the first.",
        "schema": {"type": "string", "pattern": "^[0-9]+/-?[0-9]+$"},
    },
    CURRENT_TO: {
        "description": "The latest moment known at which all that the log held was in it. Absent where none is known.",
        "schema": {"type": "string", "format": "date-time"},
    },
    LAG: {
        "description": "Records of the log that are not in it. Absent while that is not known.",
        "schema": {"type": "integer", "minimum": 0},
    },
    SERVED_BY: {
        "description": "`active`: the owner of the partition; `standby`: a copy, where the owner is gone, moving or slow; `fallback`: "
        "nobody who knows the person.",
        "schema": {"enum": ["active", "standby", "fallback"]},
    },
}
