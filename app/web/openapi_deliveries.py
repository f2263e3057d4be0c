"""What the OpenAPI document says of deliveries and destinations."""

from __future__ import annotations

from typing import Any, get_args

from app.delivery.standing import STANDINGS, Standing
from app.web.schema_parts import COUNT, ID, TIME, array, closed

_MAYBE_TEXT = {"type": ["string", "null"]}

DELIVERY_SCHEMAS: dict[str, Any] = {
    "Destinations": closed(
        {
            "destinations": array(
                closed(
                    {
                        "name": ID,
                        "kind": ID,
                        "state": {
                            "enum": ["closed", "paused", "half_open", "open"],
                            "description": "Of the breaker, the worst on any worker: `closed` lets requests pass; `paused`: it asked for "
                            "fewer of them; `half_open`: probes find out; `open`: nothing is sent.",
                        },
                        "cause": {
                            "enum": ["errors", "parked", "auth", "configuration", "gone", "operator", None],
                            "description": "Why it is open. `errors` and `parked` end by themselves; the rest when an operator acts.",
                        },
                        "reason": _MAYBE_TEXT,
                        "since": TIME,
                        "until": TIME,
                        "due": {**COUNT, "description": "People who should still be told something."},
                        "resync_due": {**COUNT, "description": "Those of them who have nothing new, and are sent once more."},
                        "in_flight": {**COUNT, "description": "Requests on the wire."},
                        "in_jobs": {**COUNT, "description": "People whom a job over there has."},
                        "oldest_due_seconds": {"type": "number", "description": "How long the oldest event waits, as far as is known."},
                    }
                ),
                "In the order of the settings.",
            ),
            "workers": closed({"answered": COUNT, "silent": array(ID, "Addresses of workers that did not answer in time.")}),
        },
        ["destinations"],
    ),
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
