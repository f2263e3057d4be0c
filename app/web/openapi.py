"""The OpenAPI 3.1 document of the worker's HTTP interface; a test says that it has every route and no other."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app.web.openapi_freshness import AFTER, FRESHNESS_HEADERS, MAX_STALENESS
from app.web.openapi_products import PRODUCT_CHANGE_EXAMPLES, PRODUCT_EXAMPLES
from app.web.openapi_schemas import EVENT_EXAMPLES, SCHEMAS

_DESCRIPTION = """Tidings keeps a live profile and product recommendations for every email subscriber.

Any worker answers for any user: it asks the owner of the user's partition where it is another. While a partition moves, or its owner does
not answer, a copy answers; the headers of each answer say whose word it is and how current. Times are ISO 8601 in UTC with
milliseconds; `null` means never or not known. Every error is an RFC 9457 problem document; `type` is stable, `detail` is for people."""

_INGEST_DESCRIPTION = """One JSON event, an array of events, or one event per line (`application/x-ndjson`).

**All or nothing:** if any event is invalid the answer is 400, names the first 100 that are, and none is published. 202 means that Kafka has
acknowledged all of them; they are applied to the profiles within milliseconds after.

**Retries:** an event counts once per `event_id`. Without one, the id is a hash of the event's content, so a retry of the same body counts
once as long as it carries a `timestamp` (and two events that differ in nothing, not even the timestamp, count once as well). After 503
the events may or may not have been written: send them again with the same ids.

**Names:** `product_view`, `view` = `product_viewed`; `added_to_cart` = `add_to_cart`; `removed_from_cart` = `remove_from_cart`; `order`,
`purchase` = `order_placed`. Unknown fields are refused; what is free belongs into `attributes`, which are carried as text, but for `price`
and `currency` of a cart or order event: they are the price of one."""

_PRODUCTS_DESCRIPTION = """One JSON product, an array of products, or one product per line (`application/x-ndjson`).

**All or nothing:** if any is invalid the answer is 400, names the first 100 that are, and none is published. 202 means that Kafka has
acknowledged all of them; they are in force in every answer within a second. Sent again, the same does no harm.

**PUT** says all there is of a product: what it does not say is not known. **PATCH** says the fields that it names: the others stay, and
`null` clears one. A change that comes before the product itself waits for it; `attributes` and `categories` are changed as a whole.

**Names:** `id` = `product_id`; `name` = `title`; `link` = `url`; `image`, `image_link` = `image_url`; `availability` = `in_stock`;
`category`, `product_type` = `categories`; `published_at` = `published`; `expires`, `expiration_date` = `expires_at`; `updated_at` =
`changed_at`. Two names of one field, and a field that is not known, are refused.

**Prices** are exact: a number or text in major units (`299.99`, `"299.99 EUR"`), or `{"minor_units": 29999, "currency_code": "EUR"}`;
what is finer than the currency is rounded half-even. With `sale_price`, that is the price and `price` the list price, if the time of the
request lies within `sale_price_effective_date` or that is not given; that the sale has ended is for a later request to say."""


@cache
def openapi_document() -> dict[str, Any]:
    """The document, ready to be served."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidings",
            "version": _version(),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "events", "description": "Scope `ingest`."},
            {"name": "products", "description": "Scope `ingest`; `read` to look one up."},
            {"name": "views", "description": "Scope `read`."},
            {"name": "operation", "description": "Open: keep them inside the cluster."},
        ],
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of the settings, with the scope of the route."}
            },
            "responses": {
                name: {"description": description, "content": {"application/problem+json": {"schema": _ref("Problem")}}, **more}
                for name, (description, more) in _PROBLEMS.items()
            },
        },
    }


_RETRY: dict[str, Any] = {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}}
_CHALLENGE: dict[str, Any] = {"headers": {"WWW-Authenticate": {"description": "What is missing.", "schema": {"type": "string"}}}}
_PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Malformed": ("The body or a parameter is wrong; `errors` says where.", {}),
    "Unauthorized": ("No token, or one that is not known.", _CHALLENGE),
    "Forbidden": ("The token lacks the scope.", _CHALLENGE),
    "NotFound": ("Nothing is known of it.", {}),
    "SlowBody": ("The body took too long.", {}),
    "TooLarge": ("Too many bytes or events for one request.", {}),
    "UnsupportedMediaType": ("The Content-Type is none of those that are taken.", {}),
    "NotTheOwner": ("Only between workers: forwarded once, and to the wrong one.", {}),
    "Unavailable": (
        "Kafka does not answer, the partition is moving, or no answer is as current as was asked for. Try again.", _RETRY,
    ),
}


def _paths() -> dict[str, Any]:
    user = _parameter("path", "user_id", "The id as it stands in the events, percent-encoded.", {"type": "string", "minLength": 1})
    product = _parameter("path", "product_id", "The id as it stands in the events, percent-encoded.", {"type": "string", "minLength": 1})
    reads = {"400": "Malformed", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound", "421": "NotTheOwner", "503": "Unavailable"}
    here = {"400": "Malformed", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound"}
    return {
        "/v1/events": {"post": _post_events()},
        "/v1/products": {
            "put": _write_products("putProducts", "Take products, whole", _PRODUCTS_DESCRIPTION, _ref("Product"), PRODUCT_EXAMPLES),
            "patch": _write_products(
                "patchProducts", "Take changes of products", "As PUT, for changes.", _ref("ProductChange"), PRODUCT_CHANGE_EXAMPLES
            ),
            "delete": _write_products(
                "deleteProducts",
                "Take products away",
                "Their ids: one, an array, or one per line.",
                _ref("ProductId"),
                {"two": ["987", "988"]},
            ),
        },
        "/v1/products/{product_id}": {
            "get": _get("product", "products", "A product of the catalog", _ref("ListedProduct"), here, [product]),
            "put": {
                **_write_products("putProduct", "Take a product, whole", "As PUT /v1/products, for one.", _ref("Product"), {}, one=True),
                "parameters": [product],
            },
            "patch": {
                **_write_products(
                    "patchProduct", "Take a change of a product", "As PATCH /v1/products, for one.", _ref("ProductChange"), {}, one=True
                ),
                "parameters": [product],
            },
            "delete": {
                "operationId": "deleteProduct",
                "tags": ["products"],
                "summary": "Take a product away",
                "security": [{"token": []}],
                "parameters": [product],
                "responses": {
                    "202": _ACCEPTED,
                    **_responses({"400": "Malformed", "401": "Unauthorized", "403": "Forbidden", "503": "Unavailable"}),
                },
            },
        },
        "/v1/users/{user_id}": {
            "get": _get(
                "profile",
                "views",
                "A user's profile",
                _ref("Profile"),
                reads,
                [
                    user,
                    _parameter("query", "include", "`neighbours`: with what other people's behaviour taught.", {"enum": ["neighbours"]}),
                    MAX_STALENESS, AFTER,
                ],
                FRESHNESS_HEADERS,
            )
        },
        "/v1/users/{user_id}/recommendations": {
            "get": _get(
                "recommendations",
                "views",
                "What the user would see now, and why: the list that was published, or with slot or explain the one of this moment",
                {"oneOf": [_ref("Recommendations"), _ref("Selection")]},
                reads,
                [user, _limit(50, 50), _SLOT, _EXPLAIN, MAX_STALENESS, AFTER],
                FRESHNESS_HEADERS,
            )
        },
        "/v1/users/{user_id}/deliveries": {
            "get": _get(
                "deliveries", "views", "How the user stands at each destination", _ref("Deliveries"), reads, [user, MAX_STALENESS, AFTER],
                FRESHNESS_HEADERS,
            )
        },
        "/v1/destinations": {
            "get": _get(
                "destinations", "views", "How each destination is, over the whole fleet", _ref("Destinations"),
                {"401": "Unauthorized", "403": "Forbidden"}, [],
            )
        },
        "/v1/items/{product_id}/neighbours": {
            "get": _get(
                "neighbours",
                "views",
                "The products that go with a product",
                _ref("Neighbours"),
                reads,
                [product, _limit(20, 100), MAX_STALENESS],
                FRESHNESS_HEADERS,
            )
        },
        "/healthz": {"get": _open("healthz", "Is the process alive? 503 asks for a restart", "Alive")},
        "/readyz": {"get": _open("readyz", "Is the worker ready, what does it own, how far behind is it?", "Ready")},
        "/metrics": {"get": _served("metrics", "Metrics for Prometheus", "text/plain", {"type": "string"})},
        "/openapi.json": {"get": _served("openapi", "This document", "application/json", {"type": "object"})},
        "/": {"get": _served("index", "The routes", "application/json", _ref("Index"))},
    }


_ACCEPTED: dict[str, Any] = {
    "description": "Kafka has all of them.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
}
_BODY_PROBLEMS = {
    "400": "Malformed",
    "401": "Unauthorized",
    "403": "Forbidden",
    "408": "SlowBody",
    "413": "TooLarge",
    "415": "UnsupportedMediaType",
    "503": "Unavailable",
}


def _write_products(
    name: str, summary: str, description: str, schema: dict[str, Any], examples: dict[str, Any], *, one: bool = False
) -> dict[str, Any]:
    """The id of a product that stands in the path may be left away in the body."""
    body: dict[str, Any] = {"schema": schema if one else {"oneOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}}
    if examples:
        body["examples"] = {key: {"summary": key, "value": value} for key, value in examples.items()}
    content = {"application/json": body}
    if not one:
        content["application/x-ndjson"] = {"schema": {"type": "string", "description": "One per line."}}
    return {
        "operationId": name,
        "tags": ["products"],
        "summary": summary,
        "description": description,
        "security": [{"token": []}],
        "requestBody": {"required": True, "content": content},
        "responses": {"202": _ACCEPTED, **_responses(_BODY_PROBLEMS)},
    }


def _post_events() -> dict[str, Any]:
    examples = {name: {"summary": name, "value": event} for name, event in EVENT_EXAMPLES.items()}
    lines = '{"user_id":"12345","event":"view","product_id":"987"}\n{"user_id":"12345","event":"view","product_id":"988"}\n'
    return {
        "operationId": "events",
        "tags": ["events"],
        "summary": "Take events",
        "description": _INGEST_DESCRIPTION,
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [_ref("Event"), {"type": "array", "items": _ref("Event"), "minItems": 1}]},
                    "examples": examples,
                },
                "application/x-ndjson": {"schema": {"type": "string", "description": "One Event per line."}, "example": lines},
            },
        },
        "responses": {
            "202": _ACCEPTED,
            **_responses(_BODY_PROBLEMS),
        },
    }


def _get(
    name: str, tag: str, summary: str, schema: dict[str, Any], problems: dict[str, str], parameters: list[dict[str, Any]],
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}, **({"headers": headers} if headers else {})}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": [{"token": []}],
        "parameters": parameters,
        "responses": {"200": answer, **_responses(problems)},
    }


def _open(name: str, summary: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(schema)}}
    responses = {"200": {"description": "Yes.", "content": content}, "503": {"description": "No; `reason` says why.", "content": content}}
    return {"operationId": name, "tags": ["operation"], "summary": summary, "security": [], "responses": responses}


def _served(name: str, summary: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": {media_type: {"schema": schema}}}}
    return {"operationId": name, "tags": ["operation"], "summary": summary, "security": [], "responses": responses}


def _responses(problems: dict[str, str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{name}"} for status, name in problems.items()}


def _parameter(place: str, name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"in": place, "name": name, "description": description, "required": place == "path", "schema": schema}


def _limit(default: int, most: int) -> dict[str, Any]:
    return _parameter("query", "limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


_SLOT = _parameter("query", "slot", "A slot of the settings; an unknown user gets its fallback.", {"type": "string"})
_EXPLAIN = _parameter("query", "explain", "Tell what was removed, and by which rule.", {"type": "boolean", "default": False})


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _version() -> str:
    try:
        return version("tidings")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
