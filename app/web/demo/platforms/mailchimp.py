"""A stand-in for Mailchimp Marketing: members of one audience with merge fields, which are cut at 255 bytes; ten connections at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import AtOnce
from app.web.demo.platforms.platform import Answer, Call, Person, Platform, Route, basic, looks_like_an_address, objects

CONNECTIONS = 10
MAX_MEMBERS = 500
MAX_FIELDS = 30
MAX_TEXT_BYTES = 255
STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
#: What a listing gives unless asked otherwise.
_PAGE = {"count": 10, "offset": 0}
_DOCS = "https://mailchimp.com/developer/marketing/docs/errors/"


class Mailchimp(Platform):
    """Merge fields must exist: what is written into others is not kept, and nobody says so but the answer's own fields."""

    kind = "mailchimp"
    title = "Mailchimp"
    problem_type: ClassVar[str] = "application/problem+json"

    def __init__(self, *, list_id: str = "demo", **account: Any) -> None:
        self.list_id = list_id
        #: Tag → name and type.
        self.fields: dict[str, dict[str, Any]] = {}
        #: Tags that every member must have, unless validation is skipped.
        self.required: set[str] = set()
        self.connections = AtOnce(CONNECTIONS, lambda: self.in_flight)
        super().__init__(**account)

    def introduce(self, identifiers: Mapping[str, str], fields: Mapping[str, Any] | None = None) -> Person:
        email = identifiers["email"].lower()
        return super().introduce({"email": email, "hash": hash_of(email)}, fields)

    def routes(self) -> Iterable[Route]:
        limits = (self.connections,)
        member = "/3.0/lists/(?P<list_id>[^/]+)/members/(?P<hash_>[^/]+)"
        return [
            Route("PUT", member, self._put_member, limits, is_write=True),
            Route("PATCH", member, self._patch_member, limits, is_write=True),
            Route("GET", member, self._get_member, limits),
            Route("POST", "/3.0/lists/(?P<list_id>[^/]+)", self._batch, limits, is_write=True),
            Route("GET", "/3.0/lists/(?P<list_id>[^/]+)/merge-fields", self._list_fields, limits),
            Route("POST", "/3.0/lists/(?P<list_id>[^/]+)/merge-fields", self._create_field, limits),
        ]

    def is_authorised(self, call: Call) -> bool:
        user, password = basic(call)
        return bool(user) and password == self.key

    def refusal(self, status: int, detail: str) -> Answer:
        titles = {400: "Invalid Resource", 401: "API Key Invalid", 403: "Forbidden", 404: "Resource Not Found", 413: "Request Too Large"}
        if status == 401:
            detail = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
        return _problem(status, titles.get(status, "Internal Server Error"), detail)

    def throttled(self, wait_seconds: float) -> Answer:
        return _problem(429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections.")

    def create_field(self, tag: str, name: str = "", type_: str = "text") -> dict[str, Any]:
        field = {"merge_id": len(self.fields) + 1, "tag": tag, "name": name or tag, "type": type_, "required": False}
        self.fields[tag] = field
        return field

    def _put_member(self, call: Call, list_id: str, hash_: str) -> Answer:
        document = call.document
        address = document.get("email_address")
        if list_id != self.list_id:
            return self.refusal(404, "The requested resource could not be found.")
        if not isinstance(address, str) or hash_of(address) != hash_:
            return self.refusal(400, "The email address does not belong to this subscriber hash.")
        if document.get("status_if_new") not in STATUSES:
            return self.refusal(400, "status_if_new is required.")
        if "status" in document or document["status_if_new"] == "subscribed":
            self.consent_writes.append(f"{address}: {document.get('status', 'subscribed')}")
        if problem := self._problem_with(address, document.get("merge_fields", {}), call.query):
            return problem
        return self._write_member(address, document.get("merge_fields", {}))

    def _patch_member(self, call: Call, list_id: str, hash_: str) -> Answer:
        found = self._member(list_id, hash_)
        if found is None:
            return self.refusal(404, "The requested resource could not be found.")
        if "status" in call.document:
            self.consent_writes.append(f"{found.identity}: {call.document['status']}")
        if problem := self._problem_with(found.identity, call.document.get("merge_fields", {}), call.query):
            return problem
        return self._write_member(found.identity, call.document.get("merge_fields", {}))

    def _get_member(self, call: Call, list_id: str, hash_: str) -> Answer:
        found = self._member(list_id, hash_)
        return Answer(200, self._shown(found)) if found else self.refusal(404, "The requested resource could not be found.")

    def _batch(self, call: Call, list_id: str) -> Answer:
        members = objects(call.document.get("members"))
        if list_id != self.list_id:
            return self.refusal(404, "The requested resource could not be found.")
        if not members or len(members) > MAX_MEMBERS:
            return self.refusal(400, f"members: 1 to {MAX_MEMBERS} of them.")
        addresses = [str(member.get("email_address", "")).lower() for member in members]
        if twice := sorted({a for a in addresses if addresses.count(a) > 1}) if len(set(addresses)) < len(addresses) else []:
            return self.refusal(400, f"Duplicate items found for the following email addresses: {', '.join(twice)}")
        new: list[Any] = []
        updated: list[Any] = []
        errors: list[dict[str, str]] = []
        for address, member in zip(addresses, members, strict=True):
            known = self.person(address)
            if "status" in member:
                self.consent_writes.append(f"{address}: {member['status']}")
            if known and call.document.get("update_existing") is not True:
                errors.append(_error(address, "is already a list member", "ERROR_CONTACT_EXISTS"))
            elif problem := self._problem_with(address, member.get("merge_fields", {}), call.query):
                errors.append(_error(address, problem.document["detail"], "ERROR_GENERIC"))
            elif not known and member.get("status") not in STATUSES:
                errors.append(_error(address, "status is required for a new member", "ERROR_GENERIC"))
            else:
                answer = self._write_member(address, member.get("merge_fields", {}))
                if self.trouble([address]) is not Trouble.SILENT:
                    (updated if known else new).append(answer.document)
        return Answer(200, {
            "new_members": new, "updated_members": updated, "errors": errors,
            "total_created": len(new), "total_updated": len(updated), "error_count": len(errors),
        })

    def _problem_with(self, address: str, merge_fields: Any, query: Mapping[str, str]) -> Answer | None:
        if not isinstance(merge_fields, dict):
            return self.refusal(400, "Your merge fields were invalid.")
        match self.trouble([address, address.lower()]):
            case Trouble.SUPPRESSED:
                why = "is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
                return _problem(400, "Member In Compliance State", f"{address} {why}")
            case Trouble.FORGOTTEN:
                why = "was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."
                return _problem(400, "Forgotten Email Not Subscribed", f"{address} {why}")
            case Trouble.UNKNOWN:
                return self.refusal(404, "The requested resource could not be found.")
            case Trouble.INVALID | Trouble.CONFLICT:
                return self.refusal(400, f"{address} looks fake or invalid, please enter a real email address.")
        if not looks_like_an_address(address):
            return self.refusal(400, "Please provide a valid email address.")
        skips = query.get("skip_merge_validation") == "true"
        if not skips and (missing := sorted(self.required - set(merge_fields))):
            return self.refusal(400, f"Your merge fields were invalid. {', '.join(missing)}: Please enter a value")
        for tag, value in merge_fields.items():
            if tag in self.fields and self.fields[tag]["type"] == "number" and value != "" and not _is_a_number(value):
                return self.refusal(400, f"Your merge fields were invalid. {tag}: Please enter a number")
        return None

    def _write_member(self, address: str, merge_fields: Mapping[str, Any]) -> Answer:
        address = address.lower()
        held = self.person(address)
        if self.trouble([address]) is Trouble.SILENT:
            return Answer(200, self._shown(held) if held else {"id": hash_of(address), "email_address": address, "merge_fields": {}})
        kept = {tag: _clipped(value) for tag, value in merge_fields.items() if tag in self.fields and not isinstance(value, (list, dict))}
        cleared = [tag for tag, value in kept.items() if value == ""]
        self.put({"email": address, "hash": hash_of(address)}, {tag: value for tag, value in kept.items() if value != ""}, cleared)
        person = self.person(address)
        assert person is not None, "it was just written"
        return Answer(200, self._shown(person))

    def _member(self, list_id: str, hash_: str) -> Person | None:
        return self.person(hash_) if list_id == self.list_id else None

    def _shown(self, person: Person) -> dict[str, Any]:
        merge_fields = {tag: person.fields.get(tag, "") for tag in self.fields}
        return {"id": hash_of(person.identity), "email_address": person.identity, "status": "transactional", "merge_fields": merge_fields}

    def _list_fields(self, call: Call, list_id: str) -> Answer:
        if list_id != self.list_id:
            return self.refusal(404, "The requested resource could not be found.")
        count, offset = (int(given) if (given := call.query.get(name, "")).isdecimal() else usual for name, usual in _PAGE.items())
        found = list(self.fields.values())
        return Answer(200, {"merge_fields": found[offset : offset + count], "list_id": list_id, "total_items": len(found)})

    def _create_field(self, call: Call, list_id: str) -> Answer:
        tag, name, type_ = (call.document.get(key) for key in ("tag", "name", "type"))
        if list_id != self.list_id:
            return self.refusal(404, "The requested resource could not be found.")
        if not isinstance(name, str) or not name or not isinstance(type_, str):
            return self.refusal(400, "name and type are required.")
        if not isinstance(tag, str) or not re.fullmatch(r"[A-Z0-9_]{1,10}", tag):
            return self.refusal(400, "tag: at most 10 of A-Z, 0-9 and underscore.")
        if tag in self.fields:
            return self.refusal(400, f'A Merge Field with the tag "{tag}" already exists for this list.')
        if len(self.fields) >= MAX_FIELDS:
            return self.refusal(400, f"This list has {MAX_FIELDS} merge fields already.")
        return Answer(200, self.create_field(tag, name, type_))


def hash_of(address: str) -> str:
    """A member's id: the MD5 of the address in lower case."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def _clipped(value: Any) -> Any:
    """Cut at bytes, not characters: a name cut in the middle of one ends in garbage."""
    return value.encode()[:MAX_TEXT_BYTES].decode("utf-8", "replace") if isinstance(value, str) else value


def _is_a_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _problem(status: int, title: str, detail: str) -> Answer:
    return Answer(status, {"type": _DOCS, "title": title, "status": status, "detail": detail, "instance": "10ce6c36"})


def _error(address: str, why: str, code: str) -> dict[str, str]:
    error = why if address and why.startswith(address) else f"{address} {why}"
    return {"email_address": address, "error": error, "error_code": code}
