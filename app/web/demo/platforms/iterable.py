"""A stand-in for Iterable: users with data fields whose type is that of their first write; five bulk requests a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from app.web.demo.platforms.faults import Trouble
from app.web.demo.platforms.limits import FixedWindow
from app.web.demo.platforms.platform import Answer, Call, Platform, Route, looks_like_an_address, objects

MAX_USERS = 1_000
MAX_FIELDS = 1_000
BULK_A_SECOND, SINGLE_A_SECOND = 5, 500
_SUBSCRIPTIONS = ("emailListIds", "unsubscribedChannelIds", "unsubscribedMessageTypeIds", "subscribedMessageTypeIds")
_TROUBLES = {
    Trouble.INVALID: "invalid", Trouble.FORGOTTEN: "forgotten", Trouble.SUPPRESSED: "invalid", Trouble.CONFLICT: "conflict",
    Trouble.UNKNOWN: "notFound",
}


class IterableCom(Platform):
    """Fields come to be as they are written, unless the project drops unknown ones."""

    kind = "iterable"
    title = "Iterable"
    max_body_bytes: ClassVar[int] = 4_000_000

    def __init__(self, **account: Any) -> None:
        self.bulk, self.single = FixedWindow(BULK_A_SECOND, 1.0), FixedWindow(SINGLE_A_SECOND, 1.0)
        #: Name → type.
        self.fields: dict[str, str] = {}
        super().__init__(**account)

    def routes(self) -> Iterable[Route]:
        return [
            Route("POST", "/api/users/bulkUpdate", self._bulk_update, (self.bulk,), is_write=True),
            Route("POST", "/api/users/update", self._update, (self.single,), is_write=True),
            Route("GET", "/api/users/getFields", lambda call: Answer(200, {"fields": dict(self.fields)}), (self.single,)),
        ]

    def is_authorised(self, call: Call) -> bool:
        return call.headers.get("api-key") == self.key

    def refusal(self, status: int, detail: str) -> Answer:
        codes = {400: "BadParams", 401: "BadApiKey", 413: "BatchTooLarge"}
        said = "Invalid API key" if status == 401 else detail
        return Answer(status, {"code": codes.get(status, "GenericError"), "msg": said, "params": {}})

    def throttled(self, wait_seconds: float) -> Answer:
        return Answer(429, {"code": "RateLimitExceeded", "msg": "slow down", "params": {}})

    def _bulk_update(self, call: Call) -> Answer:
        users = objects(call.document.get("users"))
        if not users:
            return self.refusal(400, "users: at least one")
        if len(users) > MAX_USERS:
            return self.refusal(413, f"at most {MAX_USERS} users")
        if not all(_identifiers(user) for user in users):
            return self.refusal(400, "email or userId is required")
        if self.faults.is_opaque and any(self.trouble(_identifiers(user).values()) for user in users):
            return self.refusal(400, "Invalid request")
        creates = call.document.get("createNewFields") is True
        failed: dict[str, list[str]] = {}
        done, created, filtered = 0, set[str](), set[str]()
        for user in users:
            identifiers = _identifiers(user)
            if why := self._why_not(user, identifiers):
                name = f"{why}{'UserIds' if 'userId' in identifiers else 'Emails'}"
                failed.setdefault(name, []).append(user.get("userId") or user.get("email") or "")
            elif self.trouble(identifiers.values()) is not Trouble.SILENT:
                self._apply(user, identifiers, creates, created, filtered)
                done += 1
        return Answer(200, {
            "successCount": done, "failCount": sum(map(len, failed.values())), "failedUpdates": failed,
            "createdFields": sorted(created), "filteredOutFields": sorted(filtered),
        })

    def _update(self, call: Call) -> Answer:
        identifiers = _identifiers(call.document)
        if not identifiers:
            return self.refusal(400, "email or userId is required")
        match self._why_not(call.document, identifiers):
            case "forgotten":
                return Answer(409, {"code": "ForgottenUserError", "msg": "the user was forgotten", "params": {}})
            case "invalid":
                return Answer(400, {"code": "InvalidEmailAddressError", "msg": "the address is invalid", "params": {}})
            case "invalidData":
                return Answer(400, {"code": "RequestFieldsTypesMismatched", "msg": "field types mismatched", "params": {}})
            case str(why):
                return self.refusal(400, f"{why}: the user cannot be updated")
        self._apply(call.document, identifiers, call.document.get("createNewFields") is True, set(), set())
        return Answer(200, {"code": "Success", "msg": "", "params": None})

    def _why_not(self, user: dict[str, Any], identifiers: dict[str, str]) -> str | None:
        """The beginning of the list's name in ``failedUpdates``."""
        trouble = self.trouble(identifiers.values())
        if trouble is not None and trouble in _TROUBLES:
            return _TROUBLES[trouble]
        if "email" in identifiers and not looks_like_an_address(identifiers["email"]):
            return "invalid"
        owners = self.owners(identifiers)
        if len(owners) > 1:
            return "conflict"
        if not owners and "email" not in identifiers and user.get("preferUserId") is not True:
            return "notFound"
        data = user.get("dataFields", {})
        if not isinstance(data, dict) or any(self.fields.get(n, t) != t for n, v in data.items() if (t := _type(v))):
            return "invalidData"
        return "invalidData" if len(set(self.fields) | set(data)) > MAX_FIELDS else None

    def _apply(self, user: dict[str, Any], identifiers: dict[str, str], creates: bool, created: set[str], filtered: set[str]) -> None:
        if any(name in user for name in _SUBSCRIPTIONS) or any(name in user.get("dataFields", {}) for name in _SUBSCRIPTIONS):
            self.consent_writes.append(next(iter(identifiers.values())))
        kept: dict[str, Any] = {}
        owners = self.owners(identifiers)
        held = owners[0].fields if owners else {}
        for name, value in user.get("dataFields", {}).items():
            if name not in self.fields and self.faults.drops_unknown_fields and not creates:
                filtered.add(name)
                continue
            if name not in self.fields and (type_ := _type(value)):
                self.fields[name] = type_
                created.add(name)
            if isinstance(value, dict) and user.get("mergeNestedObjects") is True and isinstance(held.get(name), dict):
                value = held[name] | value
            kept[name] = value
        self.put(identifiers, {n: v for n, v in kept.items() if v is not None}, [n for n, v in kept.items() if v is None])


def _identifiers(user: dict[str, Any]) -> dict[str, str]:
    found = {name: user[name] for name in ("userId", "email") if isinstance(user.get(name), str) and user[name]}
    return {name: value.lower() if name == "email" else value for name, value in found.items()}


def _type(value: Any) -> str:
    """A field's type; empty for null and for an empty list, which have none."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case [first, *_]:
            return _type(first)
        case dict():
            return "object"
        case _:
            return ""
