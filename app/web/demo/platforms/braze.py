"""A stand-in for Braze: users with nested attributes, 75 objects at once; what is too large is dropped with a success answer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import orjson

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow
from app.web.demo.platforms.platform import Answer, Call, Platform, Route, bearer, looks_like_an_address, objects

MAX_OBJECTS = 75
MAX_NESTED_BYTES = 100_000
MAX_NAME = MAX_TEXT = 255
MAX_SCALARS = 25
IDENTIFIERS = ("external_id", "braze_id", "email", "phone")
#: Of our own making: the vendor's documents do not say how large a request may be.
MAX_REQUEST_BYTES = 4_000_000
_SUBSCRIPTIONS = ("email_subscribe", "push_subscribe", "subscription_groups", "email_open_tracking_disabled")
_TROUBLES = {
    Trouble.INVALID: "The value provided for the 'email' field is not a valid email.",
    Trouble.FORGOTTEN: "User profile was deleted",
    Trouble.SUPPRESSED: "'external_id' is blocklisted",
    Trouble.CONFLICT: "The identifiers belong to more than one user",
    Trouble.UNKNOWN: "User does not exist",
}


class Braze(Platform):
    """Fields come to be as they are written."""

    kind = "braze"
    title = "Braze"
    max_body_bytes: ClassVar[int] = MAX_REQUEST_BYTES

    def __init__(self, **account: Any) -> None:
        self.window = FixedWindow(3_000, 3.0)
        self._queued: list[list[dict[str, Any]]] = []
        super().__init__(**account)

    def routes(self) -> Iterable[Route]:
        return [Route("POST", "/users/track", self._track, (self.window,), is_write=True)]

    def is_authorised(self, call: Call) -> bool:
        return bearer(call) == self.key

    def refusal(self, status: int, detail: str) -> Answer:
        return Answer(status, {"message": "Unauthorized" if status == 401 else detail, "errors": []})

    def throttled(self, wait_seconds: float) -> Answer:
        """Not Retry-After, but a header of the vendor's own."""
        return Answer(429, {"message": "Rate Limited"}, {"X-Ratelimit-Retry-After": str(max(1, math.ceil(wait_seconds)))})

    def _track(self, call: Call) -> Answer:
        unknown = sorted(set(call.document) - {"attributes", "events", "purchases"})
        lists = [call.document.get(name, []) for name in ("attributes", "events", "purchases")]
        if unknown or any(objects(found) is None for found in lists):
            return self.refusal(400, f"Invalid request: {', '.join(unknown) or 'attributes, events and purchases are lists of objects'}")
        if sum(map(len, lists)) > MAX_OBJECTS:
            return self.refusal(400, "Max Input Length Exceeded")
        attributes = lists[0]
        if self.faults.is_opaque and any(self._trouble_of(one) for one in attributes):
            return self.refusal(400, "Invalid request")
        if self.faults.is_in_maintenance:
            self._queued.append(attributes)
            self.later(self.faults.job_seconds, self._end_maintenance)
            return Answer(202, {"message": "queued"})
        errors = self._apply(attributes)
        answer: dict[str, Any] = {"message": "success", "attributes_processed": len(attributes) - len(errors)}
        return Answer(201, answer | ({"errors": errors} if errors else {}))

    def _end_maintenance(self) -> None:
        """What was queued is applied in the order it came in, once the maintenance is over."""
        if self.faults.is_in_maintenance:
            self.later(max(0.05, self.faults.job_seconds), self._end_maintenance)
            return
        queued, self._queued = self._queued, []
        for attributes in queued:
            self._apply(attributes)

    def _apply(self, attributes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Errors name people by their place in the list."""
        # One invalid nested value anywhere drops all nested updates of the request, and the answer does not say so.
        is_poisoned = any(_is_nested(value) and _has_null(value) for one in attributes for value in one.values())
        errors = []
        for index, one in enumerate(attributes):
            identifiers, trouble = _identifiers(one), self._trouble_of(one)
            if not identifiers:
                why = "'external_id' or 'braze_id' or 'user_alias' is required"
                errors.append({"type": why, "input_array": "attributes", "index": index})
            elif trouble is not None and trouble is not Trouble.SILENT:
                errors.append({"type": _TROUBLES[trouble], "input_array": "attributes", "index": index})
            elif trouble is None:
                self._apply_one(one, identifiers, is_poisoned)
        return errors

    def _trouble_of(self, one: dict[str, Any]) -> Trouble | None:
        named = [one[name] for name in IDENTIFIERS if isinstance(one.get(name), str)]
        if one.get("email") is not None and not looks_like_an_address(one["email"]):
            return Trouble.INVALID
        return self.trouble(named)

    def _apply_one(self, one: dict[str, Any], identifiers: dict[str, str], is_poisoned: bool) -> None:
        if any(name in one for name in _SUBSCRIPTIONS):
            self.consent_writes.append(next(iter(identifiers.values())))
        if one.get("_update_existing_only") is True and not self.owners(identifiers):
            return
        known = self.owners(identifiers)
        held = known[0].fields if known else {}
        kept: dict[str, Any] = {}
        for name, value in one.items():
            if name in identifiers or name.startswith("_") or name == "user_alias" or value is None:
                continue
            if _is_nested(value) and (is_poisoned or not _is_storable(value)):
                continue
            if isinstance(value, list) and not _is_nested(value):
                value = value[:MAX_SCALARS]
            if isinstance(value, dict) and one.get("_merge_objects") is True and isinstance(held.get(name), dict):
                value = held[name] | value
            kept[name] = value
        self.put(identifiers, kept, [name for name, value in one.items() if value is None])


def _identifiers(one: dict[str, Any]) -> dict[str, str]:
    """The best one that is given: an address beside an external_id is an attribute like others."""
    found = {name: one[name] for name in IDENTIFIERS if isinstance(one.get(name), str) and one[name]}
    return {name: value.lower() if name == "email" else value for name, value in list(found.items())[:1]}


def _is_nested(value: Any) -> bool:
    """An object, or a list of objects. ``{"$time": ...}`` is a time."""
    if isinstance(value, dict):
        return set(value) != {"$time"}
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _has_null(value: Any) -> bool:
    match value:
        case dict():
            return any(_has_null(v) for v in value.values())
        case list():
            return any(_has_null(v) for v in value)
        case _:
            return value is None


def _is_storable(value: Any) -> bool:
    """100 KB, names of at most 255 characters without dots, dollars and spaces, texts of at most 255 characters."""
    return len(orjson.dumps(value)) <= MAX_NESTED_BYTES and _has_sound_names(value)


def _has_sound_names(value: Any) -> bool:
    match value:
        case {"$time": _} if len(value) == 1:
            return True
        case dict():
            sound = all(len(name) <= MAX_NAME and not set(name) & set(".$ ") for name in value)
            return sound and all(_has_sound_names(v) for v in value.values())
        case list():
            return all(_has_sound_names(v) for v in value)
        case str():
            return len(value) <= MAX_TEXT
        case _:
            return True
