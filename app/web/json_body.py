"""A body of many: one JSON value, an array, or one per line, read strictly and as a whole.

Pure: bytes in, what they describe or the problem out. It is all or nothing: one bad entry and none is accepted, so that a client can mend
and send the same body again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.domain.strict_json import NotJson, parse_json
from app.domain.validation import Violation
from app.web.problems import MAX_ERRORS_SHOWN, FieldError, Problem

T = TypeVar("T")

JSON_TYPES = frozenset({"application/json", "text/json"})
LINE_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines"}
)


@dataclass(frozen=True, slots=True)
class Entries(Generic[T]):
    """A body of which every entry is valid, in its order."""

    entries: list[T]


@dataclass(frozen=True, slots=True)
class EntryKind:
    """What a body holds, in the words of its problems: ``event``, ``events``, and which JSON values stand for one."""

    one: str
    many: str
    wanted: str = "a JSON object or an array of objects"
    types: tuple[type, ...] = (dict,)

    @property
    def accepted(self) -> str:
        """The first of each type is the one to use; a body without a type is taken as JSON."""
        return f"application/json (one {self.one} or an array) or application/x-ndjson (one {self.one} per line)"


def read_entries(
    body: bytes, content_type: str, kind: EntryKind, max_entries: int, read: Callable[[Any], T | Violation]
) -> Entries[T] | Problem:
    """What ``read`` makes of each entry of the body, or a 400, 413 or 415 that names each that is wrong (the first 100) and its field."""
    if content_type not in JSON_TYPES and content_type not in LINE_TYPES:
        headers = {"Accept-Post": "application/json, application/x-ndjson"}
        return Problem(415, "unsupported-media-type", f"the Content-Type must be {kind.accepted}", headers=headers)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        return _malformed(f"the body is not UTF-8: byte {exc.start} is wrong")
    if not text.strip():
        return _malformed(f"the body is empty: send one JSON {kind.one}, an array of them, or one per line")
    parsed = list(_lines(text)) if content_type in LINE_TYPES else _document(text, kind)
    if isinstance(parsed, Problem):
        return parsed
    if not parsed:
        return _malformed(f"the array is empty: send at least one {kind.one}")
    if len(parsed) > max_entries:
        too_many = f"{len(parsed):,} {kind.many} are more than the {max_entries:,} of one request; send them in parts"
        return Problem(413, f"too-many-{_slug(kind.many)}", too_many)
    return _entries(parsed, kind, read)


def _entries(parsed: list[Any], kind: EntryKind, read: Callable[[Any], T | Violation]) -> Entries[T] | Problem:
    entries: list[T] = []
    errors: list[FieldError] = []
    wrong = 0
    for index, value in enumerate(parsed):
        if isinstance(value, NotJson):
            field, detail = "", value.detail
        else:
            found = read(value)
            if not isinstance(found, Violation):
                entries.append(found)
                continue
            field, detail = found.field, found.detail
        wrong += 1
        if len(errors) < MAX_ERRORS_SHOWN:
            errors.append(FieldError(index, field, detail))
    if not wrong:
        return Entries(entries)
    shown = f"; the first {len(errors)} are named" if wrong > len(errors) else ""
    first = f"{kind.one.capitalize()} {errors[0].index}: {errors[0].detail}"
    detail = f"{wrong} of {len(parsed)} {kind.one}(s) are invalid and none was accepted{shown}. {first}"
    return Problem(400, f"invalid-{_slug(kind.many)}", detail, errors)


def _document(text: str, kind: EntryKind) -> list[Any] | Problem:
    """A whole JSON text; objects that follow each other line by line are taken as lines."""
    match parse_json(text):
        case NotJson(detail=detail):
            if detail.startswith("Extra data") and text.lstrip().startswith(("{", '"')) and "\n" in text.strip():
                return list(_lines(text))
            return _malformed(f"the body is not JSON: {detail}")
        case list() as many:
            return many
        case one if isinstance(one, kind.types):
            return [one]
        case _:
            return _malformed(f"the body must be {kind.wanted}")


def _lines(text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if stripped := line.strip():
            parsed = parse_json(stripped)
            yield NotJson(f"line {number} is not JSON: {parsed.detail}") if isinstance(parsed, NotJson) else parsed


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def _malformed(detail: str) -> Problem:
    return Problem(400, "malformed-body", detail, [FieldError(None, "", detail)])
