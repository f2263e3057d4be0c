"""HubSpot: contacts with properties, a hundred in one request, each with a trace id by which the answer tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.destinations.answers import advised, int_at, json_of, list_at, read_status, reason_of, text_at, unreadable, words_of
from app.destinations.encoding import as_json_string, as_slots, body_of, email_of, iso_time, items_of, joined, slot_names
from app.destinations.limits import Limits, Window
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, PersonOutcome, Reading, Rejected, Retry, Split, Throttled
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.destinations.retry_after import retry_after_ms
from app.settings import HubSpotSettings
from tidings.state.v1 import outbox_pb2

BASE_URL = "https://api.hubapi.com"
#: A text holds 65,536 characters; the list as JSON keeps far below, so that a hundred contacts fit into a request.
MAX_JSON_BYTES = 16_384
#: A lock on a contact's account lasts so long (423).
LOCKED_MS = 2_000
#: The limits count by 10 s, and by day: what is used up for the day is asked for again after so long.
WINDOW_MS = 10_000
DAILY_PAUSE_MS = 3_600_000
#: 100 inputs in a request. Of the smallest plan's 100 requests in 10 s and 250,000 a day a fifth is left to others: all private apps of an
#: account share them. An answer may show what was written.
LIMITS = Limits(
    concurrency=8,
    people=100,
    body_bytes=2_000_000,
    windows=(Window(80, 10), Window(200_000, 86_400, kind="fixed")),
    response_bytes=5_000_000,
)


@dataclass(frozen=True, slots=True)
class Property:
    """A property of contacts."""

    name: str
    label: str
    #: Its control in HubSpot's forms and pages.
    field_type: str = "text"


@dataclass(frozen=True, slots=True)
class PropertyGroup:
    """The group that our properties stand in; it must be there before the first of them."""

    name: str


@dataclass(frozen=True, slots=True)
class HubSpot:
    """One account; its fields are its settings."""

    name: str
    access_token: str = field(repr=False)
    items: int = 5
    field_prefix: str = "rec"
    email_attribute: str = "email"
    property_group: str = "tidings"
    base_url: str = BASE_URL
    timeout_seconds: float = 15.0
    limits: Limits = LIMITS

    @classmethod
    def of(cls, settings: HubSpotSettings) -> HubSpot:
        """The destination that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.access_token.get_secret_value(),
            items=settings.items,
            field_prefix=settings.field_prefix,
            email_attribute=settings.email_attribute,
            property_group=settings.property_group,
            base_url=(settings.base_url or BASE_URL).rstrip("/"),
            timeout_seconds=settings.timeout_seconds,
            limits=LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
        )

    # A person -----------------------------------------------------------------------------------------------------------------

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """An input: the address, and all our properties as texts, "" in those of slots without an item."""
        update = rendered.update
        email = email_of(rendered, self.email_attribute)
        if isinstance(email, Rejected):
            return email
        items = items_of(rendered, self.items)
        if isinstance(items, Rejected):
            return items
        as_text = as_json_string(items, MAX_JSON_BYTES)
        if isinstance(as_text, Rejected):
            return as_text
        properties = {f"{self.field_prefix}s": as_text} | as_slots(items, self.field_prefix, self.items)
        digest = digest_of(email.encode(), orjson.dumps(properties))
        properties |= {f"{self.field_prefix}s_version": str(update.version), f"{self.field_prefix}s_at": iso_time(update.ranked_at_ms)}
        body = body_of({"id": email, "idProperty": "email", "objectWriteTraceId": update.user_id, "properties": properties})
        return Part(update.user_id, update.version, digest, body, email)

    def request(self, parts: Sequence[Part]) -> Request:
        """The POST that makes or changes the contacts."""
        return self._request("POST", "/crm/v3/objects/contacts/batch/upsert", joined(b'{"inputs":[', parts, b"]}"))

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """2xx has a result or an error for each contact, by its trace id; a 400 refuses all for what is wrong with one."""
        answer = json_of(response)
        reason = reason_of(response)
        match response.status:
            case status if 200 <= status <= 299:
                return self._read_results(parts, answer, reason)
            case 400 if _names_missing_property(answer):
                return self._missing_property(reason)
            case 400 if (named := _named(answer)) and all(part.user_id in named for part in parts):
                return PerPerson(tuple(named[part.user_id] for part in parts))
            case 409:
                return Split(reason, outbox_pb2.DEAD_REASON_CONFLICT)
            case 423:
                return Throttled(reason, max(LOCKED_MS, retry_after_ms(response) or 0))
            case 477:
                # The account moves to another data centre, for as long as it says: up to a day.
                after_ms = retry_after_ms(response)
                return Throttled(reason, DAILY_PAUSE_MS if after_ms is None else after_ms)
            case 429:
                is_daily = "DAILY" in text_at(answer, "policyName").upper()
                after_ms = retry_after_ms(response)
                return Throttled(reason, (DAILY_PAUSE_MS if is_daily else WINDOW_MS) if after_ms is None else after_ms)
            case _:
                return read_status(response)

    def quota(self, response: Response) -> None:
        """Its windows are known; what its headers count is not documented for every kind of token."""

    # Fields -------------------------------------------------------------------------------------------------------------------

    def fields(self) -> Sequence[PropertyGroup | Property]:
        """The group, and in it the list as JSON, one property for each value, and when and from which version they were written."""
        names = (*slot_names(self.field_prefix, self.items), f"{self.field_prefix}s_version", f"{self.field_prefix}s_at")
        texts = [Property(name, name.replace("_", " ")) for name in names]
        return [PropertyGroup(self.property_group), Property(f"{self.field_prefix}s", f"{self.field_prefix}s (JSON)", "textarea"), *texts]

    def fields_request(self) -> Request:
        return self._request("GET", "/crm/v3/properties/contacts")

    def missing_fields(self, response: Response) -> Sequence[PropertyGroup | Property] | Down:
        """Those that are not among the properties of contacts. A group is seen by the properties in it, and not while it is empty."""
        answer = json_of(response)
        if response.status != 200 or not isinstance(answer, dict):
            return unreadable(response)
        results = list_at(answer, "results")
        properties, groups = {text_at(one, "name") for one in results}, {text_at(one, "groupName") for one in results}
        return [one for one in self.fields() if one.name not in (groups if isinstance(one, PropertyGroup) else properties)]

    def create_field(self, field: PropertyGroup | Property) -> Request:
        """409 is the answer if it is there already."""
        if isinstance(field, PropertyGroup):
            return self._request("POST", "/crm/v3/properties/contacts/groups", body_of({"name": field.name, "label": field.name.title()}))
        body = {
            "name": field.name, "label": field.label, "groupName": self.property_group, "type": "string", "fieldType": field.field_type,
        }
        return self._request("POST", "/crm/v3/properties/contacts", body_of(body))

    def settings_hint(self, response: Response) -> str:
        """Nothing: properties go by the names we gave them."""
        return ""

    def _request(self, method: str, path: str, body: bytes = b"") -> Request:
        headers = {"content-type": "application/json"} if body else {}
        return Request(method, self.base_url + path, headers, body, secret_headers={"authorization": f"Bearer {self.access_token}"})

    def _missing_property(self, reason: str) -> Down:
        return Down(DownCause.CONFIGURATION, advised(reason, f"tidings destinations setup {self.name}"))

    def _read_results(self, parts: Sequence[Part], answer: Any, reason: str) -> Reading:
        """Who has a result is confirmed, who has an error is not. Who has neither was not written, whatever the status says: HubSpot
        answers 200 without results and without errors.
        """
        results, named = list_at(answer, "results"), _named(answer)
        if _names_missing_property(answer):
            return self._missing_property(reason)
        traced = {trace for result in results if (trace := text_at(result, "objectWriteTraceId"))}
        if not traced and len(results) + len(named) == len(parts):
            # As many as there should be, without trace ids: those that no error names.
            traced = {part.user_id for part in parts if part.user_id not in named}
        unaccounted = [part for part in parts if part.user_id not in named and part.user_id not in traced]
        nameless = max(int_at(answer, "numErrors"), len(list_at(answer, "errors"))) - len(named)
        if unaccounted and nameless > 0 and len(parts) > 1:
            return Split(reason)
        outcomes: list[PersonOutcome] = []
        for part in parts:
            if (error := named.get(part.user_id)) is not None:
                outcomes.append(error)
            elif part.user_id in traced:
                outcomes.append(Confirmed())
            elif nameless > 0:
                outcomes.append(_outcome(next(iter(list_at(answer, "errors")), None)))
            else:
                outcomes.append(Retry("an answer without a result and without an error for this contact"))
        return PerPerson(tuple(outcomes))


def _named(answer: Any) -> dict[str, PersonOutcome]:
    """Trace id → what the answer's errors say of it."""
    outcomes: dict[str, PersonOutcome] = {}
    for error in (*list_at(answer, "errors"), answer):
        for trace in list_at(error, "context", "objectWriteTraceId"):
            if isinstance(trace, str):
                outcomes.setdefault(trace, _outcome(error))
    return outcomes


def _outcome(error: Any) -> PersonOutcome:
    """What one error means for its contact."""
    category, message = text_at(error, "category").upper(), text_at(error, "message")
    detail = f"{words_of(category)[:40]}: {words_of(message)[:140]}"
    lowered = message.lower()
    match category:
        case "CONFLICT" | "OBJECT_ALREADY_EXISTS":
            return Rejected(outbox_pb2.DEAD_REASON_CONFLICT, detail)
        case "OBJECT_NOT_FOUND":
            return Rejected(outbox_pb2.DEAD_REASON_UNKNOWN_PERSON, detail)
        case "RATE_LIMITS" | "INTERNAL_ERROR" | "SERVER_ERROR" | "TIMEOUT":
            return Retry(detail)
        case _ if "gdpr" in lowered or "blocklist" in lowered:
            return Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, detail, blocks=True)
        case _ if "email" in lowered and ("invalid" in lowered or "not valid" in lowered):
            return Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, detail)
        case _:
            return Rejected(outbox_pb2.DEAD_REASON_REFUSED, detail)


def _names_missing_property(answer: Any) -> bool:
    """Whether an answer says that a property does not exist: on top, in an error, or in an error's own errors."""
    for error in (answer, *list_at(answer, "errors")):
        for one in (error, *list_at(error, "errors")):
            if text_at(one, "code").upper() == "PROPERTY_DOESNT_EXIST":
                return True
            message = text_at(one, "message").lower()
            if "property" in message and "does not exist" in message:
                return True
    return False
