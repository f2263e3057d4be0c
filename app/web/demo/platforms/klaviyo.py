"""A stand-in for Klaviyo: profiles with JSON properties, in jobs of up to ten thousand; one that is malformed refuses its whole job."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import orjson

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow, Limiter
from app.web.demo.platforms.platform import Answer, Call, Job, Platform, Route, at, looks_like_an_address, objects

MAX_PROFILES = 10_000
MAX_PROFILE_BYTES = 100_000
MAX_ARRAY, MAX_DEPTH = 4_000, 10
MAX_ERRORS_PAGE = 100
_PAGE = {"size": 20, "cursor": 0}
IDENTIFIERS = ("external_id", "email", "phone_number")
_PROFILES = "/data/attributes/profiles/data"
_TROUBLES = {
    Trouble.FORGOTTEN: ("invalid", "The profile was deleted for privacy and cannot be created again."),
    Trouble.SUPPRESSED: ("invalid", "The profile is suppressed."),
    Trouble.CONFLICT: ("duplicate_profile", "A profile already exists with one of these identifiers."),
    Trouble.UNKNOWN: ("not_found", "A profile with these identifiers does not exist."),
}


class Klaviyo(Platform):
    """Fields come to be as they are written. Each operation has a burst and a steady limit."""

    kind = "klaviyo"
    title = "Klaviyo"
    content_type: ClassVar[str] = "application/vnd.api+json"
    problem_type: ClassVar[str] = "application/vnd.api+json"
    max_body_bytes: ClassVar[int] = 5_000_000

    def __init__(self, **account: Any) -> None:
        self.import_limits = (FixedWindow(75, 1.0), FixedWindow(750, 60.0))
        self.bulk_limits = (FixedWindow(10, 1.0), FixedWindow(150, 60.0))
        #: The vendor does not write what reading a job is limited to beside it.
        self.read_limits: tuple[Limiter, ...] = (FixedWindow(10, 1.0), FixedWindow(150, 60.0))
        super().__init__(**account)

    def routes(self) -> Iterable[Route]:
        job = "/api/profile-bulk-import-jobs/(?P<id_>[^/]+)"
        return [
            Route("POST", "/api/profile-import", self._import_one, self.import_limits, is_write=True),
            Route("POST", "/api/profile-bulk-import-jobs", self._import_many, self.bulk_limits, is_write=True),
            Route("GET", job, self._status, self.read_limits),
            Route("GET", f"{job}/import-errors", self._errors, self.read_limits),
        ]

    def is_authorised(self, call: Call) -> bool:
        return call.headers.get("authorization") == f"Klaviyo-API-Key {self.key}"

    def refusal(self, status: int, detail: str) -> Answer:
        if status == 401:
            title = "Authentication credentials were not provided."
            return _errors(401, ("not_authenticated", title, "Missing or invalid private key.", "/data/"))
        code, title = ("invalid", "Invalid input.") if status < 500 else ("error", "A server error.")
        return _errors(status, (code, title, detail, "/data"))

    def throttled(self, wait_seconds: float) -> Answer:
        """Retry-After alone: a refused request has no RateLimit headers."""
        seconds = max(1, math.ceil(wait_seconds))
        answer = _errors(429, ("throttled", "Request was throttled.", f"Expected available in {seconds} seconds.", "/data/"))
        return Answer(429, answer.document, {"Retry-After": str(seconds)})

    def quota_headers(self, status: int) -> Mapping[str, str]:
        if status == 429:
            return {}
        now, (burst, steady) = self.now(), self.bulk_limits
        reset = math.ceil(steady.resets_at(now) - now)
        return {
            "RateLimit-Limit": f"{burst.amount}, {burst.amount};w=1, {steady.amount};w=60",
            "RateLimit-Remaining": str(min(burst.remaining(now), steady.remaining(now))), "RateLimit-Reset": str(reset),
        }

    def _import_one(self, call: Call) -> Answer:
        if problem := self._problem_with_head(call):
            return problem
        profile = call.document.get("data")
        if not isinstance(profile, dict):
            return self.refusal(400, "data is required.")
        if wrong := self._malformed(profile):
            return _errors(400, ("invalid", "Invalid input.", wrong[1], f"/data{wrong[0]}"))
        identifiers = _identifiers(profile)
        if failure := self._failure(identifiers):
            code, detail = failure
            document = _errors(409 if code == "duplicate_profile" else 400, (code, "Conflict.", detail, "/data/attributes")).document
            document["errors"][0]["meta"] = {"duplicate_profile_id": "01GDDKASAP8TKDDA2GRZDSVP4H"}
            return Answer(409 if code == "duplicate_profile" else 400, document)
        is_new = self._apply(profile, identifiers)
        return Answer(201 if is_new else 200, {"data": {"type": "profile", "id": "01GDDKASAP8TKDDA2GRZDSVP4H", "attributes": identifiers}})

    def _import_many(self, call: Call) -> Answer:
        if problem := self._problem_with_head(call):
            return problem
        profiles = objects(at(call.document, "data", "attributes", "profiles", "data"))
        if at(call.document, "data", "type") != "profile-bulk-import-job" or not profiles:
            return _errors(400, ("invalid", "Invalid input.", "profiles are required.", _PROFILES))
        if len(profiles) > MAX_PROFILES:
            return _errors(400, ("invalid", "Invalid input.", f"At most {MAX_PROFILES} profiles.", _PROFILES))
        if self.faults.is_opaque and any(self.trouble(_identifiers(profile).values()) is Trouble.INVALID for profile in profiles):
            return self.refusal(400, "Something in the job is not valid.")
        wrong = [(index, pointer, why) for index, one in enumerate(profiles) if (found := self._malformed(one)) for pointer, why in [found]]
        if wrong:
            return _errors(400, *(("invalid", "Invalid input.", why, f"{_PROFILES}/{index}{pointer}") for index, pointer, why in wrong))
        job = self.job(len(profiles), "queued", lambda job: self._run(job, profiles))
        return Answer(202, self._shown(job))

    def _problem_with_head(self, call: Call) -> Answer | None:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", call.headers.get("revision", "")):
            return _errors(400, ("invalid", "Invalid input.", "A valid revision header is required.", "/data/"))
        return None

    def _malformed(self, profile: dict[str, Any]) -> tuple[str, str] | None:
        """Where below the profile, and what."""
        attributes = profile.get("attributes")
        if profile.get("type") != "profile" or not isinstance(attributes, dict):
            return "", "type must be profile, with attributes."
        identifiers = _identifiers(profile)
        if not identifiers:
            return "/attributes", "One of email, phone_number and external_id is required."
        is_wrong = "email" in identifiers and not looks_like_an_address(identifiers["email"])
        if is_wrong or self.trouble(identifiers.values()) is Trouble.INVALID:
            return "/attributes/email", "Invalid email address"
        properties = attributes.get("properties") or {}
        if not isinstance(properties, dict):
            return "/attributes/properties", "properties is an object."
        if len(orjson.dumps(profile)) > MAX_PROFILE_BYTES:
            return "", f"A profile has at most {MAX_PROFILE_BYTES} bytes."
        if _depth(properties) > MAX_DEPTH or any(isinstance(value, list) and len(value) > MAX_ARRAY for value in properties.values()):
            return "/attributes/properties", f"At most {MAX_DEPTH} levels and {MAX_ARRAY} items."
        if "subscriptions" in attributes or "subscriptions" in profile:
            self.consent_writes.append(next(iter(identifiers.values())))
        return None

    def _run(self, job: Job, profiles: list[dict[str, Any]]) -> None:
        if self.job_fails():
            job.state = "cancelled"
            return
        for profile in profiles:
            identifiers = _identifiers(profile)
            if self.trouble(identifiers.values()) is Trouble.SILENT:
                continue
            if failure := self._failure(identifiers):
                job.failures.append((*failure, profile))
                continue
            job.created += self._apply(profile, identifiers)
            job.done += 1
        job.state = "complete"

    def _failure(self, identifiers: Mapping[str, str]) -> tuple[str, str] | None:
        """Code and detail."""
        trouble = self.trouble(identifiers.values())
        if trouble is None and len(self.owners(identifiers)) > 1:
            trouble = Trouble.CONFLICT
        return _TROUBLES.get(trouble) if trouble else None

    def _apply(self, profile: dict[str, Any], identifiers: Mapping[str, str]) -> bool:
        properties: dict[str, Any] = profile["attributes"].get("properties") or {}
        names = ("first_name", "last_name")
        properties = properties | {name: profile["attributes"][name] for name in names if name in profile["attributes"]}
        unset = at(profile, "meta", "patch_properties", "unset")
        cleared = [name for name, value in properties.items() if value is None]
        cleared += [unset] if isinstance(unset, str) else [name for name in unset or [] if isinstance(name, str)]
        return self.put(identifiers, {name: value for name, value in properties.items() if value is not None}, cleared)

    def _status(self, call: Call, id_: str) -> Answer:
        job = self.job_of(id_)
        if job is None:
            return _errors(404, ("not_found", "Not found.", f"A profile bulk import job with id {id_} does not exist.", "/data"))
        return self._problem_with_head(call) or Answer(200, self._shown(job))

    def _errors(self, call: Call, id_: str) -> Answer:
        job = self.job_of(id_)
        if job is None:
            return _errors(404, ("not_found", "Not found.", f"A profile bulk import job with id {id_} does not exist.", "/data"))
        data = [
            {
                "type": "import-error", "id": str(n),
                "attributes": {
                    "code": code, "title": "Invalid input.", "detail": detail, "source": {"pointer": "/data/attributes/email"},
                    "original_payload": profile["attributes"],
                },
            }
            for n, (code, detail, profile) in enumerate(job.failures)
        ]
        size, start = (int(given) if (given := call.query.get(f"page[{name}]", "")).isdecimal() else usual for name, usual in _PAGE.items())
        size = min(size, MAX_ERRORS_PAGE)
        following = f"{self.url}{call.path}?page[size]={size}&page[cursor]={start + size}" if start + size < len(data) else None
        page = {"data": data[start : start + size], "links": {"self": call.path, "next": following}}
        return self._problem_with_head(call) or Answer(200, page)

    def _shown(self, job: Job) -> dict[str, Any]:
        counts = {"total_count": job.total, "completed_count": job.done, "failed_count": len(job.failures)}
        return {"data": {"type": "profile-bulk-import-job", "id": job.id, "attributes": {"status": job.state, **counts}}}


def _identifiers(profile: Mapping[str, Any]) -> dict[str, str]:
    attributes = profile.get("attributes")
    if not isinstance(attributes, dict):
        return {}
    found = {name: attributes[name] for name in IDENTIFIERS if isinstance(attributes.get(name), str) and attributes[name]}
    return {name: value.lower() if name == "email" else value for name, value in found.items()}


def _depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max((_depth(v) for v in value.values()), default=0)
        case list():
            return 1 + max((_depth(v) for v in value), default=0)
        case _:
            return 0


def _errors(status: int, *found: tuple[str, str, str, str]) -> Answer:
    return Answer(status, {"errors": [
        {"id": "x", "status": status, "code": code, "title": title, "detail": detail, "source": {"pointer": pointer}}
        for code, title, detail, pointer in found
    ]})
