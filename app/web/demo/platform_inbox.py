"""What the demo shows instead of the inbox: a platform's stand-in, and for each visitor the e-mail that can be made of its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.web.demo.platforms.platform import MAX_PEOPLE, Person, Platform

#: Fields shown of a person, and characters of each: enough for five recommendations with all that is said of them.
MAX_FIELDS, MAX_VALUE_CHARS = 64, 2_000
#: The invented people's addresses end so; the part before it is their user id.
DOMAIN = "shop.example"
_SLOT = re.compile(r"[a-z_]*?([0-9]{1,2})_id", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One recommendation as the fields hold it; ``reason`` is empty where they hold none."""

    product_id: str
    reason: str = ""


@dataclass(frozen=True)
class Held:
    """What the platform holds of one visitor since its last write."""

    user_id: str
    #: By what the platform calls them.
    identity: str
    items: tuple[Item, ...]
    #: Of the list, if a field says so; 0 otherwise.
    version: int
    ranked_at: str
    #: How often the person was written, the last of them then.
    writes: int
    received_at_ms: int
    fields: Mapping[str, Any]

    def shown_fields(self) -> list[tuple[str, str]]:
        """Names and values as a marketer would see them."""
        shown = [(name, value if isinstance(value, str) else orjson.dumps(value).decode()) for name, value in self.fields.items()]
        return [(name, value[:MAX_VALUE_CHARS]) for name, value in shown[:MAX_FIELDS] if value]


class PlatformInbox:
    """A platform as the demo's server sees it. ``on_held`` is called with each visitor who was written."""

    def __init__(self, platform: Platform, on_held: Callable[[str], None]) -> None:
        self.platform = platform
        self._on_held = on_held
        self._writes: dict[str, int] = {}
        platform.on_written = self._written

    @property
    def title(self) -> str:
        return self.platform.title

    def introduce(self, user_id: str, name: str) -> None:
        """The shop signs somebody up at the platform, which creates nobody for a list alone."""
        by_id = {"klaviyo": "external_id", "braze": "external_id", "customerio": "id", "iterable": "userId"}
        identifiers = {by_id[self.platform.kind]: user_id} if self.platform.kind in by_id else {"email": address_of(user_id)}
        self.platform.introduce(identifiers, {"first_name": name} if name else {})

    def last(self, user_id: str) -> Held | None:
        """What is held of a visitor, once there is a list."""
        person = self.platform.person(user_id) or self.platform.person(address_of(user_id))
        if person is None or not person.writes:
            return None
        version, ranked_at = _version_in(person.fields), _time_in(person.fields)
        if not version and not ranked_at:
            return None  # signed up, and not told about yet
        last = person.writes[-1]
        return Held(
            user_id, person.identity, items_in(person.fields), version, ranked_at, self._writes.get(person.identity, 0),
            round(last.at * 1000), person.fields,
        )

    def stats(self) -> dict[str, int]:
        """As the inbox has them, as far as a platform does."""
        counts = self.platform.counts
        return {
            "received": counts["requests"],
            "users": len(self.platform.people),
            "repeated": 0,
            "bad_signatures": counts["401"],
            "malformed": counts["400"],
            "regressions": 0,
            "throttled": counts["throttled"],
        }

    def _written(self, person: Person) -> None:
        self._writes[person.identity] = self._writes.get(person.identity, 0) + 1
        while len(self._writes) > MAX_PEOPLE:
            del self._writes[next(iter(self._writes))]
        self._on_held(user_of(person))


def address_of(user_id: str) -> str:
    return f"{user_id}@{DOMAIN}"


def user_of(person: Person) -> str:
    """The visitor's id, whether the platform calls them by it or by their address."""
    return person.identity.removesuffix(f"@{DOMAIN}")


def items_in(fields: Mapping[str, Any]) -> tuple[Item, ...]:
    """The recommendations, best first, wherever a platform keeps them: slots (rec_1_id, REC1_ID), an array, or an array as a text."""
    for value in fields.values():
        found = _array_in(value)
        if found is not None and any(isinstance(one, dict) and "product_id" in one for one in found):
            return tuple(Item(str(one["product_id"]), str(one.get("reason") or "")) for one in found if isinstance(one, dict))
    slots = {int(match[1]): str(value) for name, value in fields.items() if value and (match := _SLOT.fullmatch(name))}
    return tuple(Item(product_id) for _, product_id in sorted(slots.items()))


def _array_in(value: Any) -> list[Any] | None:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = orjson.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def _version_in(fields: Mapping[str, Any]) -> int:
    value = next((value for name, value in fields.items() if name.lower().endswith("_version")), 0)
    return int(value) if str(value).isdecimal() else 0


def _time_in(fields: Mapping[str, Any]) -> str:
    """When the list was ranked, to the second."""
    value = next((value for name, value in fields.items() if name.lower().endswith("s_at")), "")
    return str(value.get("$time", "") if isinstance(value, dict) else value)
