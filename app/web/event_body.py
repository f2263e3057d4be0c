"""The body of POST /v1/events: one JSON event, an array, or one per line, read strictly and as a whole.

Pure: bytes in, events or the problem out. It is all or nothing: one bad event and none is accepted, so that a client can mend and send the
same body again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.domain.json_event import event_from_json
from app.domain.validation import Violation
from app.web.problems import MAX_ERRORS_SHOWN, FieldError, Problem
from tidings.events.v1.event_pb2 import Event

JSON_TYPES = frozenset({"application/json", "text/json"})
LINE_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines"}
)
#: The first of each is the one to use; a body without a type is taken as JSON.
ACCEPTED = "application/json (one event or an array) or application/x-ndjson (one event per line)"


@dataclass(frozen=True, slots=True)
class Events:
    """A body of which every event is valid, in its order."""

    events: list[Event]


def read_events(body: bytes, content_type: str, now_ms: int, max_events: int) -> Events | Problem:
    """The body's events, or a 400, 413 or 415 that names each event that is wrong (the first 100) and its field."""
    if content_type not in JSON_TYPES and content_type not in LINE_TYPES:
        return Problem(
            415,
            "unsupported-media-type",
            f"the Content-Type must be {ACCEPTED}",
            headers={"Accept-Post": "application/json, application/x-ndjson"},
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return _malformed(f"the body is not UTF-8: byte {exc.start} is wrong")
    if not text.strip():
        return _malformed("the body is empty: send one JSON event, an array of them, or one per line")
    parsed = _lines(text) if content_type in LINE_TYPES else _document(text)
    if isinstance(parsed, Problem):
        return parsed
    if not parsed:
        return _malformed("the array is empty: send at least one event")
    if len(parsed) > max_events:
        return Problem(
            413, "too-many-events", f"{len(parsed):,} events are more than the {max_events:,} of one request; send them in parts"
        )
    return _events(parsed, now_ms)


@dataclass(frozen=True, slots=True)
class _NotJson:
    detail: str


def _events(parsed: list[Any], now_ms: int) -> Events | Problem:
    events: list[Event] = []
    errors: list[FieldError] = []
    wrong = 0
    for index, obj in enumerate(parsed):
        match _event_or_error(obj, now_ms):
            case Event() as event:
                events.append(event)
            case FieldError(field=field, detail=detail):
                wrong += 1
                if len(errors) < MAX_ERRORS_SHOWN:
                    errors.append(FieldError(index, field, detail))
    if not wrong:
        return Events(events)
    shown = f"; the first {len(errors)} are named" if wrong > len(errors) else ""
    first = errors[0]
    return Problem(
        400,
        "invalid-events",
        f"{wrong} of {len(parsed)} event(s) are invalid and none was accepted{shown}. Event {first.index}: {first.detail}",
        errors,
    )


def _event_or_error(obj: Any, now_ms: int) -> Event | FieldError:
    if isinstance(obj, _NotJson):
        return FieldError(None, "", obj.detail)
    match event_from_json(obj, now_ms):
        case Violation(field=field, detail=detail):
            return FieldError(None, field, detail)
        case event:
            return event


def _document(text: str) -> list[Any] | Problem:
    """A whole JSON text; objects that follow each other line by line are taken as lines."""
    match _parse(text):
        case _NotJson(detail=detail):
            if detail.startswith("Extra data") and text.lstrip().startswith("{") and "\n" in text.strip():
                return _lines(text)
            return _malformed(f"the body is not JSON: {detail}")
        case list() as many:
            return many
        case dict() as one:
            return [one]
        case _:
            return _malformed("the body must be a JSON object or an array of objects")


def _lines(text: str) -> list[Any]:
    return list(_each_line(text))


def _each_line(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.strip():
            parsed = _parse(stripped)
            yield _NotJson(f"line {number} is not JSON: {parsed.detail}") if isinstance(parsed, _NotJson) else parsed


def _parse(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        return _NotJson(f"{exc.msg} (line {exc.lineno}, column {exc.colno})")
    except RecursionError:
        return _NotJson("it is nested too deeply")
    except _DuplicateKey as exc:
        return _NotJson(f"the key {exc.key[:40]!a} stands twice in one object")
    except (ValueError, ArithmeticError) as exc:
        return _NotJson(str(exc)[:200] if isinstance(exc, _NotANumber) else "it holds a number that is too long")


class _DuplicateKey(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _NotANumber(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values is meant cannot be known, so neither is taken."""
    obj = dict(pairs)
    if len(obj) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(key)
            seen.add(key)
    return obj


def _refuse_constant(name: str) -> Any:
    raise _NotANumber(f"{name} is not a JSON value")


#: Decimal keeps prices as they were written; orjson would be faster, but keeps the last of two equal keys in silence.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_refuse_constant)


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed-body", detail, [FieldError(None, "", detail)])
