"""The schemas of the OpenAPI document: an event in JSON with an example of each kind, and what the views answer."""

from __future__ import annotations

from typing import Any

from app.domain.json_event import EVENT_NAMES
from app.domain.reasons import OTHER_REASON, REASON_NAMES
from app.web.openapi_deliveries import DELIVERY_SCHEMAS
from app.web.openapi_products import PRODUCT_SCHEMAS
from app.web.schema_parts import COUNT, ID, SCALAR, SHOWN_MONEY, TIME, array, closed, ref, text

_CART = {"category": "electronics", "price": 299.99, "currency": "EUR"}

#: A complete example of each kind of event; a test sends each of them.
EVENT_EXAMPLES: dict[str, dict[str, Any]] = {
    "product_viewed": {
        "event_id": "7f1c",
        "user_id": "12345",
        "anonymous_id": "anon-81",
        "event": "product_viewed",
        "product_id": "987",
        "timestamp": "2024-04-27T14:35:22Z",
        "source": "shop",
        "session_id": "s-19",
        "attributes": {"category": "electronics"},
    },
    "add_to_cart": {
        "user_id": "12345",
        "event": "add_to_cart",
        "product_id": "987",
        "timestamp": "2024-04-27T14:35:22Z",
        "attributes": _CART,
    },
    "remove_from_cart": {"user_id": "12345", "event": "remove_from_cart", "product_id": "987", "quantity": 1, "timestamp": 1714228522000},
    "order_placed": {
        "event_id": "o-77",
        "user_id": "12345",
        "event": "order_placed",
        "order_id": "77",
        "timestamp": "2024-04-27T16:35:22+02:00",
        "products": [{"product_id": "987", "quantity": 2, "price": 299.99, "currency": "EUR"}, {"product_id": "12"}],
    },
    "email_opened": {"user_id": "12345", "event": "email_opened", "message_id": "m-5", "timestamp": "2024-04-27T14:35:22Z"},
    "email_clicked": {
        "user_id": "12345",
        "event": "email_clicked",
        "message_id": "m-5",
        "product_id": "987",
        "timestamp": "2024-04-27T14:35:22Z",
    },
    "profile_changed": {
        "user_id": "12345",
        "event": "profile_changed",
        "timestamp": "2024-04-27T14:35:22Z",
        "changes": {"city": "Bonn", "loyalty_points": 120, "newsletter": True, "phone": None},
    },
    "consent_changed": {
        "user_id": "12345",
        "event": "consent_changed",
        "purpose": "profiling",
        "state": "denied",
        "timestamp": "2024-04-27T14:35:22Z",
    },
}


_QUANTITY = {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000}
_PRICE = {
    "type": ["number", "string", "null"],
    "description": "The price of one, in major units (299.99); rounded half-even to minor units.",
}
_CURRENCY = {"type": ["string", "null"], "pattern": "^[A-Z]{3}$", "description": "ISO 4217; the shop's own without."}

_EVENT = closed(
    {
        "event_id": text(128, "A client's retry repeats it. Derived from the content without."),
        "user_id": text(256, "Whose profile.", minLength=1),
        "anonymous_id": text(256, "The id the person had before they were known."),
        "event": {"enum": list(EVENT_NAMES)},
        "timestamp": {
            "description": "ISO 8601 with a zone, or milliseconds since 1970, from 2000-01-01 up to a day from now. Now without.",
            "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}, {"type": "null"}],
        },
        "source": text(64, "Where it was recorded."),
        "session_id": text(128, "The client's own session; 30 quiet minutes end one without."),
        "attributes": {
            "type": ["object", "null"],
            "maxProperties": 34,
            "additionalProperties": SCALAR,
            "description": "At most 32, names of 64 bytes, values of 256. `price` and `currency` are a cart or order event's.",
        },
        "product_id": text(
            128, "Required for product, cart, and order events (or `products`); the product behind the link for email_clicked."
        ),
        "quantity": _QUANTITY,
        "price": _PRICE,
        "currency": _CURRENCY,
        "order_id": text(128, "Of an order; the event id without."),
        "products": array(ref("OrderLine"), "The lines of an order, 1 to 100."),
        "message_id": text(128, "Required for email events."),
        "changes": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 50,
            "additionalProperties": SCALAR,
            "description": "Required for profile_changed: names (64 bytes) and values (texts of 1,024 bytes); null clears.",
        },
        "purpose": text(64, "Required for consent_changed: `profiling`, `personalised_email`."),
        "state": {"enum": ["granted", "denied"]},
    },
    ["user_id", "event"],
    description="What happened. A field that the kind of event does not have is refused.",
)

_RECOMMENDATIONS = array(
    closed(
        {
            "product_id": ID,
            "score": {"type": "number"},
            "reason": closed(
                {
                    "kind": {"enum": [*REASON_NAMES.values(), OTHER_REASON]},
                    "because_of": {"type": ["string", "null"], "description": "The person's own product that led here."},
                    "times_seen": COUNT,
                    "text": {"type": "string", "description": "A sentence for the person."},
                    "together": {**COUNT, "description": "So many of `visits` visits of `because_of` went together with this product."},
                    "visits": COUNT,
                    "category": {"type": "string", "description": "The category that it trends in, or shares with `because_of`."},
                    "price_before": {**SHOWN_MONEY, "description": "What it cost when the person last looked."},
                    "price_now": SHOWN_MONEY,
                    "interval_days": {**COUNT, "description": "The person buys it every so many days."},
                },
                ["kind", "because_of", "times_seen", "text"],
            ),
            "title": {"type": ["string", "null"], "description": "This and what follows: of a product that is in the catalog."},
            "url": {"type": ["string", "null"]},
            "image_url": {"type": ["string", "null"]},
            "price": SHOWN_MONEY,
            "list_price": SHOWN_MONEY,
            "brand": {"type": ["string", "null"]},
            "categories": array(ID),
        },
        ["product_id", "score", "reason"],
    ),
    "Best first.",
)

_NEIGHBOURS = {
    "product_id": ID,
    "visit_count": {**COUNT, "description": "Visits of the product so far."},
    "neighbours": array(closed({"product_id": ID, "score": {"type": "number"}}), "Best first."),
}

SCHEMAS: dict[str, Any] = {
    "Event": _EVENT,
    "OrderLine": closed(
        {"product_id": text(128, "Required.", minLength=1), "quantity": _QUANTITY, "price": _PRICE, "currency": _CURRENCY}, ["product_id"]
    ),
    "Accepted": closed(
        {
            "accepted": COUNT,
            "positions": array(
                closed({"partition": COUNT, "offset": {"type": "integer", "minimum": -1}}),
                "Where each event stands in the log, in the order sent.",
            ),
        }
    ),
    **PRODUCT_SCHEMAS,
    **DELIVERY_SCHEMAS,
    "Profile": closed(
        {
            "user_id": ID,
            "first_event_at": TIME,
            "last_event_at": TIME,
            "event_count": COUNT,
            "session": closed(
                {
                    "session_id": {"type": ["string", "null"]},
                    "started_at": TIME,
                    "last_event_at": TIME,
                    "event_count": COUNT,
                    "product_ids": array(ID),
                }
            ),
            "history": array(
                closed(
                    {"product_id": ID, "occurred_at": TIME, "kind": {"enum": ["view", "cart", "purchase", "email_click", "unknown"]}}
                ),
                "Oldest first.",
            ),
            "cart": array(
                closed(
                    {
                        "product_id": ID,
                        "quantity": COUNT,
                        "added_at": TIME,
                        "unit_price": {
                            "oneOf": [closed({"minor_units": COUNT, "currency": {"type": ["string", "null"]}}), {"type": "null"}]
                        },
                    }
                )
            ),
            "attributes": {
                "type": "object",
                "additionalProperties": closed({"value": {"type": ["string", "number", "boolean"]}, "changed_at": TIME}),
            },
            "consents": {
                "type": "object",
                "additionalProperties": closed({"state": {"enum": ["granted", "denied", "unknown"]}, "changed_at": TIME}),
            },
            "purchases": array(
                closed({"product_id": ID, "first_at": TIME, "last_at": TIME, "count": COUNT}), "By product, at most 256."
            ),
            "anonymous_ids": array(ID),
            "email": closed({"opened_count": COUNT, "clicked_count": COUNT, "last_opened_at": TIME, "last_clicked_at": TIME}),
            "neighbours": array(closed(_NEIGHBOURS), "Only with include=neighbours."),
        },
        [
            "user_id",
            "first_event_at",
            "last_event_at",
            "event_count",
            "session",
            "history",
            "cart",
            "attributes",
            "consents",
            "purchases",
            "anonymous_ids",
            "email",
        ],
    ),
    "Recommendations": closed(
        {
            "user_id": ID,
            "version": {**COUNT, "description": "Grows by one with each list that differs; 0 before the first."},
            "current_to": {**TIME, "description": "The time of the latest event in the profile when the list was made."},
            "ranked_at": TIME,
            "caused_at": {**TIME, "description": "When Kafka received the first event that this list answers."},
            "recommendations": _RECOMMENDATIONS,
        }
    ),
    "Selection": closed(
        {
            "user_id": ID,
            "slot": {"type": "string"},
            "known": {"type": "boolean", "description": "Whether an event of this user was applied; if not, the list is anybody's."},
            "current_to": {**TIME, "description": "The time of the latest event in the profile."},
            "ranked_at": TIME,
            "recommendations": _RECOMMENDATIONS,
            "removed": array(
                closed({
                    "product_id": ID,
                    "title": {"type": ["string", "null"]},
                    "rule": {"type": "string", "description": "The rule, filter or cap that removed it."},
                    "strategy": {"type": "string", "description": "The strategy that had proposed it."},
                }),
                "Only with explain=true: what was proposed and is not shown, at most 100.",
            ),
            "fallback_because": {
                "enum": ["partition-moving", "owner-unreachable", "not-the-owner", "too-stale"],
                "description": "Only with max_staleness_ms, where nobody knows the person well enough: the list is anybody's.",
            },
        },
        ["user_id", "slot", "known", "current_to", "ranked_at", "recommendations"],
    ),
    "Neighbours": closed(
        {
            **_NEIGHBOURS,
            "last_visit_at": TIME,
            "evicted_count": {**COUNT, "description": "Neighbours cut at the bound; 0 means every weight is exact."},
        }
    ),
    "Alive": closed({"alive": {"type": "boolean"}, "reason": {"type": "string"}}),
    "Ready": closed(
        {
            "ready": {"type": "boolean"},
            "reason": {"type": "string"},
            "recovering": {"type": "boolean"},
            "fenced": {"type": "boolean", "description": "Whether the broker refuses writers that were replaced."},
            "active_partitions": array(COUNT),
            "standby_partitions": array(COUNT),
            "lag": array(closed({"topic": ID, "partition": COUNT, "records": COUNT}), "Records not yet applied."),
        }
    ),
    "Index": closed(
        {
            "name": {"type": "string"},
            "routes": array(closed({"method": {"type": "string"}, "path": {"type": "string"}, "summary": {"type": "string"}})),
        }
    ),
    "Problem": closed(
        {
            "type": {"type": "string", "format": "uri", "examples": ["urn:tidings:problem:invalid-events"]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": array(
                closed(
                    {
                        "index": {"type": ["integer", "null"], "description": "Which event, from 0; null for the body as a whole."},
                        "field": {
                            "type": "string",
                            "description": "JSON path: products[1].product_id, attributes.price; empty where no field could be read.",
                        },
                        "detail": {"type": "string"},
                    }
                )
            ),
        },
        ["type", "title", "status", "detail"],
        description="RFC 9457.",
    ),
}
