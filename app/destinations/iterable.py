"""Iterable: users with data fields, written in bulk and never one by one, for Iterable handles the two apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from app.destinations.answers import dict_at, json_of, list_at, read_status, reason_of, text_at, words_of
from app.destinations.encoding import array_of, body_of, iso_time, joined
from app.destinations.identity import IdentifyBy, identity_of
from app.destinations.limits import Limits, Window
from app.destinations.outcomes import Confirmed, Down, DownCause, PerPerson, Reading, Rejected, Split, Throttled, Unavailable
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.destinations.retry_after import retry_after_ms
from app.settings.targets import IterableSettings
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

BASE_URLS = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}
#: Iterable names no limit for a field: of 4 MB for 1,000 people, ours.
MAX_LIST_BYTES = 50_000
#: No user id of ours is longer; whether Iterable takes it, it says by ``invalidUserIds``.
MAX_ID_BYTES = 256

#: The lists of ``failedUpdates``, each in two forms (forgottenEmails, forgottenUserIds), and what they mean for who is in them.
FAILED_LISTS: Mapping[str, DeadReason] = MappingProxyType({
    "forgotten": outbox_pb2.DEAD_REASON_SUPPRESSED,
    "invalid": outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    "notFound": outbox_pb2.DEAD_REASON_UNKNOWN_PERSON,
    "conflict": outbox_pb2.DEAD_REASON_CONFLICT,
    "invalidData": outbox_pb2.DEAD_REASON_REFUSED,
})
#: Codes of an error that are about the project, not about anybody in the request.
_DOWN_CODES: Mapping[str, DownCause] = MappingProxyType({
    "BadApiKey": DownCause.AUTH,
    "BadAuthorizationHeader": DownCause.AUTH,
    # Every person's fields have the same types: it is the field that has another one there.
    "RequestFieldsTypesMismatched": DownCause.CONFIGURATION,
    "UniqueFieldsLimitExceeded": DownCause.CONFIGURATION,
})
_PASSING_CODES = frozenset(("DatabaseError", "GenericError", "QueueEmailError"))
#: Codes that are about somebody in the request.
_DEAD_CODES: Mapping[str, DeadReason] = MappingProxyType({
    "BatchTooLarge": outbox_pb2.DEAD_REASON_TOO_LARGE,
    "ForgottenUserError": outbox_pb2.DEAD_REASON_SUPPRESSED,
    "InvalidEmailAddressError": outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    "InvalidUserIdError": outbox_pb2.DEAD_REASON_INVALID_IDENTITY,
    "UserIdAlreadyExists": outbox_pb2.DEAD_REASON_CONFLICT,
})

_LIMITS = Limits(
    concurrency=4,
    people=1_000,
    body_bytes=4_000_000,
    windows=(Window(5, 1),),
    # Every person may be named in it, by an id of up to 256 bytes.
    response_bytes=524_288,
)


@dataclass(frozen=True, slots=True)
class Iterable:
    """One project; its fields are its settings."""

    name: str
    api_key: str = field(repr=False)
    base_url: str = BASE_URLS["us"]
    items: int = 5
    field_prefix: str = "rec"
    identify_by: IdentifyBy = "user_id"
    email_attribute: str = "email"
    limits: Limits = _LIMITS
    timeout_seconds: float = 15.0

    @classmethod
    def of(cls, settings: IterableSettings) -> Iterable:
        """The project that a section of the settings file describes."""
        return cls(
            settings.name,
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
        """A user: whom it is, and the data fields recs, recs_version and recs_at. A field is replaced as a whole."""
        identity = identity_of(rendered, self.identify_by, self.email_attribute, MAX_ID_BYTES)
        if isinstance(identity, Rejected):
            return identity
        array = array_of(rendered, self.items, MAX_LIST_BYTES)
        if isinstance(array, Rejected):
            return array
        update = rendered.update
        by_id = self.identify_by == "user_id"
        whom: dict[str, Any] = {"userId": identity, "preferUserId": True} if by_id else {"email": identity}
        said = {f"{self.field_prefix}s": array}
        data: dict[str, Any] = said | {f"{self.field_prefix}s_version": update.version}
        if ranked_at := iso_time(update.ranked_at_ms):
            data[f"{self.field_prefix}s_at"] = ranked_at
        body = body_of(whom | {"mergeNestedObjects": False, "dataFields": data})
        return Part(update.user_id, update.version, digest_of(body_of(whom), body_of(said)), body, identity)

    def request(self, parts: Sequence[Part]) -> Request:
        """One bulk update. Our fields may come into being with it: they are few, and without them nothing would be written."""
        headers = {"content-type": "application/json"}
        body = joined(b'{"createNewFields":true,"users":[', parts, b"]}")
        return Request("POST", f"{self.base_url}/api/users/bulkUpdate", headers, body, {"api-key": self.api_key})

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """A 200 names those whom it is not for, by what we called them."""
        answer = json_of(response)
        if 200 <= response.status <= 299:
            return self._read_success(parts, response, answer)
        if 400 <= response.status <= 499 and response.status not in (401, 403, 408, 429):
            reading = _read_code(parts, response, text_at(answer, "code"))
            if reading is not None:
                return reading
        return read_status(response)

    def quota(self, response: Response) -> None:
        """Iterable says nothing of it in headers."""

    def _read_success(self, parts: Sequence[Part], response: Response, answer: Any) -> Reading:
        dropped = [name for name in list_at(answer, "filteredOutFields") if self._is_ours(name)]
        if dropped:
            reason = f"the project drops the field {words_of(dropped[0])}: let it take new fields, or create it there"
            return Down(DownCause.CONFIGURATION, reason)
        succeeded, failed = dict_at(answer).get("successCount"), dict_at(answer).get("failCount")
        if type(succeeded) is not int or type(failed) is not int:
            return Unavailable(f"{reason_of(response)} (no counts)"[:180])
        named = _named(answer)
        outcomes = tuple(named.get(part.identity, Confirmed()) for part in parts)
        found = sum(isinstance(outcome, Rejected) for outcome in outcomes)
        if found < failed or succeeded + found < len(parts):
            return Split(f"200: {succeeded} succeeded, {failed} failed, and {found} are named")
        return PerPerson(outcomes)

    def _is_ours(self, name: Any) -> bool:
        """Whether it is one of the fields that are written, or within one."""
        top = name.split(".")[0] if isinstance(name, str) else ""
        return top in (f"{self.field_prefix}s", f"{self.field_prefix}s_version", f"{self.field_prefix}s_at")


def _named(answer: Any) -> dict[str, Rejected]:
    """By what we call the failed, addresses in lower case: each with the first list that they are in."""
    named: dict[str, Rejected] = {}
    for kind, dead in FAILED_LISTS.items():
        for form in ("Emails", "UserIds"):
            names = list_at(answer, "failedUpdates", kind + form)
            # Two of the lists also stand outside, in older answers.
            names = names + list_at(answer, kind + form) if kind == "invalid" else names
            for name in names:
                if isinstance(name, str):
                    whom = name.lower() if form == "Emails" else name
                    named.setdefault(whom, Rejected(dead, f"in {kind}{form}", blocks=kind == "forgotten"))
    return named


def _read_code(parts: Sequence[Part], response: Response, code: str) -> Reading | None:
    """What the code of a 4xx says more than its status does; None if nothing."""
    reason = words_of(f"{code}: {reason_of(response)}")
    if code == "RateLimitExceeded":
        return Throttled(reason, retry_after_ms(response))
    if code in _PASSING_CODES:
        return Unavailable(reason, retry_after_ms(response) or 0)
    if cause := _DOWN_CODES.get(code):
        return Down(cause, reason)
    if dead := _DEAD_CODES.get(code):
        if len(parts) == 1:
            return PerPerson((Rejected(dead, reason, blocks=dead == outbox_pb2.DEAD_REASON_SUPPRESSED),))
        return Split(reason, dead)
    return None
