"""What the OpenAPI document says of deliveries and destinations."""

from __future__ import annotations

from typing import Any, get_args

from app.delivery.standing import STANDINGS, Standing
from app.web.schema_parts import COUNT, ID, TIME, array, closed

_MAYBE_TEXT = {"type": ["string", "null"]}

DELIVERY_SCHEMAS: dict[str, Any] = {
    "Deliveries": closed(
        {
            "user_id": ID,
            "version": {**COUNT, "description": "Of the list that destinations should have; 0 before the first."},
            "deliveries": array(
                closed(
                    {
                        "destination": ID,
                        "state": {
                            "enum": list(get_args(Standing)),
                            "description": "; ".join(f"`{name}`: {meaning}" for name, meaning in STANDINGS.items()) + ".",
                        },
                        "desired_version": COUNT,
                        "confirmed_version": COUNT,
                        "confirmed_at": TIME,
                        "due_since": {**TIME, "description": "When Kafka received the first event that is not delivered yet."},
                        "attempts": {**COUNT, "description": "Failed attempts at what is due."},
                        "next_attempt_at": TIME,
                        "job": {**_MAYBE_TEXT, "description": "The destination's own name of the job that took it."},
                        "last_error": _MAYBE_TEXT,
                        "given_up_because": _MAYBE_TEXT,
                        "given_up_at": TIME,
                    }
                ),
                "One for each destination that the user was ever due at, by name.",
            ),
        }
    ),
}
