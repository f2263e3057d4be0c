"""Twilio SendGrid Marketing Campaigns: contacts with custom fields, written by a job that says later how many of them it refused.

A contact is named by the e-mail address alone: an update must repeat every identifier that the contact has, so another would lock out
whoever imports contacts without it. No list is named: who is mailed stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import orjson

from app.destinations.answers import (
    advised,
    dict_at,
    int_at,
    json_of,
    list_at,
    read_status,
    reason_of,
    retry_all,
    text_at,
    unreadable,
    words_of,
)
from app.destinations.encoding import as_slots, body_of, email_of, iso_time, items_of, joined, slot_names
from app.destinations.limits import Limits, Quota, Window
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    JobReading,
    PerPerson,
    PersonOutcome,
    Reading,
    Rejected,
    Running,
    Split,
    Throttled,
)
from app.destinations.rate_headers import bounded_ms, number_in, quota_in
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.settings import SendGridSettings
from tidings.state.v1 import outbox_pb2

BASE_URL = "https://api.sendgrid.com"
#: Bytes of one text. SendGrid names no limit: this is ours.
MAX_VALUE_BYTES = 1_000
#: How long a job is left alone before it is asked for again.
POLL_AFTER_MS = 5_000
#: SendGrid counts by the minute: a reset that is farther away is told by a clock that is wrong.
MAX_RESET_MS = 3_600_000
#: SendGrid takes 30,000 contacts or 6 MB. Fewer, because a job that refuses one says no names, and is then sent again by halves. It
#: publishes no rate and tells of it in headers: half of the 600 a minute that accounts were seen to have.
LIMITS = Limits(concurrency=4, people=1_000, body_bytes=5_000_000, windows=(Window(5, 1),), response_bytes=262_144)
#: The beginning of the answer to a field id that the account does not have.
_UNKNOWN_FIELD = "invalid custom field ids"


@dataclass(frozen=True, slots=True)
class CustomField:
    """A field of contacts. SendGrid makes an id for it."""

    name: str
    field_type: str = "Text"


@dataclass(frozen=True, slots=True)
class SendGrid:
    """One account; its fields are its settings."""

    name: str
    api_key: str = field(repr=False)
    #: Our names of fields → their ids there.
    field_ids: Mapping[str, str]
    items: int = 3
    field_prefix: str = "rec"
    email_attribute: str = "email"
    base_url: str = BASE_URL
    timeout_seconds: float = 15.0
    limits: Limits = LIMITS

    @classmethod
    def of(cls, settings: SendGridSettings) -> SendGrid:
        """The destination that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.api_key.get_secret_value(),
            settings.field_ids,
            items=settings.items,
            field_prefix=settings.field_prefix,
            email_attribute=settings.email_attribute,
            base_url=(settings.base_url or BASE_URL).rstrip("/"),
            timeout_seconds=settings.timeout_seconds,
            limits=LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
        )

    # A person -----------------------------------------------------------------------------------------------------------------

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """A contact: the address, and all custom fields, "" in those of slots without an item."""
        update = rendered.update
        email = email_of(rendered, self.email_attribute)
        if isinstance(email, Rejected):
            return email
        items = items_of(rendered, self.items, MAX_VALUE_BYTES)
        if isinstance(items, Rejected):
            return items
        values = as_slots(items, self.field_prefix, self.items)
        digest = digest_of(email.encode(), orjson.dumps(values))
        values[f"{self.field_prefix}s_version"] = str(update.version)
        if at := iso_time(update.ranked_at_ms):  # a date field cannot hold ""
            values[f"{self.field_prefix}s_at"] = at
        # A field that the settings have no id for is written by its name: SendGrid refuses that, and says which it is.
        body = body_of({"email": email, "custom_fields": {self.field_ids.get(name, name): value for name, value in values.items()}})
        return Part(update.user_id, update.version, digest, body, email)

    def request(self, parts: Sequence[Part]) -> Request:
        """The PUT that makes or changes the contacts."""
        return self._request("PUT", "contacts", joined(b'{"contacts":[', parts, b"]}"))

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """202 names a job. A 400 refuses all: for a field, or for contacts that it names by their place, or does not name."""
        answer = json_of(response)
        if 200 <= response.status <= 299:
            job = text_at(answer, "job_id")
            return PerPerson((Accepted(job),) * len(parts)) if job else retry_all(len(parts), f"{response.status} without a job_id")
        if response.status == 429:
            return self._throttled(response)
        if response.status != 400:
            return read_status(response)
        reason = reason_of(response)
        errors = list_at(answer, "errors")
        if any(_UNKNOWN_FIELD in text_at(error, "message").lower() for error in errors):
            return Down(DownCause.CONFIGURATION, advised(reason, f"see field_ids in the settings; tidings destinations setup {self.name}"))
        refused = {_place(text_at(error, "field")): words_of(text_at(error, "message")) for error in errors}
        if refused.keys() == set(range(len(parts))):
            return PerPerson(tuple(_refused(refused[place]) for place in range(len(parts))))
        # Nothing was written for anyone, and there may be more wrong than is told of: whom nobody complains of must not pay with attempts.
        return Split(reason)

    def quota(self, response: Response) -> Quota | None:
        """What X-RateLimit-Remaining and X-RateLimit-Reset say."""
        return quota_in(response, "x-ratelimit-remaining", _resets_in_ms(response))

    # Its job ------------------------------------------------------------------------------------------------------------------

    def poll(self, job: str) -> Request:
        """The GET that asks about an import."""
        return self._request("GET", f"contacts/imports/{quote(job, safe='')}")

    def read_poll(self, job: str, parts: Sequence[Part], response: Response) -> JobReading:
        """How many contacts the import refused, without their names: one person is rejected, several are sent again by halves."""
        if response.status == 429:
            return self._throttled(response)
        if response.status != 200:
            reading = read_status(response)
            # An import that is not known (any more), or a question that was refused: that says nothing of anyone in it.
            asks_in_vain = response.status == 404 or isinstance(reading, Split)
            return retry_all(len(parts), f"the import could not be asked for: {reason_of(response)}") if asks_in_vain else reading
        answer = json_of(response)
        status, results = text_at(answer, "status"), dict_at(answer, "results")
        errored = int_at(results, "errored_count")
        match status:
            case "pending":
                return Running(POLL_AFTER_MS)
            case "completed" if not errored:
                return _read_counts(parts, results)
            case "failed":
                # All of it was refused, or it was not processed at all: SendGrid has one word for both, and one of them may pass.
                return retry_all(len(parts), "the import failed as a whole")
            case "completed" | "errored":
                reason = f"the import refused {errored or 'some'} of {len(parts)} contacts"
                # After a take-over a new owner may know of one person only in a job of many.
                is_alone = len(parts) == 1 and int_at(results, "requested_count") <= 1
                return PerPerson((_refused(reason),)) if is_alone else Split(reason)
            case _:
                return retry_all(len(parts), f"the import answered no status that is known: {words_of(status)[:40]}")

    # Fields -------------------------------------------------------------------------------------------------------------------

    def fields(self) -> Sequence[CustomField]:
        """One for each value, and when and from which version they were written."""
        texts = [CustomField(name) for name in (*slot_names(self.field_prefix, self.items), f"{self.field_prefix}s_version")]
        return [*texts, CustomField(f"{self.field_prefix}s_at", "Date")]

    def fields_request(self) -> Request:
        return self._request("GET", "field_definitions")

    def missing_fields(self, response: Response) -> Sequence[CustomField] | Down:
        """Those that are not there; names differ in more than case."""
        ids = _ids(response)
        if isinstance(ids, Down):
            return ids
        return [one for one in self.fields() if one.name not in ids]

    def create_field(self, field: CustomField) -> Request:
        return self._request("POST", "field_definitions", body_of({"name": field.name, "field_type": field.field_type}))

    def settings_hint(self, response: Response) -> str:
        """``field_ids = { rec_1_id = "e1_T", ... }``: our fields with the ids that they have there."""
        ids = _ids(response)
        if isinstance(ids, Down):
            return ""
        ours = [f'{one.name} = "{ids[one.name]}"' for one in self.fields() if one.name in ids]
        return f"field_ids = {{ {', '.join(ours)} }}" if ours else ""

    def _request(self, method: str, path: str, body: bytes = b"") -> Request:
        headers = {"content-type": "application/json"} if body else {}
        return Request(
            method, f"{self.base_url}/v3/marketing/{path}", headers, body, secret_headers={"authorization": f"Bearer {self.api_key}"}
        )

    def _throttled(self, response: Response) -> Reading:
        """SendGrid says by X-RateLimit-Reset when to come again; a proxy before it may say Retry-After."""
        reading = read_status(response)
        if isinstance(reading, Throttled) and reading.after_ms is None:
            return Throttled(reading.reason, _resets_in_ms(response) or None)
        return reading


def _read_counts(parts: Sequence[Part], results: dict[str, Any]) -> Reading:
    """Completed, and nobody refused: confirmed, unless it says that it wrote fewer than it was asked for. No write of ours changes nothing:
    there is the version."""
    if all(isinstance(results.get(name), int) for name in ("requested_count", "created_count", "updated_count")):
        requested, written = results["requested_count"], results["created_count"] + results["updated_count"]
        if written < requested:
            reason = f"the import was asked for {requested} contacts, refused none, and wrote {written}"
            return Split(reason) if len(parts) > 1 else retry_all(1, reason)
    return PerPerson((Confirmed(),) * len(parts))


def _refused(reason: str) -> PersonOutcome:
    lowered = reason.lower()
    if "email" in lowered or "e-mail" in lowered:
        return Rejected(outbox_pb2.DEAD_REASON_INVALID_IDENTITY, reason)
    return Rejected(outbox_pb2.DEAD_REASON_REFUSED, reason)


def _place(field: str) -> int | None:
    """``contacts[3].email`` → 3."""
    head, _, rest = field.partition("[")
    number, bracket, _ = rest.partition("]")
    if head != "contacts" or not bracket or not (number.isascii() and number.isdigit()) or len(number) > 6:
        return None
    return int(number)


def _resets_in_ms(response: Response) -> int | None:
    """Until the unix time in X-RateLimit-Reset, by the clock of whoever said it: the Date header, if there is one. 0 if it has passed."""
    reset_at = number_in(response, "x-ratelimit-reset")
    if reset_at is None:
        return None
    now_ms = response.received_at_ms
    with suppress(ValueError, TypeError, OverflowError, IndexError):
        now_ms = round(parsedate_to_datetime(response.headers.get("date", "")).timestamp() * 1000)
    return min(bounded_ms(reset_at * 1000 - now_ms), MAX_RESET_MS)


def _ids(response: Response) -> dict[str, str] | Down:
    """The account's custom fields: name → id, names in lower case."""
    answer: Any = json_of(response)
    if response.status != 200 or not isinstance(answer, dict):
        return unreadable(response)
    named = ((text_at(one, "name").lower(), text_at(one, "id")) for one in list_at(answer, "custom_fields"))
    return {name: id_ for name, id_ in named if name and id_}
