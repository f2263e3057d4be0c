"""Customer.io: people with flat attributes of at most 1,000 bytes each, and the one platform that refuses an older write by its time.

A list of objects does not fit into 1,000 bytes, so what a template shows is in flat slots (rec_1_title), each within the limit; beside them
stands ``recs``, an array of the ids alone, for templates that look products up in a Collection and for segments.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.destinations.answers import dict_at, json_of, list_at, read_status, reason_of, text_at, words_of
from app.destinations.encoding import Item, as_slots, body_of, iso_time, items_of, joined
from app.destinations.identity import IdentifyBy, identity_of
from app.destinations.limits import Limits, Window
from app.destinations.outcomes import Confirmed, PerPerson, Reading, Rejected, Retry, Split, Unavailable
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.settings.targets import CustomerIoSettings
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

BASE_URLS = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}
#: Of one attribute.
MAX_VALUE_BYTES = 1_000
MAX_ID_BYTES = 150
#: Of one person in a request. They may have 300 attributes; 50 items take 253.
MAX_PERSON_BYTES = 32_000

_LIMITS = Limits(concurrency=16, people=1_000, body_bytes=500_000, windows=(Window(3_000, 3),), response_bytes=262_144)


@dataclass(frozen=True, slots=True)
class CustomerIo:
    """One workspace; its fields are its settings."""

    name: str
    site_id: str
    api_key: str = field(repr=False)
    base_url: str = BASE_URLS["us"]
    items: int = 5
    field_prefix: str = "rec"
    identify_by: IdentifyBy = "user_id"
    email_attribute: str = "email"
    limits: Limits = _LIMITS
    timeout_seconds: float = 15.0

    @classmethod
    def of(cls, settings: CustomerIoSettings) -> CustomerIo:
        """The workspace that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.site_id,
            settings.api_key.get_secret_value(),
            base_url=(settings.base_url or BASE_URLS[settings.region]).rstrip("/"),
            items=settings.items,
            field_prefix=settings.field_prefix,
            identify_by=settings.identify_by,
            email_attribute=settings.email_attribute,
            limits=_LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
            timeout_seconds=settings.timeout_seconds,
        )

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """A person to identify. All slots are written, the empty ones with "", or a shorter list would leave the old one's end behind."""
        identity = identity_of(rendered, self.identify_by, self.email_attribute, MAX_ID_BYTES)
        if isinstance(identity, Rejected):
            return identity
        items = items_of(rendered, self.items, MAX_VALUE_BYTES)
        if isinstance(items, Rejected):
            return items
        update = rendered.update
        whom = {"id" if self.identify_by == "user_id" else "email": identity}
        head: dict[str, Any] = {"type": "person", "action": "identify", "identifiers": whom}
        if update.ranked_at_ms > 0:
            head["_timestamp"] = update.ranked_at_ms // 1000
        tail: dict[str, Any] = {f"{self.field_prefix}s_version": update.version}
        if ranked_at := iso_time(update.ranked_at_ms):
            tail[f"{self.field_prefix}s_at"] = ranked_at
        # The last items are left out until the rest fits.
        for count in range(len(items), -1, -1):
            said = self._attributes(items[:count])
            body = body_of(head | {"attributes": said | tail})
            if len(body) <= MAX_PERSON_BYTES and (count or not items):
                return Part(update.user_id, update.version, digest_of(body_of(whom), body_of(said)), body, identity)
        return Rejected(outbox_pb2.DEAD_REASON_TOO_LARGE, f"not one recommendation fits into {MAX_PERSON_BYTES} bytes")

    def request(self, parts: Sequence[Part]) -> Request:
        """One batch that identifies these people."""
        credentials = base64.b64encode(f"{self.site_id}:{self.api_key}".encode()).decode()
        headers = {"content-type": "application/json"}
        body = joined(b'{"batch":[', parts, b"]}")
        return Request("POST", f"{self.base_url}/api/v2/batch", headers, body, {"authorization": f"Basic {credentials}"})

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """A 200 is for everyone; a 207 names by their place in the batch those whom it is not for."""
        answer = json_of(response)
        errors = list_at(answer, "errors")
        is_success = 200 <= response.status <= 299
        if is_success and not isinstance(answer, dict):
            return Unavailable(f"{reason_of(response)} (no JSON object)"[:180])
        if is_success and response.status != 207 and not errors:
            return PerPerson((Confirmed(),) * len(parts))
        if not is_success and response.status not in (400, 422):
            return read_status(response)
        rejected: dict[int, Rejected] = {}
        is_each_named = bool(errors)
        for error in errors:
            place = dict_at(error).get("batch_index")
            if type(place) is int and 0 <= place < len(parts):
                rejected.setdefault(place, _rejected(error))
            else:
                is_each_named = False
        if not is_each_named:
            return Split(reason_of(response))
        others = Confirmed() if is_success else Retry("another person in the request was refused")
        return PerPerson(tuple(rejected.get(place, others) for place in range(len(parts))))

    def quota(self, response: Response) -> None:
        """Customer.io says nothing of it in headers."""

    def _attributes(self, items: Sequence[Item]) -> dict[str, Any]:
        slots = as_slots(items, self.field_prefix, self.items)
        return {f"{self.field_prefix}s": _ids(items)} | slots


def _ids(items: Sequence[Item]) -> list[str]:
    """As many as fit into one attribute, best first."""
    ids = [item.product_id for item in items]
    while len(orjson.dumps(ids)) > MAX_VALUE_BYTES:
        ids.pop()
    return ids


def _rejected(error: Any) -> Rejected:
    parts = (text_at(error, "reason"), text_at(error, "field"), text_at(error, "message"))
    words = words_of(": ".join(part for part in parts if part)) or "no reason given"
    if "suppressed" in words.lower():
        return Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, words, blocks=True)
    return Rejected(_dead_reason(parts[0], parts[1], words.lower()), words)


def _dead_reason(reason: str, field_name: str, said: str) -> DeadReason:
    if reason == "not_found":
        return outbox_pb2.DEAD_REASON_UNKNOWN_PERSON
    if field_name.split(".")[0] in ("identifiers", "id", "email", "cio_id"):
        return outbox_pb2.DEAD_REASON_INVALID_IDENTITY
    if "too large" in said or "too long" in said:
        return outbox_pb2.DEAD_REASON_TOO_LARGE
    return outbox_pb2.DEAD_REASON_REFUSED
