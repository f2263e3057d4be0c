"""A stand-in for Customer.io: people with attributes of at most a thousand bytes; a timestamp says which of two writes is the later one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import orjson

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow
from app.web.demo.platforms.platform import MAX_PEOPLE, Answer, Call, Platform, Route, basic, looks_like_an_address, objects

MAX_ITEM_BYTES = 32_000
MAX_VALUE_BYTES = 1_000
MAX_ATTRIBUTES = 300
MAX_NAME_BYTES = MAX_ID_BYTES = 150
ACTIONS = ("identify", "event", "delete", "suppress", "unsuppress")
IDENTIFIERS = ("id", "email", "cio_id")


class CustomerIo(Platform):
    """Attributes come to be as they are written."""

    kind = "customerio"
    title = "Customer.io"
    max_body_bytes: ClassVar[int] = 500_000

    def __init__(self, *, site_id: str = "demo-site", **account: Any) -> None:
        self.site_id = site_id
        #: "Not strictly enforced", says the vendor.
        self.window = FixedWindow(3_000, 3.0)
        #: Person and attribute → the timestamp of what is held.
        self._written_at: dict[str, dict[str, float]] = {}
        self._suppressed: set[str] = set()
        super().__init__(**account)

    def routes(self) -> Iterable[Route]:
        return [
            Route("POST", "/api/v2/batch", self._batch, (self.window,), is_write=True),
            Route("POST", "/api/v2/entity", self._entity, (self.window,), is_write=True),
        ]

    def is_authorised(self, call: Call) -> bool:
        return basic(call) == (self.site_id, self.key)

    def refusal(self, status: int, detail: str) -> Answer:
        if status == 401:
            return Answer(401, {"meta": {"error": "Unauthorized request"}})
        return Answer(status, {"errors": [{"reason": "parse_error" if status == 400 else "error", "field": "batch", "message": detail}]})

    def throttled(self, wait_seconds: float) -> Answer:
        return Answer(429, {"meta": {"error": "too many requests"}})

    def _entity(self, call: Call) -> Answer:
        if error := self._apply(call.document):
            return Answer(400, {"errors": [error]})
        return Answer(200, {})

    def _batch(self, call: Call) -> Answer:
        batch = objects(call.document.get("batch"))
        if not batch:
            return self.refusal(400, "batch has at least one item")
        if self.faults.is_opaque and any(self.trouble(_identifiers(item).values()) for item in batch):
            return self.refusal(400, "bad")
        errors = [{"batch_index": index, **error} for index, item in enumerate(batch) if (error := self._apply(item))]
        return Answer(207, {"errors": errors}) if errors else Answer(200, {})

    def _apply(self, item: dict[str, Any]) -> dict[str, str] | None:
        """Reason, field and message of what is wrong with it."""
        identifiers = _identifiers(item)
        if item.get("type") != "person" or item.get("action") not in ACTIONS or not identifiers:
            return _error("required", "type", "a person, an action and an identifier")
        if len(orjson.dumps(item)) > MAX_ITEM_BYTES:
            return _error("invalid", "batch", f"item larger than {MAX_ITEM_BYTES} bytes")
        trouble = self.trouble(identifiers.values())
        is_wrong = "email" in identifiers and not looks_like_an_address(identifiers["email"])
        if trouble is Trouble.INVALID or is_wrong or len(identifiers.get("id", "").encode()) > MAX_ID_BYTES:
            return _error("invalid", "identifiers", "identifier is not valid")
        if trouble is Trouble.UNKNOWN:
            return _error("not_found", "identifiers", "person not found")
        match item["action"]:
            case "identify":
                return self._identify(item, identifiers, trouble)
            case "delete":
                self.forget(identifiers)
            case "suppress":
                self._suppressed.update(identifiers.values())
                self.forget(identifiers)
            case "unsuppress":
                self._suppressed.difference_update(identifiers.values())
        return None

    def _identify(self, item: dict[str, Any], identifiers: dict[str, str], trouble: Trouble | None) -> dict[str, str] | None:
        attributes = item.get("attributes", {})
        if not isinstance(attributes, dict) or len(attributes) > MAX_ATTRIBUTES:
            return _error("invalid", "attributes", f"an object with at most {MAX_ATTRIBUTES} attributes")
        for name, value in attributes.items():
            if len(name.encode()) > MAX_NAME_BYTES or len(_stored(value)) > MAX_VALUE_BYTES:
                return _error("invalid", f"attributes.{name}", "attribute too large")
        if any(name in attributes for name in ("unsubscribed", "cio_subscription_preferences")):
            self.consent_writes.append(next(iter(identifiers.values())))
        owners = self.owners(identifiers)
        other_owner = self.owners({"email": str(attributes["email"]).lower()}) if "email" in attributes else []
        # Suppressed, forgotten, or an address of somebody else's: a success, and a line in a log that no answer shows.
        if trouble is not None or self._suppressed & set(identifiers.values()) or len(owners) > 1:
            return None
        if other_owner and other_owner != owners:
            attributes = {name: value for name, value in attributes.items() if name != "email"}
        elif "email" in attributes:
            identifiers = identifiers | {"email": str(attributes["email"]).lower()}
        newer = self._newer(owners[0].identity if owners else next(iter(identifiers.values())), attributes, item.get("_timestamp"))
        cleared = [name for name, value in newer.items() if value in (None, "")]
        self.put(identifiers, {name: value for name, value in newer.items() if value not in (None, "")}, cleared)
        return None

    def _newer(self, identity: str, attributes: Mapping[str, Any], timestamp: Any) -> dict[str, Any]:
        """The attributes that are not older than what is held."""
        at = float(timestamp) if isinstance(timestamp, (int, float)) else self.now()
        held = self._written_at.setdefault(identity, {})
        newer = {name: value for name, value in attributes.items() if at >= held.get(name, 0.0)}
        held |= dict.fromkeys(newer, at)
        if len(self._written_at) > MAX_PEOPLE:
            del self._written_at[next(iter(self._written_at))]
        return newer


def _identifiers(item: dict[str, Any]) -> dict[str, str]:
    given = item.get("identifiers")
    if not isinstance(given, dict):
        return {}
    found = {name: given[name] for name in IDENTIFIERS if isinstance(given.get(name), str) and given[name]}
    return {name: value.lower() if name == "email" else value for name, value in found.items()}


def _stored(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def _error(reason: str, field: str, message: str) -> dict[str, str]:
    return {"reason": reason, "field": field, "message": message}
