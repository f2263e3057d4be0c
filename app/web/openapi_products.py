"""The schemas of products in the OpenAPI document: as PUT and PATCH take them, with examples, and as GET answers."""

from __future__ import annotations

from typing import Any

from app.web.schema_parts import ID, SCALAR, SHOWN_MONEY, TIME, array, closed, text

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
PRODUCT_CHANGE_EXAMPLES: dict[str, dict[str, Any]] = {
    "price_and_stock": {"product_id": "987", "price": "279.99 EUR", "in_stock": False},
    "cleared": {"product_id": "987", "expires_at": None},
}

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
_TEXTS = {"oneOf": [SCALAR, {"type": "array", "items": SCALAR, "maxItems": 16}]}
_PRODUCT_ID = {"type": ["string", "integer"], "description": "The one that events name. At most 128 bytes of UTF-8."}
_TITLE = {**text(512, "White space becomes single spaces."), "type": ["string", "null"]}
_URL = {**text(2048, "http or https."), "type": ["string", "null"]}
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
    "brand": {**text(128, "Who makes it."), "type": ["string", "null"]},
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

PRODUCT_SCHEMAS: dict[str, Any] = {
    "ProductId": _PRODUCT_ID,
    "Product": closed(_PRODUCT_FIELDS, [], description="Of a field with several names one is given. The id is required, but in the path."),
    "ProductChange": closed(_PRODUCT_FIELDS, [], description="The fields named, null to clear; at least one beside the id."),
    "ListedProduct": closed(
        {
            "product": closed(
                {
                    "product_id": ID,
                    "title": {"type": ["string", "null"]},
                    "url": {"type": ["string", "null"]},
                    "image_url": {"type": ["string", "null"]},
                    "price": SHOWN_MONEY,
                    "list_price": SHOWN_MONEY,
                    "brand": {"type": ["string", "null"]},
                    "categories": array(ID),
                    "in_stock": {"type": "boolean"},
                    "attributes": {"type": "object", "additionalProperties": array(ID)},
                    "published": {"type": ["boolean", "string"], "description": "true, false (never), or from when."},
                    "expires_at": TIME,
                },
                description="As PUT takes it.",
            ),
            "listed_at": TIME,
            "out_of_stock_since": TIME,
            "back_in_stock_at": TIME,
            "prices": array(closed({"since": TIME, "price": SHOWN_MONEY}), "Oldest first, the last 16."),
        }
    ),
}
