"""Braze: users with custom attributes, written by /users/track; only people whom Braze knows are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.destinations.answers import dict_at, int_at, json_of, list_at, read_status, reason_of, text_at, words_of
from app.destinations.encoding import array_of, body_of, iso_time, joined
from app.destinations.identity import IdentifyBy, identity_of
from app.destinations.limits import Limits, Quota, Window
from app.destinations.outcomes import Confirmed, PerPerson, Reading, Rejected, Split, Throttled, Unavailable
from app.destinations.rate_headers import bounded_ms, ms_until, number_in, quota_in
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.destinations.retry_after import retry_after_ms
from app.settings.targets import BrazeSettings
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

#: Of a name or a text within an object. Braze counts characters; bytes are no fewer.
MAX_VALUE_BYTES = 255
#: Of an array of objects: 100 KB, 50 KB in older documents. Beyond it Braze drops the update and answers that all is well.
MAX_LIST_BYTES = 50_000

#: In an error's words: the id is on the instance's blocklist, or its profile was deleted.
_BLOCKING = ("blacklist", "blocklist", "was deleted")

_LIMITS = Limits(
    concurrency=16,
    # Objects in a request, over attributes, events and purchases together.
    people=75,
    # Braze names none: 75 people with five items each have some 100 kB.
    body_bytes=1_000_000,
    windows=(Window(3_000, 3),),
    response_bytes=65_536,
)


@dataclass(frozen=True, slots=True)
class Braze:
    """One instance; its fields are its settings."""

    name: str
    api_key: str = field(repr=False)
    base_url: str
    items: int = 5
    field_prefix: str = "rec"
    identify_by: IdentifyBy = "user_id"
    email_attribute: str = "email"
    limits: Limits = _LIMITS
    timeout_seconds: float = 15.0

    @classmethod
    def of(cls, settings: BrazeSettings) -> Braze:
        """The instance that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.api_key.get_secret_value(),
            settings.base_url.rstrip("/"),
            items=settings.items,
            field_prefix=settings.field_prefix,
            identify_by=settings.identify_by,
            email_attribute=settings.email_attribute,
            limits=_LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
            timeout_seconds=settings.timeout_seconds,
        )

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """An attributes object: whom it is about, and the attributes recs (the whole array anew), recs_version and recs_at."""
        identity = identity_of(rendered, self.identify_by, self.email_attribute, MAX_VALUE_BYTES)
        if isinstance(identity, Rejected):
            return identity
        array = array_of(rendered, self.items, MAX_LIST_BYTES, MAX_VALUE_BYTES)
        if isinstance(array, Rejected):
            return array
        update = rendered.update
        whom = {"external_id" if self.identify_by == "user_id" else "email": identity}
        said = {f"{self.field_prefix}s": array}
        # Without the flag a person who was deleted there would come back as a ghost without an address.
        person: dict[str, Any] = whom | {"_update_existing_only": True} | said | {f"{self.field_prefix}s_version": update.version}
        if ranked_at := iso_time(update.ranked_at_ms):
            person[f"{self.field_prefix}s_at"] = {"$time": ranked_at}
        return Part(update.user_id, update.version, digest_of(body_of(whom), body_of(said)), body_of(person), identity)

    def request(self, parts: Sequence[Part]) -> Request:
        """One /users/track with these people's attributes, and neither events nor purchases."""
        headers = {"content-type": "application/json"}
        body = joined(b'{"attributes":[', parts, b"]}")
        return Request("POST", f"{self.base_url}/users/track", headers, body, {"authorization": f"Bearer {self.api_key}"})

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """A 2xx is believed as far as it counts people; a 202 of Braze's maintenance, which queues what it gets, as a whole."""
        if response.status == 429:
            return Throttled(reason_of(response), _wait_ms(response))
        if not 200 <= response.status <= 299:
            return read_status(response)
        answer = json_of(response)
        message = text_at(answer, "message")
        if response.status == 202 and message == "queued":
            return PerPerson((Confirmed(),) * len(parts))
        if message != "success":
            return Unavailable(reason_of(response))
        return _read_people(len(parts), answer)

    def quota(self, response: Response) -> Quota | None:
        """X-RateLimit-Remaining, and X-RateLimit-Reset in seconds since 1970."""
        return quota_in(response, "x-ratelimit-remaining", ms_until(response, "x-ratelimit-reset"))


def _read_people(count: int, answer: Any) -> PerPerson | Split:
    """Errors name people by their place; whoever is neither named nor counted as processed was not written."""
    rejected: dict[int, Rejected] = {}
    unnamed = ""
    for error in list_at(answer, "errors"):
        words = words_of(text_at(error, "type")) or "no reason given"
        place = dict_at(error).get("index")
        if text_at(error, "input_array") == "attributes" and type(place) is int and 0 <= place < count:
            rejected.setdefault(place, _rejected(words))
        else:
            unnamed = unnamed or words
    if unnamed:
        return Split(f"201: {unnamed}")
    processed = int_at(answer, "attributes_processed") if "attributes_processed" in answer else count - len(rejected)
    if processed + len(rejected) < count:
        reason = f"201: {processed} of {count} processed, and no error says why: somebody whom Braze does not know?"
        return Split(reason, outbox_pb2.DEAD_REASON_UNKNOWN_PERSON)
    return PerPerson(tuple(rejected.get(place, Confirmed()) for place in range(count)))


def _rejected(words: str) -> Rejected:
    said = words.lower()
    if any(word in said for word in _BLOCKING):
        return Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, words, blocks=True)
    return Rejected(_dead_reason(said), words)


def _dead_reason(said: str) -> DeadReason:
    if "does not exist" in said or "not found" in said:
        return outbox_pb2.DEAD_REASON_UNKNOWN_PERSON
    if "more than one" in said or "duplicate" in said:
        return outbox_pb2.DEAD_REASON_CONFLICT
    if any(word in said for word in ("external_id", "user_id", "user_alias", "email", "identifier")):
        return outbox_pb2.DEAD_REASON_INVALID_IDENTITY
    return outbox_pb2.DEAD_REASON_REFUSED


def _wait_ms(response: Response) -> int | None:
    """Of a 429: in a header of Braze's own in seconds, or the moment when it counts anew."""
    asked_ms = retry_after_ms(response)
    if asked_ms is not None:
        return asked_ms
    seconds = number_in(response, "x-ratelimit-retry-after")
    return bounded_ms(seconds * 1000) if seconds is not None else ms_until(response, "x-ratelimit-reset")
