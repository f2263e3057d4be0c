"""A stand-in for SendGrid Marketing Campaigns: contacts with custom fields by id, written by jobs that say later what became of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow
from app.web.demo.platforms.platform import Answer, Call, Job, Platform, Route, bearer, looks_like_an_address, objects

MAX_CONTACTS = 30_000
MAX_FIELDS = 500
#: Not published by the vendor: 600 a minute is what its answers are reported to say.
REQUESTS, SECONDS = 600, 60.0
#: What a contact is known by, best first.
IDENTIFIERS = ("email", "external_id", "phone_number_id", "anonymous_id")
RESERVED = ("first_name", "last_name", "email", "external_id", "phone_number_id", "anonymous_id", "city", "country")
_LETTERS = {"Text": "T", "Number": "N", "Date": "D"}


class SendGrid(Platform):
    """Custom fields are addressed by id (e1_T), and must exist."""

    kind = "sendgrid"
    title = "SendGrid"
    max_body_bytes: ClassVar[int] = 6_000_000

    def __init__(self, **account: Any) -> None:
        self.window = FixedWindow(REQUESTS, SECONDS)
        #: Id → name and type.
        self.fields: dict[str, dict[str, str]] = {}
        super().__init__(**account)

    def routes(self) -> Iterable[Route]:
        limits = (self.window,)
        return [
            Route("PUT", "/v3/marketing/contacts", self._upsert, limits, is_write=True),
            Route("GET", "/v3/marketing/contacts/imports/(?P<id_>[^/]+)", self._status, limits),
            Route("GET", "/v3/marketing/contacts/imports/(?P<id_>[^/]+)/errors", self._errors),
            Route("POST", "/v3/marketing/contacts/search/emails", self._search, limits),
            Route("GET", "/v3/marketing/field_definitions", self._list_fields, limits),
            Route("POST", "/v3/marketing/field_definitions", self._create_field, limits),
        ]

    def is_authorised(self, call: Call) -> bool:
        # The errors' address is signed by itself, as the vendor's is.
        return bearer(call) == self.key or call.query.get("signature") == "of-the-vendor"

    def refusal(self, status: int, detail: str) -> Answer:
        detail = "authorization required" if status == 401 else detail
        return Answer(status, {"errors": [{"field": None, "message": detail}]})

    def throttled(self, wait_seconds: float) -> Answer:
        """The reset is a unix time in whole seconds; there is no Retry-After."""
        resets_at = math.ceil(self.now() + wait_seconds)
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(resets_at)}
        return Answer(429, {"errors": [{"field": None, "message": "too many requests"}]}, headers)

    def quota_headers(self, status: int) -> Mapping[str, str]:
        now = self.now()
        return {
            "X-RateLimit-Limit": str(self.window.amount),
            "X-RateLimit-Remaining": str(self.window.remaining(now)),
            "X-RateLimit-Reset": str(math.ceil(self.window.resets_at(now))),
        }

    def create_field(self, name: str, field_type: str = "Text") -> dict[str, str]:
        """A custom field as the vendor numbers it: e1_T, e2_N."""
        field = {"id": f"e{len(self.fields) + 1}_{_LETTERS[field_type]}", "name": name, "field_type": field_type}
        self.fields[field["id"]] = field
        return field

    def _upsert(self, call: Call) -> Answer:
        contacts = objects(call.document.get("contacts"))
        if not contacts:
            return _wrong("contacts", "contacts must have at least one contact")
        if len(contacts) > MAX_CONTACTS:
            return _wrong("contacts", f"at most {MAX_CONTACTS} contacts")
        for index, contact in enumerate(contacts):
            if wrong := self._malformed(index, contact):
                return wrong
        job = self.job(len(contacts), "pending", lambda job: self._import(job, contacts))
        return Answer(202, {"job_id": job.id})

    def _malformed(self, index: int, contact: dict[str, Any]) -> Answer | None:
        where = f"contacts[{index}]"
        if not any(isinstance(contact.get(name), str) and contact[name] for name in IDENTIFIERS):
            return _wrong(where, "at least one identifier is required")
        custom = contact.get("custom_fields", {})
        if not isinstance(custom, dict):
            return _wrong(f"{where}.custom_fields", "must be an object")
        if unknown := sorted(set(custom) - set(self.fields)):
            return _wrong(f"{where}.custom_fields", f"invalid custom field ids supplied - {', '.join(unknown)}")
        for id_, value in custom.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number if id_.endswith("_N") and value != "" else isinstance(value, str)):
                return _wrong(f"{where}.custom_fields.{id_}", f"must be {'a number' if id_.endswith('_N') else 'a string'}")
        return None

    def _import(self, job: Job, contacts: list[dict[str, Any]]) -> None:
        if self.job_fails():
            job.state = "failed"
            job.failures = [(contact, "the import failed") for contact in contacts]
            return
        for contact in contacts:
            identifiers = {name: str(contact[name]).lower() for name in IDENTIFIERS if contact.get(name)}
            trouble = self.trouble(identifiers.values())
            if trouble is Trouble.SILENT:
                continue
            if reason := self._reason_against(identifiers, trouble):
                job.failures.append((contact, reason))
                continue
            custom = contact.get("custom_fields", {})
            named = {self.fields[id_]["name"]: value for id_, value in custom.items()}
            named |= {name: contact[name] for name in RESERVED if name in contact}
            cleared = [name for name, value in named.items() if value == ""]
            job.created += self.put(identifiers, {name: value for name, value in named.items() if value != ""}, cleared)
            job.done += 1
        job.state = "errored" if job.failures else "completed"

    def _reason_against(self, identifiers: Mapping[str, str], trouble: Trouble | None) -> str:
        if trouble is Trouble.INVALID or ("email" in identifiers and not looks_like_an_address(identifiers["email"])):
            return "email is invalid"
        if trouble is not None:
            return f"contact is {trouble.value}"
        owners = self.owners(identifiers)
        if len(owners) > 1:
            return "identifiers belong to several contacts"
        if owners and (missing := sorted(set(owners[0].identifiers) - set(identifiers))):
            return f"all existing identifiers must be present: {', '.join(missing)}"
        return ""

    def _status(self, call: Call, id_: str) -> Answer:
        job = self.job_of(id_)
        if job is None:
            return self.refusal(404, "no such job")
        results: dict[str, Any] = {"requested_count": job.total}
        if job.state != "pending":
            results |= {"created_count": job.created, "updated_count": job.done - job.created, "deleted_count": 0}
            results["errored_count"] = len(job.failures)
            if job.failures:
                results["errors_url"] = f"{self.url}/v3/marketing/contacts/imports/{quote(id_)}/errors?signature=of-the-vendor"
        return Answer(200, {"id": id_, "status": job.state, "job_type": "upsert", "results": results})

    def _errors(self, call: Call, id_: str) -> Answer:
        job = self.job_of(id_)
        if job is None:
            return self.refusal(404, "no such job")
        lines = ["email,external_id,error", *(f"{c.get('email', '')},{c.get('external_id', '')},{reason}" for c, reason in job.failures)]
        return Answer(200, "\r\n".join(lines).encode(), {"Content-Type": "text/csv"})

    def _search(self, call: Call) -> Answer:
        emails = call.document.get("emails")
        if not isinstance(emails, list) or not 1 <= len(emails) <= 100:
            return _wrong("emails", "1 to 100 addresses")
        found = {email: self.person(str(email)) for email in emails}
        result = {
            email: {"contact": {**person.identifiers, "custom_fields": dict(person.fields)}} if person else {"error": "contact not found"}
            for email, person in found.items()
        }
        return Answer(200 if any(found.values()) else 404, {"result": result})

    def _list_fields(self, call: Call) -> Answer:
        reserved = [{"id": f"_rf{i}_T", "name": name, "field_type": "Text", "read_only": False} for i, name in enumerate(RESERVED)]
        return Answer(200, {"custom_fields": list(self.fields.values()), "reserved_fields": reserved})

    def _create_field(self, call: Call) -> Answer:
        name, field_type = call.document.get("name"), call.document.get("field_type")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            return _wrong("name", "letters, digits and underscores, the first not a digit, at most 100")
        if field_type not in _LETTERS:
            return _wrong("field_type", "Text, Number or Date")
        taken = {field["name"].lower() for field in self.fields.values()} | set(RESERVED)
        if name.lower() in taken:
            return _wrong("name", "a field of this name exists")
        if len(self.fields) >= MAX_FIELDS:
            return _wrong("name", f"at most {MAX_FIELDS} fields")
        return Answer(200, self.create_field(name, field_type))


def _wrong(field: str, message: str) -> Answer:
    return Answer(400, {"errors": [{"field": field, "message": message}]})
