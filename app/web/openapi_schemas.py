"""The schemas of the OpenAPI document: an event in JSON with an example of each kind, and what the views answer."""

from __future__ import annotations

from typing import Any

from app.domain.json_event import EVENT_NAMES
from app.domain.reasons import OTHER_REASON, REASON_NAMES

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

#: Complete examples of a product; a test sends each of them.
PRODUCT_EXAMPLES: dict[str, dict[str, Any]] = {
    "whole": {
        "product_id": "987",
        "title": "Trail shoe",
        "url": "https://shop.example/p/987",
        "image_url": "https://shop.example/i/987.jpg",
        "price": 299.99,
        "list_price": 349,
        "currency": "EUR",
        "in_stock": True,
        "categories": ["Shoes > Running", "Outdoor"],
        "brand": "Acme",
        "attributes": {"colour": ["red", "blue"], "vegan": True},
        "published": "2024-04-27T00:00:00Z",
        "expires_at": None,
        "changed_at": "2024-04-27T14:35:22Z",
    },
    "by_other_names": {
        "id": 987,
        "name": "Trail shoe",
        "link": "https://shop.example/p/987",
        "image_link": "https://shop.example/i/987.jpg",
        "price": "349.00 EUR",
        "sale_price": "299.99 EUR",
        "sale_price_effective_date": "2024-04-01T00:00Z/2024-05-01T00:00Z",
        "availability": "in stock",
        "product_type": "Shoes > Running",
    },
    "exact": {"id": "987", "title": "Trail shoe", "price": {"minor_units": 29999, "currency_code": "EUR"}, "published": False},
}
PRODUCT_CHANGE_EXAMPLE: dict[str, dict[str, Any]] = {
    "price_and_stock": {"product_id": "987", "price": "279.99 EUR", "in_stock": False},
    "cleared": {"product_id": "987", "expires_at": None},
}


def _text(max_bytes: int, description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": f"{description} At most {max_bytes} bytes of UTF-8.", **more}


def _object(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Closed, and everything required, unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


def _list(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": description} if description else {})}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_COUNT = {"type": "integer", "minimum": 0}
_TIME = {"type": ["string", "null"], "format": "date-time", "examples": ["2024-04-27T14:35:22.000Z"]}
_ID = {"type": "string"}
_QUANTITY = {"type": ["integer", "null"], "minimum": 1, "maximum": 10_000}
_PRICE = {
    "type": ["number", "string", "null"],
    "description": "The price of one, in major units (299.99); rounded half-even to minor units.",
}
_CURRENCY = {"type": ["string", "null"], "pattern": "^[A-Z]{3}$", "description": "ISO 4217; the shop's own without."}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}

_EVENT = _object(
    {
        "event_id": _text(128, "A client's retry repeats it. Derived from the content without."),
        "user_id": _text(256, "Whose profile.", minLength=1),
        "anonymous_id": _text(256, "The id the person had before they were known."),
        "event": {"enum": list(EVENT_NAMES)},
        "timestamp": {
            "description": "ISO 8601 with a zone, or milliseconds since 1970, from 2000-01-01 up to a day from now. Now without.",
            "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}, {"type": "null"}],
        },
        "source": _text(64, "Where it was recorded."),
        "session_id": _text(128, "The client's own session; 30 quiet minutes end one without."),
        "attributes": {
            "type": ["object", "null"],
            "maxProperties": 34,
            "additionalProperties": _SCALAR,
            "description": "At most 32, names of 64 bytes, values of 256. `price` and `currency` are a cart or order event's.",
        },
        "product_id": _text(
            128, "Required for product, cart, and order events (or `products`); the product behind the link for email_clicked."
        ),
        "quantity": _QUANTITY,
        "price": _PRICE,
        "currency": _CURRENCY,
        "order_id": _text(128, "Of an order; the event id without."),
        "products": _list(_ref("OrderLine"), "The lines of an order, 1 to 100."),
        "message_id": _text(128, "Required for email events."),
        "changes": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 50,
            "additionalProperties": _SCALAR,
            "description": "Required for profile_changed: names (64 bytes) and values (texts of 1,024 bytes); null clears.",
        },
        "purpose": _text(64, "Required for consent_changed: `profiling`, `personalised_email`."),
        "state": {"enum": ["granted", "denied"]},
    },
    ["user_id", "event"],
    description="What happened. A field that the kind of event does not have is refused.",
)

_MONEY = {
    "oneOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "description": "`299.99`, `299.99 EUR`."},
        {"type": "object", "description": "minor_units (or amount_minor) and currency_code, or amount and currency."},
        {"type": "null"},
    ]
}
_MOMENT: dict[str, Any] = {
    "description": "ISO 8601, or milliseconds since 1970; UTC without a zone, and a date is its first moment.",
    "type": ["string", "integer", "null"],
}
_TEXTS = {"oneOf": [_SCALAR, {"type": "array", "items": _SCALAR, "maxItems": 16}]}
_PRODUCT_ID = {"type": ["string", "integer"], "description": "The one that events name. At most 128 bytes of UTF-8."}
_TITLE = {**_text(512, "White space becomes single spaces."), "type": ["string", "null"]}
_URL = {**_text(2048, "http or https."), "type": ["string", "null"]}
_IN_STOCK = {
    "type": ["boolean", "string", "null"],
    "description": "Yes if not said; or Google's words: in_stock, out_of_stock, preorder, backorder; the last two can be ordered.",
}
_CATEGORIES = {
    "type": ["string", "array", "null"],
    "items": {"type": "string"},
    "maxItems": 10,
    "description": "One or more, levels parted by ` > `; each at most 256 bytes of UTF-8.",
}
_PUBLISHED = {
    "type": ["boolean", "string", "integer", "null"],
    "description": "false: never shown; a time: not before it. ISO 8601, or milliseconds since 1970.",
}
_PRODUCT_FIELDS: dict[str, Any] = {
    "product_id": _PRODUCT_ID,
    "id": _PRODUCT_ID,
    "title": _TITLE,
    "name": _TITLE,
    "url": _URL,
    "link": _URL,
    "image_url": _URL,
    "image": _URL,
    "image_link": _URL,
    "price": _MONEY,
    "list_price": {**_MONEY, "description": "What it costs when it is not reduced."},
    "sale_price": {**_MONEY, "description": "Becomes the price, and the price the list price."},
    "sale_price_effective_date": {"type": ["string", "null"], "description": "`start/end`: when the sale price holds."},
    "currency": {"type": ["string", "null"], "description": "ISO 4217, of the prices that name none; the shop's own without."},
    "in_stock": _IN_STOCK,
    "availability": _IN_STOCK,
    "categories": _CATEGORIES,
    "category": _CATEGORIES,
    "product_type": _CATEGORIES,
    "brand": {**_text(128, "Who makes it."), "type": ["string", "null"]},
    "attributes": {
        "type": ["object", "null"],
        "maxProperties": 32,
        "additionalProperties": _TEXTS,
        "description": "What is free; names of 64 bytes, 1 to 16 values of 256 bytes.",
    },
    "published": _PUBLISHED,
    "published_at": _PUBLISHED,
    "expires_at": _MOMENT,
    "expires": _MOMENT,
    "expiration_date": _MOMENT,
    "changed_at": {**_MOMENT, "description": "When the shop knew it; when Kafka received it without. It dates changes of price and stock."},
    "updated_at": _MOMENT,
}
_SHOWN_MONEY = {
    "oneOf": [_object({"minor_units": _COUNT, "currency_code": {"type": ["string", "null"]}}), {"type": "null"}],
    "description": "In minor units; the code is null for the shop's own currency.",
}

_RECOMMENDATIONS = _list(
    _object(
        {
            "product_id": _ID,
            "score": {"type": "number"},
            "reason": _object(
                {
                    "kind": {"enum": [*REASON_NAMES.values(), OTHER_REASON]},
                    "because_of": {"type": ["string", "null"], "description": "The person's own product that led here."},
                    "times_seen": _COUNT,
                    "text": {"type": "string", "description": "A sentence for the person."},
                    "together": {**_COUNT, "description": "So many of `visits` visits of `because_of` went together with this product."},
                    "visits": _COUNT,
                    "category": {"type": "string", "description": "The category that it trends in, or shares with `because_of`."},
                    "price_before": {**_SHOWN_MONEY, "description": "What it cost when the person last looked."},
                    "price_now": _SHOWN_MONEY,
                    "interval_days": {**_COUNT, "description": "The person buys it every so many days."},
                },
                ["kind", "because_of", "times_seen", "text"],
            ),
            "title": {"type": ["string", "null"], "description": "This and what follows: of a product that is in the catalog."},
            "url": {"type": ["string", "null"]},
            "image_url": {"type": ["string", "null"]},
            "price": _SHOWN_MONEY,
            "list_price": _SHOWN_MONEY,
            "brand": {"type": ["string", "null"]},
            "categories": _list(_ID),
        },
        ["product_id", "score", "reason"],
    ),
    "Best first.",
)

_NEIGHBOURS = {
    "product_id": _ID,
    "visit_count": {**_COUNT, "description": "Visits of the product so far."},
    "neighbours": _list(_object({"product_id": _ID, "score": {"type": "number"}}), "Best first."),
}

SCHEMAS: dict[str, Any] = {
    "Event": _EVENT,
    "OrderLine": _object(
        {"product_id": _text(128, "Required.", minLength=1), "quantity": _QUANTITY, "price": _PRICE, "currency": _CURRENCY}, ["product_id"]
    ),
    "Accepted": _object(
        {
            "accepted": _COUNT,
            "positions": _list(
                _object({"partition": _COUNT, "offset": {"type": "integer", "minimum": -1}}),
                "Where each event stands in the log, in the order sent.",
            ),
        }
    ),
    "ProductId": _PRODUCT_ID,
    "Product": _object(_PRODUCT_FIELDS, [], description="Of a field with several names one is given. The id is required, but in the path."),
    "ProductChange": _object(_PRODUCT_FIELDS, [], description="The fields named, null to clear; at least one beside the id."),
    "ListedProduct": _object(
        {
            "product": _object(
                {
                    "product_id": _ID,
                    "title": {"type": ["string", "null"]},
                    "url": {"type": ["string", "null"]},
                    "image_url": {"type": ["string", "null"]},
                    "price": _SHOWN_MONEY,
                    "list_price": _SHOWN_MONEY,
                    "brand": {"type": ["string", "null"]},
                    "categories": _list(_ID),
                    "in_stock": {"type": "boolean"},
                    "attributes": {"type": "object", "additionalProperties": _list(_ID)},
                    "published": {"type": ["boolean", "string"], "description": "true, false (never), or from when."},
                    "expires_at": _TIME,
                },
                description="As PUT takes it.",
            ),
            "listed_at": _TIME,
            "out_of_stock_since": _TIME,
            "back_in_stock_at": _TIME,
            "prices": _list(_object({"since": _TIME, "price": _SHOWN_MONEY}), "Oldest first, the last 16."),
        }
    ),
    "Profile": _object(
        {
            "user_id": _ID,
            "first_event_at": _TIME,
            "last_event_at": _TIME,
            "event_count": _COUNT,
            "session": _object(
                {
                    "session_id": {"type": ["string", "null"]},
                    "started_at": _TIME,
                    "last_event_at": _TIME,
                    "event_count": _COUNT,
                    "product_ids": _list(_ID),
                }
            ),
            "history": _list(
                _object(
                    {"product_id": _ID, "occurred_at": _TIME, "kind": {"enum": ["view", "cart", "purchase", "email_click", "unknown"]}}
                ),
                "Oldest first.",
            ),
            "cart": _list(
                _object(
                    {
                        "product_id": _ID,
                        "quantity": _COUNT,
                        "added_at": _TIME,
                        "unit_price": {
                            "oneOf": [_object({"minor_units": _COUNT, "currency": {"type": ["string", "null"]}}), {"type": "null"}]
                        },
                    }
                )
            ),
            "attributes": {
                "type": "object",
                "additionalProperties": _object({"value": {"type": ["string", "number", "boolean"]}, "changed_at": _TIME}),
            },
            "consents": {
                "type": "object",
                "additionalProperties": _object({"state": {"enum": ["granted", "denied", "unknown"]}, "changed_at": _TIME}),
            },
            "purchases": _list(
                _object({"product_id": _ID, "first_at": _TIME, "last_at": _TIME, "count": _COUNT}), "By product, at most 256."
            ),
            "anonymous_ids": _list(_ID),
            "email": _object({"opened_count": _COUNT, "clicked_count": _COUNT, "last_opened_at": _TIME, "last_clicked_at": _TIME}),
            "neighbours": _list(_object(_NEIGHBOURS), "Only with include=neighbours."),
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
    "Recommendations": _object(
        {
            "user_id": _ID,
            "version": {**_COUNT, "description": "Grows by one with each list that differs; 0 before the first."},
            "current_to": {**_TIME, "description": "The time of the latest event in the profile when the list was made."},
            "ranked_at": _TIME,
            "caused_at": {**_TIME, "description": "When Kafka received the first event that this list answers."},
            "recommendations": _RECOMMENDATIONS,
        }
    ),
    "Selection": _object(
        {
            "user_id": _ID,
            "slot": {"type": "string"},
            "known": {"type": "boolean", "description": "Whether an event of this user was applied; if not, the list is anybody's."},
            "current_to": {**_TIME, "description": "The time of the latest event in the profile."},
            "ranked_at": _TIME,
            "recommendations": _RECOMMENDATIONS,
            "removed": _list(
                _object({
                    "product_id": _ID,
                    "title": {"type": ["string", "null"]},
                    "rule": {"type": "string", "description": "The rule, filter or cap that removed it."},
                    "strategy": {"type": "string", "description": "The strategy that had proposed it."},
                }),
                "Only with explain=true: what was proposed and is not shown, at most 100.",
            ),
        },
        ["user_id", "slot", "known", "current_to", "ranked_at", "recommendations"],
    ),
    "Neighbours": _object(
        {
            **_NEIGHBOURS,
            "last_visit_at": _TIME,
            "evicted_count": {**_COUNT, "description": "Neighbours cut at the bound; 0 means every weight is exact."},
        }
    ),
    "Alive": _object({"alive": {"type": "boolean"}, "reason": {"type": "string"}}),
    "Ready": _object(
        {
            "ready": {"type": "boolean"},
            "reason": {"type": "string"},
            "recovering": {"type": "boolean"},
            "fenced": {"type": "boolean", "description": "Whether the broker refuses writers that were replaced."},
            "active_partitions": _list(_COUNT),
            "standby_partitions": _list(_COUNT),
            "lag": _list(_object({"topic": _ID, "partition": _COUNT, "records": _COUNT}), "Records not yet applied."),
        }
    ),
    "Index": _object(
        {
            "name": {"type": "string"},
            "routes": _list(_object({"method": {"type": "string"}, "path": {"type": "string"}, "summary": {"type": "string"}})),
        }
    ),
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri", "examples": ["urn:tidings:problem:invalid-events"]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": _list(
                _object(
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
