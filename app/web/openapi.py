"""The OpenAPI 3.1 document of the worker's HTTP interface; a test says that it has every route and no other."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app.web.openapi_schemas import EVENT_EXAMPLES, SCHEMAS

_DESCRIPTION = """Tidings keeps a live profile and product recommendations for every email subscriber.

Any worker answers for any user: it asks the owner of the user's partition where it is another. Times are ISO 8601 in UTC with
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
    "Unavailable": ("Kafka does not answer, or the partition is moving. Try again.", _RETRY),
}


def _paths() -> dict[str, Any]:
    user = _parameter("path", "user_id", "The id as it stands in the events, percent-encoded.", {"type": "string", "minLength": 1})
    product = _parameter("path", "product_id", "The id as it stands in the events, percent-encoded.", {"type": "string", "minLength": 1})
    reads = {"400": "Malformed", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound", "421": "NotTheOwner", "503": "Unavailable"}
    return {
        "/v1/events": {"post": _post_events()},
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
                ],
            )
        },
        "/v1/users/{user_id}/recommendations": {
            "get": _get(
                "recommendations",
                "views",
                "What the user would see now, and why",
                _ref("Recommendations"),
                reads,
                [user, _limit(50, 50)],
            )
        },
        "/v1/items/{product_id}/neighbours": {
            "get": _get(
                "neighbours",
                "views",
                "The products that go with a product",
                _ref("Neighbours"),
                reads,
                [product, _limit(20, 100)],
            )
        },
        "/healthz": {"get": _open("healthz", "Is the process alive? 503 asks for a restart", "Alive")},
        "/readyz": {"get": _open("readyz", "Is the worker ready, what does it own, how far behind is it?", "Ready")},
        "/metrics": {"get": _served("metrics", "Metrics for Prometheus", "text/plain", {"type": "string"})},
        "/openapi.json": {"get": _served("openapi", "This document", "application/json", {"type": "object"})},
        "/": {"get": _served("index", "The routes", "application/json", _ref("Index"))},
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
            "202": {"description": "Kafka has all of them.", "content": {"application/json": {"schema": _ref("Accepted")}}},
            **_responses(
                {
                    "400": "Malformed",
                    "401": "Unauthorized",
                    "403": "Forbidden",
                    "408": "SlowBody",
                    "413": "TooLarge",
                    "415": "UnsupportedMediaType",
                    "503": "Unavailable",
                }
            ),
        },
    }


def _get(
    name: str, tag: str, summary: str, schema: dict[str, Any], problems: dict[str, str], parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": [{"token": []}],
        "parameters": parameters,
        "responses": {"200": {"description": summary, "content": {"application/json": {"schema": schema}}}, **_responses(problems)},
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


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _version() -> str:
    try:
        return version("tidings")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
