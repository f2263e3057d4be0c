"""Mailchimp Marketing: members of an audience with merge fields, each written by a PATCH of their own.

Of the three calls that write a member only PATCH can neither make one nor change a subscription: PUT makes a member of anyone, and the
batch call is documented to "change existing members' subscription status", with no word on what a new member without one becomes. So an
address that is no member of the audience is rejected, and a batch is given up for that: some thirty people a second are possible, over
nine of the ten connections that an account has.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5

import orjson

from app.destinations.answers import advised, dict_at, json_of, list_at, read_status, reason_of, retry_all, text_at, unreadable, words_of
from app.destinations.encoding import SLOT_FIELDS, as_slots, body_of, email_of, iso_time, items_of
from app.destinations.limits import Limits
from app.destinations.outcomes import CONFIRMED, Down, DownCause, PerPerson, Reading, Rejected
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.settings import MailchimpSettings
from tidings.state.v1 import outbox_pb2

#: Bytes of a text field; Mailchimp clips what is longer, through the middle of a character ("Format guidelines").
MAX_VALUE_BYTES = 255
#: Characters of a tag: A to Z, 0 to 9 and underscore.
MAX_TAG_CHARS = 10
#: An account has ten connections, over all who use it; one is left for others. A member's answer shows up to 80 fields.
LIMITS = Limits(concurrency=9, is_shared=True, people=1, body_bytes=100_000, response_bytes=131_072)

#: What permanent refusals say, in title or detail → why, and whether no other list of this person can be written either.
_REFUSALS = (
    ("member in compliance state", outbox_pb2.DEAD_REASON_SUPPRESSED, True),
    ("is in a compliance state", outbox_pb2.DEAD_REASON_SUPPRESSED, True),
    ("forgotten email", outbox_pb2.DEAD_REASON_SUPPRESSED, True),
    ("permanently deleted", outbox_pb2.DEAD_REASON_SUPPRESSED, True),
    ("looks fake or invalid", outbox_pb2.DEAD_REASON_INVALID_IDENTITY, False),
    ("valid email address", outbox_pb2.DEAD_REASON_INVALID_IDENTITY, False),
)


@dataclass(frozen=True, slots=True)
class MergeField:
    """A merge field of the audience, by its tag."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Mailchimp:
    """One audience; its fields are its settings."""

    name: str
    api_key: str = field(repr=False)
    list_id: str
    #: Without /3.0.
    base_url: str
    items: int = 4
    field_prefix: str = "rec"
    email_attribute: str = "email"
    timeout_seconds: float = 15.0
    limits: Limits = LIMITS

    @classmethod
    def of(cls, settings: MailchimpSettings) -> Mailchimp:
        """The destination that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.api_key.get_secret_value(),
            settings.list_id,
            (settings.base_url or f"https://{settings.data_center}.api.mailchimp.com").rstrip("/"),
            items=settings.items,
            field_prefix=settings.field_prefix,
            email_attribute=settings.email_attribute,
            timeout_seconds=settings.timeout_seconds,
            limits=LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
        )

    # A person -----------------------------------------------------------------------------------------------------------------

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """All our merge fields, "" in those of slots without an item. Mailchimp knows a member by a digest of the address."""
        update = rendered.update
        email = email_of(rendered, self.email_attribute)
        if isinstance(email, Rejected):
            return email
        items = items_of(rendered, self.items, MAX_VALUE_BYTES)
        if isinstance(items, Rejected):
            return items
        slots = as_slots(items, self.field_prefix, self.items)
        values = {tag: slots[name] for name, tag in self._tags().items()}
        digest = digest_of(email.encode(), orjson.dumps(values))
        values[self._time_tag()] = iso_time(update.ranked_at_ms)
        return Part(update.user_id, update.version, digest, body_of({"merge_fields": values}), _member(email))

    def request(self, parts: Sequence[Part]) -> Request:
        """The PATCH of one member. Fields of the shop's that are required, and empty, do not stand in its way."""
        (part,) = parts
        return self._request("PATCH", f"/members/{part.identity}?skip_merge_validation=true", part.body)

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """A problem document says why in title and detail. A success shows the member: with our fields, or they are not there."""
        answer = json_of(response)
        if 200 <= response.status <= 299:
            return self._read_member(parts[0], response, answer)
        said = f"{text_at(answer, 'title')} {text_at(answer, 'detail')}".lower()
        reason = _problem(response, answer)
        match response.status:
            case 404:
                return _rejected(outbox_pb2.DEAD_REASON_UNKNOWN_PERSON, f"no member of the audience {self.list_id}")
            case 403 if "datacenter" in said or "data center" in said:
                return Down(DownCause.CONFIGURATION, reason)
            case 400 | 409 | 422:
                for words, dead, blocks in _REFUSALS:
                    if words in said:
                        return _rejected(dead, reason, blocks)
                return _rejected(outbox_pb2.DEAD_REASON_REFUSED, reason)
            case _:
                return read_status(response)

    def quota(self, response: Response) -> None:
        """Mailchimp has no word for it: it counts connections."""

    # Fields -------------------------------------------------------------------------------------------------------------------

    def fields(self) -> Sequence[MergeField]:
        """One for each value, and when they were written."""
        ours = [MergeField(tag, name.replace("_", " ")) for name, tag in self._tags().items()]
        return [*ours, MergeField(self._time_tag(), f"{self.field_prefix}s at")]

    def fields_request(self) -> Request:
        return self._request("GET", "/merge-fields?count=200&fields=merge_fields.tag")

    def missing_fields(self, response: Response) -> Sequence[MergeField] | Down:
        """Those whose tag the audience does not have."""
        answer = json_of(response)
        if response.status != 200 or not isinstance(answer, dict):
            return unreadable(response)
        there = {text_at(one, "tag").upper() for one in list_at(answer, "merge_fields")}
        return [one for one in self.fields() if one.name not in there]

    def create_field(self, field: MergeField) -> Request:
        """It is not ``public``: no form shows it."""
        return self._request("POST", "/merge-fields", body_of({"tag": field.name, "name": field.label, "type": "text", "public": False}))

    def settings_hint(self, response: Response) -> str:
        """Nothing: tags are of our own making."""
        return ""

    def _request(self, method: str, path: str, body: bytes = b"") -> Request:
        credentials = base64.b64encode(f"tidings:{self.api_key}".encode()).decode()
        headers = {"content-type": "application/json"} if body else {}
        url = f"{self.base_url}/3.0/lists/{self.list_id}{path}"
        return Request(method, url, headers, body, secret_headers={"authorization": f"Basic {credentials}"})

    def _tags(self) -> dict[str, str]:
        """``rec_1_title`` → ``REC1_TITLE``: as long as a tag may be, with a prefix of three letters and nine items at most."""
        return {
            f"{self.field_prefix}_{number}_{end}": f"{self.field_prefix}{number}_{end}".upper()
            for number in range(1, self.items + 1)
            for end in SLOT_FIELDS
        }

    def _time_tag(self) -> str:
        return f"{self.field_prefix}S_AT".upper()

    def _read_member(self, part: Part, response: Response, member: object) -> Reading:
        """Mailchimp leaves out what it has no merge field for, and says 200: then the answer shows the member without it."""
        shown = member.get("merge_fields") if isinstance(member, dict) else None
        if not isinstance(shown, dict):
            return retry_all(1, f"{response.status} without a member")
        written = dict_at(orjson.loads(part.body), "merge_fields")
        missing = [tag for tag, value in written.items() if value and tag not in shown]
        if shown and missing:
            reason = f"the audience has no merge field {missing[0]}"
            return Down(DownCause.CONFIGURATION, advised(reason, f"tidings destinations setup {self.name}"))
        return CONFIRMED


def _member(email: str) -> str:
    """The member's name in the API: MD5 of the address in lower case."""
    return md5(email.encode(), usedforsecurity=False).hexdigest()


def _rejected(reason: outbox_pb2.DeadReason, detail: str, blocks: bool = False) -> PerPerson:
    return PerPerson((Rejected(reason, detail, blocks),))


def _problem(response: Response, answer: object) -> str:
    """``400 Invalid Resource: Your merge fields were invalid``."""
    title, detail = words_of(text_at(answer, "title"))[:60], words_of(text_at(answer, "detail"))[:110]
    return f"{response.status} {title}: {detail}" if title or detail else reason_of(response)
