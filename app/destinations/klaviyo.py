"""Klaviyo: profiles with properties, written by bulk import jobs and confirmed once their job is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from app.destinations.answers import dict_at, int_at, json_of, list_at, read_status, reason_of, retry_all, text_at, words_of
from app.destinations.encoding import array_of, body_of, iso_time, joined
from app.destinations.identity import IdentifyBy, identity_of
from app.destinations.limits import Limits, Window
from app.destinations.outcomes import (
    Accepted,
    Confirmed,
    Down,
    DownCause,
    JobReading,
    PerPerson,
    Reading,
    Rejected,
    Retry,
    Running,
    Split,
    Unavailable,
)
from app.destinations.requests import Part, Rendered, Request, Response, digest_of
from app.settings.targets import KlaviyoSettings
from tidings.state.v1 import outbox_pb2
from tidings.state.v1.outbox_pb2 import DeadReason

BASE_URL = "https://a.klaviyo.com"
MEDIA_TYPE = "application/vnd.api+json"
#: Of the 100 KB that a profile may have in a request; the rest is for its id and the JSON around.
MAX_LIST_BYTES = 90_000
#: Klaviyo names no limit, and no user id of ours is longer.
MAX_ID_BYTES = 256
#: A job's errors are told in pages of at most 100.
ERRORS_PAGE = 100
#: Between two questions about a job.
POLL_MS = 5_000
MAX_JOB_CHARS = 200

_LIMITS = Limits(
    concurrency=4,
    people=10_000,
    body_bytes=5_000_000,
    windows=(Window(10, 1, kind="fixed"), Window(150, 60, kind="fixed")),
    # A line for each of 10,000 people, or a page of errors with the profiles that they are about.
    response_bytes=2_000_000,
)
_JOBS = "/api/profile-bulk-import-jobs"
#: A job's name that is to be asked for its errors: the id, this, and how many people failed. No id has it.
_ERRORS = "#errors:"
_POINTER = re.compile(r"/data/attributes/profiles/data/([0-9]{1,6})(?:/.*)?")
#: In an error's words: the profile is suppressed, or was deleted for privacy.
_BLOCKING = ("suppress", "privacy")
_IDENTIFIERS = ("email", "external_id", "phone_number")


@dataclass(frozen=True, slots=True)
class Klaviyo:
    """One account; its fields are its settings."""

    name: str
    api_key: str = field(repr=False)
    revision: str
    base_url: str = BASE_URL
    items: int = 5
    field_prefix: str = "rec"
    identify_by: IdentifyBy = "user_id"
    email_attribute: str = "email"
    limits: Limits = _LIMITS
    timeout_seconds: float = 15.0

    @classmethod
    def of(cls, settings: KlaviyoSettings) -> Klaviyo:
        """The account that a section of the settings file describes."""
        return cls(
            settings.name,
            settings.api_key.get_secret_value(),
            settings.revision,
            base_url=(settings.base_url or BASE_URL).rstrip("/"),
            items=settings.items,
            field_prefix=settings.field_prefix,
            identify_by=settings.identify_by,
            email_attribute=settings.email_attribute,
            limits=_LIMITS.narrowed(settings.max_people, settings.max_requests_per_second),
            timeout_seconds=settings.timeout_seconds,
        )

    # To Klaviyo --------------------------------------------------------------------------------------------------------------

    def encode(self, rendered: Rendered) -> Part | Rejected:
        """A profile: whom it is of, and the properties recs, recs_version and recs_at. A property is replaced as a whole."""
        identity = identity_of(rendered, self.identify_by, self.email_attribute, MAX_ID_BYTES)
        if isinstance(identity, Rejected):
            return identity
        array = array_of(rendered, self.items, MAX_LIST_BYTES)
        if isinstance(array, Rejected):
            return array
        update = rendered.update
        whom = {"external_id" if self.identify_by == "user_id" else "email": identity}
        said = {f"{self.field_prefix}s": array}
        properties: dict[str, Any] = said | {f"{self.field_prefix}s_version": update.version}
        if ranked_at := iso_time(update.ranked_at_ms):
            properties[f"{self.field_prefix}s_at"] = ranked_at
        body = body_of({"type": "profile", "attributes": whom | {"properties": properties}})
        return Part(update.user_id, update.version, digest_of(body_of(whom), body_of(said)), body, identity)

    def request(self, parts: Sequence[Part]) -> Request:
        """One import job with these profiles."""
        head = b'{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":['
        return self._request("POST", _JOBS, joined(head, parts, b"]}}}}"))

    def poll(self, job: str) -> Request:
        """What became of the job; of one that is complete with errors, its errors."""
        job_id, errors, _ = job.partition(_ERRORS)
        page = f"/import-errors?page%5Bsize%5D={ERRORS_PAGE}" if errors else ""
        return self._request("GET", f"{_JOBS}/{quote(job_id, safe='')}{page}")

    def _request(self, method: str, path: str, body: bytes = b"") -> Request:
        headers = {"revision": self.revision}
        if body:
            headers["content-type"] = MEDIA_TYPE
        return Request(method, self.base_url + path, headers, body, {"authorization": f"Klaviyo-API-Key {self.api_key}"})

    # From Klaviyo ------------------------------------------------------------------------------------------------------------

    def read(self, parts: Sequence[Part], response: Response) -> Reading:
        """A 2xx names the job. One profile that is not valid refuses the whole request, with its place in ``source.pointer``."""
        answer = json_of(response)
        if 200 <= response.status <= 299:
            job = text_at(answer, "data", "id")
            if not job or len(job) > MAX_JOB_CHARS or _ERRORS in job:
                return Unavailable(f"{response.status}: the answer names no job")
            return PerPerson((Accepted(job),) * len(parts))
        if response.status not in (400, 409, 422):
            return read_status(response)
        errors = list_at(answer, "errors")
        for error in errors:
            # JSON:API's word for a header that is wrong: the revision.
            if header := text_at(error, "source", "header"):
                return Down(DownCause.CONFIGURATION, words_of(f"{response.status}: header {header}: {text_at(error, 'detail')}"))
        named = _named_by_place(errors, len(parts))
        if not named:
            dead = outbox_pb2.DEAD_REASON_CONFLICT if response.status == 409 else outbox_pb2.DEAD_REASON_REFUSED
            return Split(reason_of(response), dead)
        others = Retry("another profile in the request was refused")
        return PerPerson(tuple(named.get(place, others) for place in range(len(parts))))

    def read_poll(self, job: str, parts: Sequence[Part], response: Response) -> JobReading:
        """People are named in a job's errors by the profile that was sent, so it does not matter who asks."""
        _, is_errors, failed = job.partition(_ERRORS)
        match response.status:
            case 200 if is_errors:
                return _read_errors(parts, json_of(response), int(failed) if failed.isdigit() else 0)
            case 200:
                return _read_job(job, parts, json_of(response))
            case 404 | 410:
                return retry_all(len(parts), f"{response.status}: Klaviyo does not know the job any more")
            case _:
                reading = read_status(response)
                # It is the question that was refused, nobody's profile.
                return retry_all(len(parts), reading.reason) if isinstance(reading, Split) else reading

    def quota(self, response: Response) -> None:
        """Not read: RateLimit-Remaining and RateLimit-Reset do not say which of the two windows they are about, and a minute's pause for a
        second's window would be most of the rate. Both windows are in ``limits``."""


def _read_job(job: str, parts: Sequence[Part], answer: Any) -> JobReading:
    """Its status: queued, processing, complete or cancelled."""
    attributes = dict_at(answer, "data", "attributes")
    match text_at(attributes, "status"):
        case "queued" | "processing":
            return Running(POLL_MS)
        case "complete" if attributes.get("failed_count") == 0:
            return _read_counts(parts, attributes)
        case "complete":
            return Running(0, f"{job}{_ERRORS}{max(0, int_at(attributes, 'failed_count'))}")
        case "":
            return Unavailable("200: the answer names no status of the job")
        case status:
            return retry_all(len(parts), f"the job is {words_of(status)}")


def _read_counts(parts: Sequence[Part], attributes: dict[str, Any]) -> JobReading:
    """Nobody failed; then everybody was imported, unless the counts say that some were left out without a word."""
    completed, total = int_at(attributes, "completed_count"), int_at(attributes, "total_count")
    if "completed_count" not in attributes or completed >= total:
        return PerPerson((Confirmed(),) * len(parts))
    reason = f"the job is complete with {completed} of {total} people, and none failed"
    return Split(reason) if len(parts) > 1 else retry_all(len(parts), reason)


def _read_errors(parts: Sequence[Part], answer: Any, failed: int) -> JobReading:
    """Whoever is not among the errors was imported, if the errors are of as many people as failed. Else halves of the job may tell."""
    errors = list_at(answer, "data")
    named: dict[str, Rejected] = {}
    for error in errors:
        if identity := _identity_in(dict_at(error, "attributes", "original_payload")):
            named.setdefault(identity, _rejected(dict_at(error, "attributes")))
    is_whole = isinstance(dict_at(answer).get("data"), list) and not dict_at(answer, "links").get("next")
    is_each_named = all(_identity_in(dict_at(error, "attributes", "original_payload")) for error in errors)
    if is_whole and is_each_named and len(named) >= failed:
        return PerPerson(tuple(named.get(part.identity, Confirmed()) for part in parts))
    reason = f"the job says that {failed} failed, and names {len(named)}"
    if len(parts) > 1:
        return Split(reason)
    # One person's job: what errors there are, are theirs.
    return PerPerson((_rejected(dict_at(errors[0], "attributes")),)) if errors else retry_all(1, reason)


def _identity_in(payload: dict[str, Any]) -> str:
    """By what we named the profile: one of the two, wherever in it Klaviyo gives it back."""
    for place in (payload, dict_at(payload, "attributes"), dict_at(payload, "data", "attributes")):
        if identity := text_at(place, "external_id") or text_at(place, "email").lower():
            return identity
    return ""


def _named_by_place(errors: Iterable[Any], count: int) -> dict[int, Rejected]:
    """The places in the request of those whom the errors name, with the first error of each."""
    named: dict[int, Rejected] = {}
    for error in errors:
        found = _POINTER.fullmatch(text_at(error, "source", "pointer"))
        if found and int(found[1]) < count:
            named.setdefault(int(found[1]), _rejected(error))
    return named


def _rejected(error: dict[str, Any]) -> Rejected:
    code, pointer = text_at(error, "code"), text_at(error, "source", "pointer")
    words = words_of(text_at(error, "detail") or text_at(error, "title")) or "no reason given"
    detail = words_of(f"{code}: {words}") if code else words
    if any(word in words.lower() for word in _BLOCKING):
        return Rejected(outbox_pb2.DEAD_REASON_SUPPRESSED, detail, blocks=True)
    return Rejected(_dead_reason(code, pointer), detail)


def _dead_reason(code: str, pointer: str) -> DeadReason:
    if "duplicate" in code or "conflict" in code:
        return outbox_pb2.DEAD_REASON_CONFLICT
    if code == "not_found":
        return outbox_pb2.DEAD_REASON_UNKNOWN_PERSON
    if pointer.rpartition("/")[2] in _IDENTIFIERS:
        return outbox_pb2.DEAD_REASON_INVALID_IDENTITY
    return outbox_pb2.DEAD_REASON_REFUSED
