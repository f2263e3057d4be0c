"""A stand-in for HubSpot: contacts with string properties that must exist; a hundred at once; limits over ten rolling seconds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import RollingWindow
from app.web.demo.platforms.platform import Answer, Call, Platform, Route, bearer, looks_like_an_address, objects

MAX_INPUTS = 100
MAX_TEXT_CHARS = 65_536
#: Free and Starter; 190 on Pro.
REQUESTS, SECONDS = 100, 10.0
_ID = "aeb5f871-7f07-4993-9211-075dc63e7cbf"
_TROUBLES = {
    Trouble.INVALID: ("VALIDATION_ERROR", "Property values were not valid: email is invalid"),
    Trouble.FORGOTTEN: ("VALIDATION_ERROR", "Contact was deleted under GDPR and cannot be created again"),
    Trouble.SUPPRESSED: ("VALIDATION_ERROR", "Contact is blocked"),
    Trouble.CONFLICT: ("CONFLICT", "Contact already exists. Existing ID: 51"),
    Trouble.UNKNOWN: ("OBJECT_NOT_FOUND", "Could not get some objects, they may be deleted or not exist"),
}


class HubSpot(Platform):
    """Properties' names are in lower case; one that does not exist is refused with the whole batch."""

    kind = "hubspot"
    title = "HubSpot"

    def __init__(self, **account: Any) -> None:
        self.window = RollingWindow(REQUESTS, SECONDS)
        self.groups = {"contactinformation"}
        #: Name → definition.
        self.fields: dict[str, dict[str, Any]] = {}
        super().__init__(**account)
        for name in ("email", "firstname", "lastname"):
            self.create_field(name, group="contactinformation")

    def routes(self) -> Iterable[Route]:
        limits = (self.window,)
        return [
            Route("POST", "/crm/(v3/objects|objects/[0-9]{4}-[0-9]{2})/contacts/batch/upsert", self._upsert, limits, is_write=True),
            Route("GET", "/crm/v3/properties/contacts", self._list_fields, limits),
            Route("POST", "/crm/v3/properties/contacts", self._create_property, limits),
            Route("GET", "/crm/v3/properties/contacts/groups", self._list_groups, limits),
            Route("POST", "/crm/v3/properties/contacts/groups", self._create_group, limits),
        ]

    def is_authorised(self, call: Call) -> bool:
        return bearer(call) == self.key

    def refusal(self, status: int, detail: str) -> Answer:
        category = {400: "VALIDATION_ERROR", 401: "INVALID_AUTHENTICATION", 403: "MISSING_SCOPES", 404: "OBJECT_NOT_FOUND"}
        if status == 401:
            detail = "Authentication credentials not found. This API supports OAuth 2.0 authentication"
        return _error(status, category.get(status, "INTERNAL_ERROR"), detail)

    def throttled(self, wait_seconds: float) -> Answer:
        return Answer(429, {
            "status": "error", "message": "You have reached your ten_secondly_rolling limit.", "errorType": "RATE_LIMIT",
            "policyName": "TEN_SECONDLY_ROLLING", "correlationId": _ID,
        })

    def faulty(self, call: Call) -> Answer | None:
        if self.faults.locked > 0:
            self.faults.locked -= 1
            return _error(423, "LOCKED", "The resource is locked: try again in two seconds")
        if self.faults.migrating_seconds is not None:
            return Answer(477, {"message": "migrating"}, {"Retry-After": str(self.faults.migrating_seconds)})
        return None

    def create_field(self, name: str, label: str = "", type_: str = "string", field_type: str = "text", group: str = "") -> dict[str, Any]:
        field = {"name": name, "label": label or name, "type": type_, "fieldType": field_type, "groupName": group, "archived": False}
        self.fields[name] = field
        return field

    def _upsert(self, call: Call) -> Answer:
        inputs = objects(call.document.get("inputs"))
        if not inputs or len(inputs) > MAX_INPUTS:
            return self.refusal(400, f"inputs: 1 to {MAX_INPUTS} of them")
        for one in inputs:
            if wrong := self._malformed(one):
                return wrong
        ids = [one["id"].lower() for one in inputs]
        if len(set(ids)) < len(ids):
            return self.refusal(400, f"Duplicate IDs found in batch input: [{', '.join(sorted({i for i in ids if ids.count(i) > 1}))}]")
        if self.faults.is_opaque and any(self.trouble([id_]) for id_ in ids):
            return self.refusal(400, "Property values were not valid")
        results, errors = [], []
        for id_, one in zip(ids, inputs, strict=True):
            trouble = self.trouble([id_, one["id"]])
            if trouble is None and not looks_like_an_address(id_):
                trouble = Trouble.INVALID
            if trouble is Trouble.SILENT:
                continue
            if trouble is not None:
                errors.append(_of_one(one, *_TROUBLES[trouble]))
                continue
            results.append(self._write_contact(id_, one))
        document: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": self._time(), "completedAt": self._time()}
        if errors:
            document |= {"numErrors": len(errors), "errors": errors}
        return Answer(207 if errors else 200, document)

    def _malformed(self, one: dict[str, Any]) -> Answer | None:
        properties = one.get("properties")
        if not isinstance(one.get("id"), str) or not one["id"] or one.get("idProperty") != "email":
            return self.refusal(400, "Some required fields were not set: [id, idProperty]")
        if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
            return self.refusal(400, "Invalid input JSON: properties are strings")
        for name, value in properties.items():
            if name not in self.fields:
                why = {"isValid": False, "message": f'Property "{name}" does not exist', "error": "PROPERTY_DOESNT_EXIST", "name": name}
                return _error(400, "VALIDATION_ERROR", f'Property "{name}" does not exist', errors=[why])
            if len(value) > MAX_TEXT_CHARS:
                return self.refusal(400, f'Property "{name}" is longer than {MAX_TEXT_CHARS} characters')
        if any("hs_email_optout" in name or name == "hs_marketable_status" for name in properties):
            self.consent_writes.append(str(one["id"]))
        return None

    def _write_contact(self, id_: str, one: dict[str, Any]) -> dict[str, Any]:
        properties = one["properties"]
        set_ = {name: value for name, value in properties.items() if value != ""}
        is_new = self.put({"email": id_}, set_, [name for name, value in properties.items() if value == ""])
        shown = {"id": str(crc32(id_.encode())), "new": is_new, "properties": properties}
        if "objectWriteTraceId" in one:
            shown["objectWriteTraceId"] = one["objectWriteTraceId"]
        return shown | {"createdAt": self._time(), "updatedAt": self._time(), "archived": False}

    def _time(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _list_fields(self, call: Call) -> Answer:
        return Answer(200, {"results": list(self.fields.values())})

    def _create_property(self, call: Call) -> Answer:
        keys = ("name", "label", "type", "fieldType", "groupName")
        if missing := [key for key in keys if not isinstance(call.document.get(key), str)]:
            return self.refusal(400, f"Some required fields were not set: [{', '.join(missing)}]")
        name, label, type_, field_type, group = (call.document[key] for key in keys)
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,99}", name):
            return self.refusal(400, f"Property name {name} is not in lower case")
        if group not in self.groups:
            return self.refusal(400, f"The property group {group} does not exist")
        if name in self.fields:
            return _error(409, "OBJECT_ALREADY_EXISTS", f'A property named "{name}" already exists.')
        return Answer(201, self.create_field(name, label, type_, field_type, group))

    def _list_groups(self, call: Call) -> Answer:
        return Answer(200, {"results": [{"name": name, "label": name} for name in sorted(self.groups)]})

    def _create_group(self, call: Call) -> Answer:
        name = call.document.get("name")
        if not isinstance(name, str) or not isinstance(call.document.get("label"), str):
            return self.refusal(400, "Some required fields were not set: [name, label]")
        if name in self.groups:
            return _error(409, "OBJECT_ALREADY_EXISTS", f"The property group {name} already exists")
        self.groups.add(name)
        return Answer(201, {"name": name, "label": call.document["label"]})


def _error(status: int, category: str, message: str, **more: Any) -> Answer:
    return Answer(status, {"status": "error", "message": message, "correlationId": _ID, "category": category, **more})


def _of_one(one: dict[str, Any], category: str, message: str) -> dict[str, Any]:
    context = {"objectWriteTraceId": [one["objectWriteTraceId"]]} if "objectWriteTraceId" in one else {}
    return {"status": "error", "category": category, "message": message, "context": context, "errors": [], "links": {}}
